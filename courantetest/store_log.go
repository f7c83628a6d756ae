package courantetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/courante-dev/courante"
)

var logCases = []storeCase{{
	"a log without events has no tick",
	"a tick that says nothing is stored for ever; an idle database must not grow",
	func(t *storeTest) {
		t.open("inventory")
		for range 3 {
			if moved := t.tick(); len(moved) != 0 {
				t.Errorf("logs without events moved: %v", moved)
			}
		}
		if head := t.head(); head != (courante.Cursor{}) {
			t.Errorf("the head of an empty log is %v, want the start", head)
		}
		if events, cursor := t.readLog(courante.Cursor{}, 10); len(events) != 0 || cursor != (courante.Cursor{}) {
			t.Errorf("an empty log has %v and goes on at %v", ids(events), cursor)
		}
		// States, progress and the like are no events.
		t.mustCommit(courante.Changes{States: []courante.State{{Key: stored, Data: []byte(`1`)}}, Progress: []courante.Progress{{Lane: testLane, N: 1}}})
		if moved := t.tick(); len(moved) != 0 {
			t.Errorf("a commit without events moved %v", moved)
		}
	},
}, {
	"an event is read once a tick has decided its place",
	"the order is decided before anyone reads; without a tick there is nothing new, and each tick tells which logs it moved",
	func(t *storeTest) {
		inventory := t.open("inventory")
		t.open("payment")
		t.mustAppend("order:1", 0, notes(2)...)
		if events, _ := t.readLog(courante.Cursor{}, 10); len(events) != 0 {
			t.Fatalf("%v were read before a tick", ids(events))
		}
		if moved := t.tick(); !slices.Equal(moved, []string{"ordering"}) {
			t.Errorf("moved %v, want ordering", moved)
		}
		if moved := t.tick(); len(moved) != 0 {
			t.Errorf("moved %v without a new event", moved)
		}
		events, cursor := t.readOn(courante.Cursor{}, 10)
		if got := versions(events); !slices.Equal(got, upTo(2)) {
			t.Errorf("versions %v, want 1 and 2", got)
		}

		t.mustAppend("order:1", 2, notes(1)...)
		if _, err := inventory.Append(t.Context(), "stock:1", 0, note("x")); err != nil {
			t.Fatal(err)
		}
		if moved := slices.Sorted(slices.Values(t.tick())); !slices.Equal(moved, []string{"inventory", "ordering"}) {
			t.Errorf("moved %v, want inventory and ordering", moved)
		}
		events, _ = t.readOn(cursor, 10)
		if got := versions(events); !slices.Equal(got, []int64{3}) {
			t.Errorf("after %v: versions %v, want 3", cursor, got)
		}
		if head, err := inventory.Head(t.Context()); err != nil || head.Tick != 1 {
			t.Errorf("inventory is at %v (error %v), want its first tick", head, err)
		}
	},
}, {
	"an open unit delays its own events and no others",
	"a unit that began early and commits late has low numbers: its events come in a later tick, and readers that passed those numbers still get them",
	func(t *storeTest) {
		t.mustCommit(everything(0))
		late := t.begin(t.open("ordering"))
		t.load(late, stored) // the lock gives it a transaction id that is older than what follows
		t.mustAppend("order:9", 0, notes(2)...)
		t.tick()
		before, cursor := t.readOn(courante.Cursor{}, 100)
		if len(before) != 4 {
			t.Fatalf("while a unit is open the log has %v, want the four committed events", ids(before))
		}
		t.mustAppend("order:9", 2, notes(1)...)
		t.tick()
		during, cursor := t.readOn(cursor, 100)
		if _, err := late.Commit(t.Context(), courante.Changes{Events: []courante.Event{noteAt("stock:1", 2)}}); err != nil {
			t.Fatal(err)
		}
		t.tick()
		after, _ := t.readOn(cursor, 100)
		if got, want := ids(after), []string{"ordering/stock:1@2"}; !slices.Equal(got, want) {
			t.Errorf("after the late commit: %v, want %v", got, want)
		}
		t.wantSameOrder(slices.Concat(before, during, after))
	},
}, {
	"the order is the same at every read",
	"whoever reads when and in what portions: projections rebuilt a year later have to come out the same",
	func(t *storeTest) {
		var seen []courante.Event
		var cursor courante.Cursor
		read := func() {
			t.tick()
			var events []courante.Event
			events, cursor = t.readOn(cursor, 3)
			seen = append(seen, events...)
		}
		// Units that overlap in all ways: each holds a row, and with it a
		// transaction id, from early on.
		const units = 6
		open := make([]courante.Unit, units)
		key := func(i int) courante.Key { return courante.Key{Category: "stock", ID: fmt.Sprint(i)} }
		for i := range open {
			t.mustCommit(courante.Changes{States: []courante.State{{Key: key(i), Data: []byte(`1`)}}})
		}
		for round := range int64(4) {
			for i := range open {
				open[i] = t.begin(t.Store)
				t.load(open[i], key(i))
				t.mustAppend("order:1", round*units+int64(i), notes(1)...)
				if i%2 == 1 {
					read()
				}
			}
			for j := range open {
				i := (j*5 + int(round)) % units // 5 and 6 have no common factor: each once
				if _, err := open[i].Commit(t.Context(), courante.Changes{Events: []courante.Event{noteAt(key(i).Stream(), round+1)}}); err != nil {
					t.Fatal(err)
				}
				if j%3 == 2 {
					read()
				}
			}
		}
		read()
		if want := 4 * units * 2; len(seen) != want {
			t.Errorf("read %d events while they were written, want %d", len(seen), want)
		}
		t.wantStreamOrder(seen)
		t.wantSameOrder(seen)
	},
}, {
	"a read goes on inside a tick",
	"a tick may hold more than a caller can take; the cursor of every event in it is a place to go on from",
	func(t *storeTest) {
		for i := range 5 {
			t.mustAppend(fmt.Sprintf("order:%d", i), 0, notes(2)...)
		}
		t.tick()
		t.mustAppend("order:0", 2, notes(3)...)
		t.tick()
		all, end := t.readOn(courante.Cursor{}, 100)
		if len(all) != 13 {
			t.Fatalf("the log has %d events, want 13", len(all))
		}
		if _, cursor := t.readLog(courante.Cursor{}, 4); cursor.Tick != 1 || cursor.Position != all[3].Position {
			t.Errorf("after 4 of 10 events of tick 1 the cursor is %v, want it at position %d", cursor, all[3].Position)
		}
		_, first := t.readLog(courante.Cursor{}, 10)
		for i, e := range all {
			cursor := courante.Cursor{Epoch: e.Epoch, Tick: e.Tick, Position: e.Position, Hash: first.Hash}
			if e.Tick == end.Tick {
				cursor.Hash = end.Hash
			}
			rest, _ := t.readOn(cursor, 100)
			if got, want := ids(rest), ids(all[i+1:]); !slices.Equal(got, want) {
				t.Errorf("behind event %d: %v, want %v", i+1, got, want)
			}
			// Nothing means the end: at the last event of a tick there is more.
			if next, _ := t.readLog(cursor, 1); len(next) == 0 && i+1 < len(all) {
				t.Errorf("behind event %d of %d nothing is read", i+1, len(all))
			}
		}
	},
}, {
	"the head is where the log ends",
	"a new subscriber that starts at the head gets what comes after and nothing before",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(3)...)
		t.tick()
		t.mustAppend("order:1", 3, notes(1)...)
		head := t.head()
		if events, cursor := t.readLog(head, 10); len(events) != 0 || cursor != head {
			t.Errorf("behind the head: %v and cursor %v, want nothing and %v", ids(events), cursor, head)
		}
		if _, end := t.readOn(courante.Cursor{}, 2); end != head {
			t.Errorf("reading to the end gives cursor %+v, the head is %+v", end, head)
		}
		t.tick()
		if events, _ := t.readOn(head, 10); !slices.Equal(versions(events), []int64{4}) {
			t.Errorf("behind the old head: %v, want version 4", ids(events))
		}
	},
}, {
	"a token is located at the first tick that sees it",
	"read-your-writes waits until a reader is past that tick; an earlier one would break the promise, and a token of another epoch can promise nothing",
	locateTokens,
}, {
	"a cursor that does not fit the log is told so",
	"after a restore tick n may be another one: going on from it would skip events silently, so the subscriber must stop",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(3)...)
		t.tick()
		t.mustAppend("order:1", 3, notes(3)...)
		t.tick()
		head := t.head()
		_, inside := t.readLog(courante.Cursor{}, 2)
		for name, broken := range map[string]courante.Cursor{
			"other hash":             {Epoch: head.Epoch, Tick: head.Tick, Position: head.Position, Hash: head.Hash + 1},
			"other hash in the past": {Epoch: inside.Epoch, Tick: inside.Tick, Position: inside.Position, Hash: inside.Hash ^ 1},
			"hash of another tick":   {Epoch: head.Epoch, Tick: 1, Position: courante.MaxPosition, Hash: head.Hash},
			"other epoch":            {Epoch: head.Epoch + 1, Tick: head.Tick, Position: head.Position, Hash: head.Hash},
			"tick past the end":      {Epoch: head.Epoch, Tick: head.Tick + 1, Position: head.Position, Hash: head.Hash},
			"tick far past the end":  {Epoch: head.Epoch, Tick: head.Tick + 1000, Position: 1, Hash: head.Hash},
		} {
			events, _, err := t.ReadLog(t.Context(), broken, 10)
			var logBroken *courante.LogBrokenError
			if !errors.As(err, &logBroken) {
				t.Errorf("%s: %d events and error %v, want a *LogBrokenError", name, len(events), err)
				continue
			}
			if logBroken.Log != "ordering" || logBroken.Cursor != broken || logBroken.Reason == "" {
				t.Errorf("%s: the error is %+v, want it to name log, cursor and reason", name, logBroken)
			}
		}
		t.readOn(inside, 1) // and a cursor that fits still does
	},
}, {
	"commits with events wake the ticker",
	"an event waits for the next tick: without the signal it would wait for the poll",
	func(t *storeTest) {
		signalled := func() bool {
			select {
			case <-t.db.Committed():
				return true
			default:
				return false
			}
		}
		signalled() // whatever opening the database left behind
		t.mustAppend("order:1", 0, notes(1)...)
		if !signalled() {
			t.Error("Append has returned and Committed is not signalled")
		}
		t.mustCommit(courante.Changes{Events: []courante.Event{noteAt("order:1", 2)}})
		t.mustCommit(courante.Changes{Events: []courante.Event{noteAt("order:1", 3)}}) // nobody has taken the first signal: it must not block
		if !signalled() {
			t.Error("Commit has returned and Committed is not signalled")
		}
	},
}}

func locateTokens(t *storeTest) {
	at := func(token courante.Token) int64 {
		t.Helper()
		cursor, err := t.Locate(t.Context(), token)
		if errors.Is(err, courante.ErrNotFound) {
			return 0
		}
		if err != nil {
			t.Fatalf("Locate(%+v): %v", token, err)
		}
		return cursor.Tick
	}
	t.mustCommit(courante.Changes{States: []courante.State{{Key: stored, Data: []byte(`1`)}}})
	late := t.begin(t.open("ordering"))
	t.load(late, stored)
	first := t.mustAppend("order:1", 0, notes(1)...).Token
	if got := at(first); got != 0 {
		t.Errorf("before any tick the token is at tick %d", got)
	}
	t.tick()
	second := t.mustAppend("order:1", 1, notes(1)...).Token
	t.tick()
	receipt, err := late.Commit(t.Context(), courante.Changes{Events: []courante.Event{noteAt("stock:1", 1)}})
	if err != nil {
		t.Fatal(err)
	}
	if got := at(receipt.Token); got != 0 {
		t.Errorf("the late unit's token is at tick %d, and no tick sees it yet", got)
	}
	t.tick()
	for i, token := range []courante.Token{first, second, receipt.Token} {
		if got := at(token); got != int64(i+1) {
			t.Errorf("token %d is at tick %d, want %d", i+1, got, i+1)
		}
	}
	if cursor, _ := t.Locate(t.Context(), receipt.Token); cursor != t.head() {
		t.Errorf("the last token is located at %+v, want the head %+v", cursor, t.head())
	}
	first.Epoch++
	_, err = t.Locate(t.Context(), first)
	var other *courante.TokenEpochError
	if !errors.As(err, &other) || other.Token != first || other.Now != second.Epoch {
		t.Errorf("a token of another epoch: error %v, want a *TokenEpochError", err)
	}
}

// wantSameOrder reads the log again from its start, in portions of several
// sizes, and compares with what was read of it before.
func (t *storeTest) wantSameOrder(seen []courante.Event) {
	t.Helper()
	for _, portion := range []int{1, 2, 7, 1000} {
		again, _ := t.readOn(courante.Cursor{}, portion)
		if got, want := places(again), places(seen); !slices.Equal(got, want) {
			t.Errorf("read again in portions of %d:\n%v, want\n%v", portion, got, want)
		}
	}
	for i, e := range seen {
		if i > 0 && (e.Tick < seen[i-1].Tick || e.Tick == seen[i-1].Tick && e.Position <= seen[i-1].Position) {
			t.Errorf("%s at tick %d, position %d follows tick %d, position %d", e.ID(), e.Tick, e.Position, seen[i-1].Tick, seen[i-1].Position)
		}
	}
}

func places(events []courante.Event) []string {
	var list []string
	for _, e := range events {
		list = append(list, fmt.Sprintf("%d/%d %s", e.Tick, e.Position, e.ID()))
	}
	return list
}
