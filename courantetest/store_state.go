package courantetest

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/courante-dev/courante"
)

var stateCases = []storeCase{{
	"a stored state comes back as it was stored",
	"data to the byte, the versions of row and stream, and what the stream waits for",
	func(t *storeTest) {
		want := courante.State{
			Key: stored, Version: 3, Data: json.RawMessage(`{"n": 1.50, "é":"\u00e9"}`),
			Open: courante.Open{
				Deadlines: []courante.Deadline{{Name: "restock", Due: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}},
				Effects:   []courante.Request{{ID: "mail-1", Effect: "mail", Data: json.RawMessage(`{"to":"x"}`)}},
			},
		}
		t.mustCommit(courante.Changes{Events: []courante.Event{noteAt("stock:1", 1), noteAt("stock:1", 2), noteAt("stock:1", 3)}, States: []courante.State{want}})
		want.Row = 1
		t.wantState("Load", t.loadOnce(stored)[0], want)
		t.wantState("Read", t.read(stored)[0], want)
	},
}, {
	"states come in the order of the keys",
	"handlers pair keys and states by index: unknown ones are there with row and version 0, and a key asked for twice is answered twice",
	func(t *storeTest) {
		t.mustCommit(everything(0))
		none := courante.Key{Category: "stock", ID: "none"}
		never := courante.Key{Category: "order", ID: "never", Sourced: true}
		keys := []courante.Key{stored, none, sourced, never, stored}
		for from, states := range map[string][]courante.State{"Load": t.loadOnce(keys...), "Read": t.read(keys...)} {
			for i, want := range []courante.State{{Row: 1, Version: 1}, {}, {Row: 1, Version: 1}, {}, {Row: 1, Version: 1}} {
				if got := states[i]; got.Key != keys[i] || got.Row != want.Row || got.Version != want.Version {
					t.Errorf("%s: state %d is %v at row %d, version %d, want %v at %d, %d", from, i, got.Key, got.Row, got.Version, keys[i], want.Row, want.Version)
				}
			}
		}
		u := t.begin(t.Store)
		if got := t.load(u); len(got) != 0 {
			t.Errorf("no keys have %d states", len(got))
		}
		t.load(u, stored)
		t.load(u, none, stored) // further keys, and one again
	},
}, {
	"of what is known only the rest comes",
	"a caller that has an event of a stream gets what comes after it; one that has an event which the stream does not have gets everything",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(4)...)
		t.mustCommit(courante.Changes{Snapshots: []courante.State{{Key: sourced, Version: 2, Row: 2, Data: json.RawMessage(`"two"`)}}})
		var epoch int32
		xids := map[int64]uint64{}
		for e, err := range t.Store.ReadStream(t.Context(), "order:1", 0) {
			if err != nil {
				t.Fatal(err)
			}
			epoch, xids[e.Version] = e.Epoch, e.Xid
		}
		for _, c := range []struct {
			known courante.Known
			after bool
			first int64 // version of the first event that comes
		}{
			{courante.Known{Version: 1, Epoch: epoch, Xid: xids[1]}, true, 2},
			{courante.Known{Version: 3, Epoch: epoch, Xid: xids[3]}, true, 4},
			{courante.Known{Version: 4, Epoch: epoch, Xid: xids[4]}, true, 5},
			{courante.Known{Version: 4, Epoch: epoch, Xid: xids[4] + 1}, false, 3},
			{courante.Known{Version: 4, Epoch: epoch + 1, Xid: xids[4]}, false, 3},
			{courante.Known{Version: 5, Epoch: epoch, Xid: xids[4]}, false, 3},
			{courante.Known{}, false, 3},
		} {
			u := t.begin(t.Store)
			never := courante.Key{Category: "order", ID: "never", Sourced: true}
			states, err := u.Load(t.Context(), []courante.Key{never, sourced, stored}, map[courante.Key]courante.Known{sourced: c.known, never: {Version: 1, Epoch: epoch, Xid: xids[1]}})
			if err != nil {
				t.Fatal(err)
			}
			got := states[1]
			if got.After != c.after || got.Version != 4 || got.After == (got.Data != nil) {
				t.Errorf("known %+v: after %v, version %d, data %s; want after %v, version 4, and data only without it", c.known, got.After, got.Version, got.Data, c.after)
			}
			for i, e := range got.Events {
				if e.Version != c.first+int64(i) || e.Type == "" || len(e.Data) == 0 {
					t.Errorf("known %+v: event %d is %s with data %s, want version %d", c.known, i, e.ID(), e.Data, c.first+int64(i))
				}
			}
			if want := 4 - c.first + 1; int64(len(got.Events)) != want {
				t.Errorf("known %+v: %d events came, want %d", c.known, len(got.Events), want)
			}
			if got := states[0]; got.After || got.Version != 0 {
				t.Errorf("of a stream that is not there came %+v", got)
			}
			u.Rollback(t.Context())
		}
		// Who commits an event knows it by the token, without having read it.
		token := t.mustCommit(courante.Changes{Events: []courante.Event{noteAt("order:1", 5)}}).Token
		states, err := t.begin(t.Store).Load(t.Context(), []courante.Key{sourced}, map[courante.Key]courante.Known{sourced: {Version: 5, Epoch: token.Epoch, Xid: token.Xid}})
		if err != nil {
			t.Fatal(err)
		}
		if got := states[0]; !got.After || got.Version != 5 || len(got.Events) != 0 {
			t.Errorf("of what was committed came after %v, version %d and %d events, want only that it is known", got.After, got.Version, len(got.Events))
		}
	},
}, {
	"a sourced state is its baseline and the events after it",
	"a snapshot saves reading and never replaces an event; the newest one counts, and events before it are not read again",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(6)...)
		t.wantSourced(0, "", 1, 2, 3, 4, 5, 6)
		due := courante.Deadline{Name: "pay", Due: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
		t.mustCommit(courante.Changes{Snapshots: []courante.State{{Key: sourced, Version: 2, Row: 2, Data: json.RawMessage(`"two"`)}}})
		t.mustCommit(courante.Changes{Snapshots: []courante.State{{
			Key: sourced, Version: 4, Row: 4, Data: json.RawMessage(`"four"`), Open: courante.Open{Deadlines: []courante.Deadline{due}},
		}}})
		// A slow process may store an older one, or the same one again.
		t.mustCommit(courante.Changes{Snapshots: []courante.State{{Key: sourced, Version: 3, Row: 3, Data: json.RawMessage(`"three"`)}}})
		t.wantSourced(4, `"four"`, 5, 6)
		t.mustCommit(courante.Changes{Snapshots: []courante.State{{
			Key: sourced, Version: 4, Row: 4, Data: json.RawMessage(`"four"`), Open: courante.Open{Deadlines: []courante.Deadline{due}},
		}}})
		t.wantSourced(4, `"four"`, 5, 6)
		if got := t.read(sourced)[0].Open; len(got.Deadlines) != 1 || got.Deadlines[0].Name != "pay" || !got.Deadlines[0].Due.Equal(due.Due) {
			t.Errorf("open as of the baseline is %+v, want the deadline %+v", got, due)
		}
		t.mustCommit(courante.Changes{
			Events:    []courante.Event{noteAt("order:1", 7)},
			Snapshots: []courante.State{{Key: sourced, Version: 7, Row: 7, Data: json.RawMessage(`"seven"`)}},
		})
		t.wantSourced(7, `"seven"`)
	},
}, {
	"a row of another version conflicts",
	"a stored row is written only by who has seen its last version, whether it locked the row or not",
	func(t *storeTest) {
		for row := range int64(3) {
			t.mustCommit(courante.Changes{States: []courante.State{{Key: stored, Row: row, Data: json.RawMessage(`1`)}}})
		}
		for _, row := range []int64{0, 1, 2, 4} {
			_, err := t.commit(courante.Changes{States: []courante.State{{Key: stored, Row: row, Data: json.RawMessage(`2`)}}})
			t.wantConflict(err, "stock:1")
		}
		_, err := t.commit(courante.Changes{States: []courante.State{{Key: courante.Key{Category: "stock", ID: "none"}, Row: 1, Data: json.RawMessage(`2`)}}})
		t.wantConflict(err, "stock:none")
		if got := t.read(stored)[0]; got.Row != 3 || string(got.Data) != "1" {
			t.Errorf("row %d is %s, want row 3 with 1", got.Row, got.Data)
		}
	},
}, {
	"a new row is made once",
	"a row that is not there cannot be locked: of two units that both find none the second conflicts",
	func(t *storeTest) {
		a, b := t.begin(t.Store), t.begin(t.open("ordering"))
		t.load(a, stored)
		t.load(b, stored)
		first := courante.Changes{States: []courante.State{{Key: stored, Data: json.RawMessage(`"a"`)}}}
		if _, err := a.Commit(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		_, err := b.Commit(t.Context(), courante.Changes{States: []courante.State{{Key: stored, Data: json.RawMessage(`"b"`)}}})
		t.wantConflict(err, "stock:1")
		if got := t.read(stored)[0]; string(got.Data) != `"a"` || got.Row != 1 {
			t.Errorf("row %d is %s, want the first one", got.Row, got.Data)
		}
	},
}, {
	"a loaded row is locked until the unit ends",
	"a hot row is decided on by one unit at a time: the second waits and then sees what the first wrote, instead of being decided twice",
	func(t *storeTest) {
		t.mustCommit(everything(0))
		first := t.begin(t.Store)
		t.load(first, stored)

		impatient := t.begin(t.open("ordering"))
		if _, err := impatient.Load(t.brief(), []courante.Key{stored}, nil); err == nil {
			t.Fatal("a second unit loaded the row while the first held it")
		}
		impatient.Rollback(t.Context())

		// This one waits, or comes after the commit; both times it has to see row 2.
		second := t.begin(t.open("ordering"))
		loaded := make(chan courante.State, 1)
		go func() {
			states, err := second.Load(t.Context(), []courante.Key{stored}, nil)
			if err != nil {
				t.Errorf("the waiting unit: %v", err)
				states = make([]courante.State, 1)
			}
			loaded <- states[0]
		}()
		if _, err := first.Commit(t.Context(), courante.Changes{States: []courante.State{{Key: stored, Row: 1, Data: json.RawMessage(`2`)}}}); err != nil {
			t.Fatal(err)
		}
		if got := <-loaded; got.Row != 2 || string(got.Data) != "2" {
			t.Errorf("the second unit saw row %d with %s, want row 2 with 2", got.Row, got.Data)
		}
	},
}, {
	"rollback frees the locks",
	"a handler that fails must not keep others from the row",
	func(t *storeTest) {
		t.mustCommit(everything(0))
		u := t.begin(t.Store)
		t.load(u, stored)
		u.Rollback(t.Context())
		t.load(t.begin(t.open("ordering")), stored)
	},
}, {
	"a lock holds up nobody else",
	"Read, ReadStream, other rows and appends to other streams go on while a row is locked, and see what is committed",
	func(t *storeTest) {
		t.mustCommit(everything(0))
		u := t.begin(t.Store)
		t.load(u, stored)
		if got := t.read(stored)[0]; got.Row != 1 {
			t.Errorf("Read sees row %d of a locked state, want 1", got.Row)
		}
		t.wantStream("stock:1", 1)
		t.mustAppend("order:2", 0, notes(1)...)
		t.mustCommit(courante.Changes{States: []courante.State{{Key: courante.Key{Category: "stock", ID: "2"}, Data: json.RawMessage(`1`)}}})
		if _, err := u.Commit(t.Context(), courante.Changes{States: []courante.State{{Key: stored, Row: 1, Data: json.RawMessage(`2`)}}}); err != nil {
			t.Fatal(err)
		}
		if got := t.read(stored)[0]; got.Row != 2 {
			t.Errorf("Read sees row %d after the commit, want 2", got.Row)
		}
	},
}, {
	"a deadlock ends with one victim",
	"two units that lock further rows crosswise would wait for ever; one of them fails with ErrTransient and the other goes on",
	func(t *storeTest) {
		keys := []courante.Key{{Category: "stock", ID: "a"}, {Category: "stock", ID: "b"}}
		for _, k := range keys {
			t.mustCommit(courante.Changes{States: []courante.State{{Key: k, Data: json.RawMessage(`1`)}}})
		}
		units := []courante.Unit{t.begin(t.Store), t.begin(t.open("ordering"))}
		t.load(units[0], keys[0])
		t.load(units[1], keys[1])
		results := make(chan error, 2)
		for i, u := range units {
			go func() {
				_, err := u.Load(t.Context(), []courante.Key{keys[1-i]}, nil)
				if err != nil {
					u.Rollback(t.Context())
				}
				results <- err
			}()
		}
		errs := slices.DeleteFunc([]error{<-results, <-results}, func(err error) bool { return err == nil })
		if len(errs) != 1 || !errors.Is(errs[0], courante.ErrTransient) {
			t.Errorf("errors %v, want one, and that one transient", errs)
		}
	},
}}

func (t *storeTest) wantState(from string, got, want courante.State) {
	t.Helper()
	if got.Key != want.Key || got.Version != want.Version || got.Row != want.Row || string(got.Data) != string(want.Data) {
		t.Errorf("%s: state %v, version %d, row %d, data %s; want %v, %d, %d, %s",
			from, got.Key, got.Version, got.Row, got.Data, want.Key, want.Version, want.Row, want.Data)
	}
	if got, want := asJSON(got.Open), asJSON(want.Open); got != want {
		t.Errorf("%s: open %s, want %s", from, got, want)
	}
}

// wantSourced checks the state of the sourced key.
func (t *storeTest) wantSourced(baseline int64, data string, events ...int64) {
	t.Helper()
	for from, s := range map[string]courante.State{"Load": t.loadOnce(sourced)[0], "Read": t.read(sourced)[0]} {
		if s.Row != baseline || string(s.Data) != data || s.Version != baseline+int64(len(events)) || !slices.Equal(versions(s.Events), events) {
			t.Errorf("%s: version %d, baseline %d with %s and events %v; want %d, %d, %s, %v", from,
				s.Version, s.Row, s.Data, versions(s.Events), baseline+int64(len(events)), baseline, data, events)
		}
	}
}
