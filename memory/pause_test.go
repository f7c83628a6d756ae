package memory_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

func event(stream string, version int64) courante.Event {
	return courante.Event{Stream: stream, Version: version, Type: "test.happened", Schema: 1, Data: json.RawMessage(`{}`)}
}

func events(list ...courante.Event) courante.Changes { return courante.Changes{Events: list} }

func row(k courante.Key, row int64) courante.Changes {
	return courante.Changes{States: []courante.State{{Key: k, Row: row, Data: json.RawMessage(`{}`)}}}
}

func commit(ctx context.Context, s courante.Store, c courante.Changes) error {
	u, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = u.Commit(ctx, c)
	return err
}

func mustCommit(t *testing.T, s courante.Store, c courante.Changes) {
	t.Helper()
	if err := commit(t.Context(), s, c); err != nil {
		t.Fatal(err)
	}
}

// readAll ticks and returns the ids of the events behind the cursor.
func readAll(t *testing.T, db *memory.Database, s courante.Store, after courante.Cursor) ([]string, courante.Cursor) {
	t.Helper()
	if _, err := db.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for {
		list, next, err := s.ReadLog(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if after = next; len(list) == 0 {
			return ids, after
		}
		for _, e := range list {
			ids = append(ids, e.ID())
		}
	}
}

func wantIDs(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

func TestInsertedEarlyCommittedLateIsReadLate(t *testing.T) {
	t.Parallel()
	sched, db := newScheduler(t)
	s := db.Store("ordering")
	early := sched.start(func() { mustCommit(t, s, events(event("order:1", 1))) })
	early.to(memory.PointCommitWrite) // it has transaction id and position 1
	mustCommit(t, s, events(event("order:2", 1)))

	ids, cursor := readAll(t, db, s, courante.Cursor{})
	wantIDs(t, ids, "ordering/order:2@1")
	early.finish()
	ids, _ = readAll(t, db, s, cursor)
	wantIDs(t, ids, "ordering/order:1@1")

	all, _, err := s.ReadLog(t.Context(), courante.Cursor{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if first, second := all[0], all[1]; second.Position > first.Position || second.Xid > first.Xid {
		t.Errorf("the late event has position %d and transaction %d, want them below %d and %d: the case was not made",
			second.Position, second.Xid, first.Position, first.Xid)
	}
}

func TestInsertWaitsForUncommittedKey(t *testing.T) {
	t.Parallel()
	lane := courante.Lane{Subscriber: "inventory", Log: "ordering", Epoch: 1}
	stock := courante.Key{Category: "stock", ID: "1"}
	for name, test := range map[string]struct {
		changes courante.Changes
		refused func(error) bool // how the second fails when the first has committed
	}{
		"event":    {events(event("order:1", 1)), isConflict("order:1")},
		"new row":  {row(stock, 0), isConflict("stock:1")},
		"reply":    {courante.Changes{Replies: []courante.Reply{{Key: "k", Body: json.RawMessage(`{}`)}}}, isConflict("k")},
		"progress": {courante.Changes{Progress: []courante.Progress{{Lane: lane, N: 1}}}, func(err error) bool { return errors.Is(err, courante.ErrFenced) }},
	} {
		for _, holderCommits := range []bool{true, false} {
			sched, db := newScheduler(t)
			s := db.Store("ordering")
			var firstErr, secondErr error
			first := sched.start(func() { firstErr = commit(t.Context(), s, test.changes) })
			first.to(memory.PointCommitWrite)
			second := sched.start(func() { secondErr = commit(t.Context(), s, test.changes) })
			second.to(memory.PointLockWait)
			for range 3 {
				if second.step(); second.done || second.point != memory.PointLockWait {
					t.Fatalf("%s: the second does not wait while the first is open", name)
				}
			}
			if holderCommits {
				first.finish()
				second.finish()
				if firstErr != nil || !test.refused(secondErr) {
					t.Errorf("%s: errors %v and %v, want the first to commit and the second refused", name, firstErr, secondErr)
				}
			} else {
				first.fail(errors.New("connection lost"))
				second.finish()
				if firstErr == nil || secondErr != nil {
					t.Errorf("%s: errors %v and %v, want the first to fail and the second to commit", name, firstErr, secondErr)
				}
			}
		}
	}
}

func isConflict(stream string) func(error) bool {
	return func(err error) bool {
		var conflict *courante.ConflictError
		return errors.As(err, &conflict) && slices.Equal(conflict.Streams, []string{stream})
	}
}

func TestInjectedErrors(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	for point, happens := range map[string]bool{
		memory.PointAppend:      false,
		memory.PointAppendWrite: false,
		memory.PointAppendAfter: true,
		memory.PointBegin:       false,
		memory.PointLoad:        false,
		memory.PointCommit:      false,
		memory.PointCommitWrite: false,
		memory.PointCommitAfter: true,
		memory.PointTick:        false,
		memory.PointTickTaken:   false,
		memory.PointTickAfter:   true,
		memory.PointLaneEpoch:   false,
		memory.PointLaneEpochOK: true,
	} {
		sched, db := newScheduler(t)
		s := db.Store("ordering")
		mustCommit(t, s, events(event("order:0", 1)))
		var err error
		var did func() bool
		run := func() { _, err = s.Append(t.Context(), "order:1", 0, event("", 0)) }
		did = func() bool { return versionOf(t, s, "order:1") == 1 }
		switch point {
		case memory.PointBegin, memory.PointLoad, memory.PointCommit, memory.PointCommitWrite, memory.PointCommitAfter:
			run = func() {
				var u courante.Unit
				if u, err = s.Begin(t.Context()); err != nil {
					return
				}
				if _, err = u.Load(t.Context(), []courante.Key{{Category: "order", ID: "1", Sourced: true}}, nil); err != nil {
					return
				}
				_, err = u.Commit(t.Context(), events(event("order:1", 1)))
			}
		case memory.PointTick, memory.PointTickTaken, memory.PointTickAfter:
			run = func() { _, err = db.Tick(t.Context()) }
			did = func() bool {
				head, headErr := s.Head(t.Context())
				return head.Tick == 1 && headErr == nil
			}
		case memory.PointLaneEpoch, memory.PointLaneEpochOK:
			run = func() { err = s.AddLaneEpoch(t.Context(), courante.LaneEpoch{Subscriber: "a", Log: "b", N: 1}) }
			did = func() bool {
				list, listErr := s.LaneEpochs(t.Context(), "a", "b")
				return len(list) == 1 && listErr == nil
			}
		}
		a := sched.start(run)
		a.to(point)
		a.fail(lost)
		if !errors.Is(err, lost) {
			t.Errorf("%s: error %v, want the injected one", point, err)
		}
		if got := did(); got != happens {
			t.Errorf("%s: happened %v, want %v", point, got, happens)
		}
	}
}

func versionOf(t *testing.T, s courante.Store, stream string) (version int64) {
	t.Helper()
	for e, err := range s.ReadStream(t.Context(), stream, 0) {
		if err != nil {
			t.Fatal(err)
		}
		version = e.Version
	}
	return version
}

func TestDeadlockWhilePaused(t *testing.T) {
	t.Parallel()
	sched, db := newScheduler(t)
	s := db.Store("inventory")
	const n = 3 // a circle of three, which looking at one neighbour does not find
	keys := make([]courante.Key, n)
	for i := range keys {
		keys[i] = courante.Key{Category: "stock", ID: string(rune('a' + i))}
		mustCommit(t, s, row(keys[i], 0))
	}
	errs := make([]error, n)
	actors := make([]*actor, n)
	for i := range actors {
		actors[i] = sched.start(func() {
			u, err := s.Begin(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if _, errs[i] = u.Load(t.Context(), keys[i:i+1], nil); errs[i] != nil {
				return
			}
			if _, errs[i] = u.Load(t.Context(), []courante.Key{keys[(i+1)%n]}, nil); errs[i] == nil {
				_, errs[i] = u.Commit(t.Context(), row(keys[i], 1))
			}
		})
		actors[i].to(memory.PointLoad)
		actors[i].step() // holds its own
	}
	actors[0].to(memory.PointLockWait)
	actors[1].to(memory.PointLockWait)
	actors[2].finish() // closes the circle
	if !errors.Is(errs[2], courante.ErrTransient) {
		t.Errorf("who closes the circle gets %v, want a transient error", errs[2])
	}
	actors[1].finish()
	actors[0].finish()
	if errs[0] != nil || errs[1] != nil {
		t.Errorf("the others get %v and %v", errs[0], errs[1])
	}
}

func TestTwoTickersMakeOneTick(t *testing.T) {
	t.Parallel()
	sched, db := newScheduler(t)
	s := db.Store("ordering")
	mustCommit(t, s, events(event("order:1", 1)))
	var moved []string
	slow := sched.start(func() {
		var err error
		if moved, err = db.Tick(t.Context()); err != nil {
			t.Error(err)
		}
	})
	slow.to(memory.PointTickTaken)
	mustCommit(t, s, events(event("order:1", 2))) // the slow snapshot does not see it
	ids, cursor := readAll(t, db, s, courante.Cursor{})
	wantIDs(t, ids, "ordering/order:1@1", "ordering/order:1@2")
	slow.finish()
	if len(moved) > 0 {
		t.Errorf("the slow ticker moved %v, want nothing: tick 1 was there", moved)
	}
	if ids, again := readAll(t, db, s, cursor); len(ids) > 0 || again != cursor {
		t.Errorf("after the slow ticker: %v at %v, want nothing new", ids, again)
	}
}
