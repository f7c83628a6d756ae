package courantetest

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/courante-dev/courante"
)

var (
	sourced = courante.Key{Category: "order", ID: "1", Sourced: true}
	stored  = courante.Key{Category: "stock", ID: "1"}
)

var unitCases = []storeCase{{
	"a unit writes everything",
	"events, states, progress, parked messages and replies of one decision become visible together",
	func(t *storeTest) {
		t.mustCommit(everything(0))
		t.wantEverything(1)
		t.mustCommit(everything(1))
		t.wantEverything(2)
	},
}, {
	"a unit in conflict writes nothing",
	"a unit is one transaction: where one stream conflicts nothing else of it may remain, or the retry would do it twice",
	func(t *storeTest) {
		t.mustCommit(everything(0))
		c := everything(1)
		c.Events = append(c.Events, noteAt("order:elsewhere", 9))
		_, err := t.commit(c)
		t.wantConflict(err, "order:elsewhere")
		t.wantEverything(1)
		t.mustCommit(everything(1)) // it left nothing behind that is in the way
		t.wantEverything(2)
	},
}, {
	"a fenced unit writes nothing",
	"the lane's number is what makes a change happen once: a second owner's commit fails as a whole",
	func(t *storeTest) {
		t.mustCommit(everything(0))
		c := everything(1)
		c.Progress[0].N = 1
		_, err := t.commit(c)
		t.wantError(err, courante.ErrFenced)
		t.wantEverything(1)
	},
}, {
	"a unit rolled back writes nothing",
	"rollback leaves no trace, may be called twice and after the commit, and every later call of the unit fails",
	func(t *storeTest) {
		u := t.begin(t.Store)
		t.load(u, sourced, stored)
		u.Rollback(t.Context())
		u.Rollback(t.Context())
		t.wantEnded(u)
		t.wantEverything(0)

		u = t.begin(t.Store)
		if _, err := u.Commit(t.Context(), everything(0)); err != nil {
			t.Fatal(err)
		}
		u.Rollback(t.Context())
		t.wantEnded(u)
		t.wantEverything(1)
	},
}, {
	"a failed commit ends the unit",
	"a unit that failed holds no lock and cannot be committed again, so that nobody repeats a decision on states that are stale",
	func(t *storeTest) {
		t.mustCommit(everything(0))
		u := t.begin(t.Store)
		t.load(u, stored)
		_, err := u.Commit(t.Context(), courante.Changes{Events: []courante.Event{noteAt("order:1", 9)}})
		t.wantConflict(err, "order:1")
		t.wantEnded(u)
		t.mustCommit(everything(1)) // writes the row that the failed unit had locked
	},
}, {
	"a rehearsal leaves nothing behind",
	"whoever tries a decision out wants to know whether it could be written, and has decided nothing",
	func(t *storeTest) {
		u := t.begin(t.Store)
		t.load(u, stored)
		if err := u.Rehearse(t.Context(), everything(0)); err != nil {
			t.Fatal(err)
		}
		t.wantEnded(u)
		t.wantEverything(0)
		t.mustCommit(everything(0)) // as if it had not been

		u = t.begin(t.Store)
		err := u.Rehearse(t.Context(), courante.Changes{Events: []courante.Event{noteAt("order:1", 9)}})
		t.wantConflict(err, "order:1")
		t.wantEnded(u)
		t.wantError(t.begin(t.Store).Rehearse(t.Context(), courante.Changes{Progress: []courante.Progress{{Lane: testLane, N: 7}}}), courante.ErrFenced)
		t.wantEverything(1)
	},
}, {
	"a conflict names every stream",
	"the items of a batch that touch a stream in conflict are decided again, and no others; one stream that is not named costs a whole round",
	func(t *storeTest) {
		t.mustCommit(everything(0))
		_, err := t.commit(courante.Changes{
			Events: []courante.Event{noteAt("order:1", 1), noteAt("order:2", 1), noteAt("order:3", 5), noteAt("order:3", 6)},
			States: []courante.State{{Key: stored, Row: 0, Data: json.RawMessage(`1`)}, {Key: courante.Key{Category: "stock", ID: "2"}, Data: json.RawMessage(`1`)}},
		})
		t.wantConflict(err, "order:1", "order:3", "stock:1")
		t.wantStream("order:2", 0)
	},
}, {
	"two units on one sourced stream: one conflicts",
	"event-sourced states are not locked but checked: of two decisions on the same version one is made again",
	func(t *storeTest) {
		a, b := t.begin(t.Store), t.begin(t.open("ordering"))
		t.load(a, sourced)
		t.load(b, sourced)
		if _, err := a.Commit(t.Context(), courante.Changes{Events: []courante.Event{noteAt("order:1", 1)}}); err != nil {
			t.Fatal(err)
		}
		_, err := b.Commit(t.Context(), courante.Changes{Events: []courante.Event{noteAt("order:1", 1), noteAt("order:1", 2)}})
		t.wantConflict(err, "order:1")
		t.wantStream("order:1", 1)
	},
}, {
	"a unit leaves no gap in a stream",
	"versions are dense, whoever writes them; events of a unit that skip one are a mistake of the caller and refused",
	func(t *storeTest) {
		_, err := t.commit(courante.Changes{Events: []courante.Event{noteAt("order:1", 2)}})
		t.wantConflict(err, "order:1")
		_, err = t.commit(courante.Changes{Events: []courante.Event{noteAt("order:1", 1), noteAt("order:1", 3)}})
		if err == nil {
			t.Error("a unit wrote versions 1 and 3")
		}
		t.wantStream("order:1", 0)
	},
}, {
	"a unit's events of one stream are in order",
	"the log shows a stream's events in the order of their versions, also when one unit writes several streams in turn",
	func(t *storeTest) {
		var events []courante.Event
		for v := int64(1); v <= 5; v++ {
			for _, stream := range []string{"order:b", "order:c", "order:a"} {
				events = append(events, noteAt(stream, v))
			}
		}
		t.mustCommit(courante.Changes{Events: events})
		t.tick()
		read, _ := t.readOn(courante.Cursor{}, 100)
		if len(read) != len(events) {
			t.Fatalf("the log has %d events, want %d", len(read), len(events))
		}
		t.wantStreamOrder(read)
	},
}, {
	"a large unit is one commit",
	"a batch of some hundred items over as many streams is written whole",
	func(t *storeTest) {
		var c courante.Changes
		for i := range 500 {
			k := courante.Key{Category: "stock", ID: string(rune('a'+i%26)) + time.Duration(i).String()}
			c.Events = append(c.Events, noteAt(k.Stream(), 1), noteAt(k.Stream(), 2))
			c.States = append(c.States, courante.State{Key: k, Version: 2, Data: json.RawMessage(`{}`)})
		}
		t.mustCommit(c)
		t.tick()
		read, _ := t.readOn(courante.Cursor{}, 300)
		if len(read) != len(c.Events) {
			t.Errorf("the log has %d events, want %d", len(read), len(c.Events))
		}
		t.wantStreamOrder(read)
	},
}}

// everything is a change of each kind; n is how often it was made before.
func everything(n int64) courante.Changes {
	snapshot := courante.State{Key: sourced, Row: n + 1, Data: json.RawMessage(`{}`)}
	c := courante.Changes{
		Events:    []courante.Event{noteAt("order:1", n+1), noteAt("stock:1", n+1)},
		States:    []courante.State{{Key: stored, Version: n + 1, Row: n, Data: json.RawMessage(`{}`)}},
		Snapshots: []courante.State{snapshot},
		Progress:  []courante.Progress{{Lane: testLane, N: n + 1}},
		Park:      []courante.Parked{{Subscriber: "test", Key: "1", Event: noteAt("order:1", n+1)}},
		Replies:   []courante.Reply{{Key: replyKey(n + 1), Body: json.RawMessage(`{}`)}},
	}
	return c
}

func replyKey(n int64) string { return "request-" + string(rune('0'+n)) }

// wantEverything checks that everything was made n times.
func (t *storeTest) wantEverything(n int64) {
	t.Helper()
	t.wantStream("order:1", n)
	t.wantStream("stock:1", n)
	states := t.read(sourced, stored)
	if got := states[0]; got.Version != n || got.Row != n {
		t.Errorf("sourced state is at version %d with a baseline at %d, want %d and %d", got.Version, got.Row, n, n)
	}
	if got := states[1]; got.Version != n || got.Row != n {
		t.Errorf("stored state is at version %d, row %d, want %d and %d", got.Version, got.Row, n, n)
	}
	if p, err := t.Progress(t.Context(), testLane); p.N != n || err != nil && !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("progress is at %d (error %v), want %d", p.N, err, n)
	}
	if list, err := t.Parked(t.Context(), "test", courante.ParkedQuery{}); int64(len(list)) != n || err != nil {
		t.Errorf("%d messages are parked (error %v), want %d", len(list), err, n)
	}
	if _, err := t.Reply(t.Context(), replyKey(n+1)); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("reply %d is there (error %v), and must not", n+1, err)
	}
	if n > 0 {
		if _, err := t.Reply(t.Context(), replyKey(n)); err != nil {
			t.Errorf("reply %d: %v", n, err)
		}
	}
}

func (t *storeTest) wantEnded(u courante.Unit) {
	t.Helper()
	if _, err := u.Load(t.Context(), []courante.Key{sourced}, nil); err == nil {
		t.Error("Load of an ended unit succeeds")
	}
	if _, err := u.Commit(t.Context(), courante.Changes{Events: []courante.Event{noteAt("order:ended", 1)}}); err == nil {
		t.Error("Commit of an ended unit succeeds")
	}
	t.wantStream("order:ended", 0)
}

// wantStreamOrder checks that the events of each stream have the versions 1,
// 2, 3 ... in this order.
func (t *storeTest) wantStreamOrder(events []courante.Event) {
	t.Helper()
	last := make(map[string]int64)
	for _, e := range events {
		if e.Version != last[e.Stream]+1 {
			t.Fatalf("%s is read after version %d of its stream", e.ID(), last[e.Stream])
		}
		last[e.Stream] = e.Version
	}
}

// brief is a context for a call that has to wait for ever: long enough for any
// call that does not, to be noticed by its success.
func (t *storeTest) brief() context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}
