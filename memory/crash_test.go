package memory_test

import (
	"errors"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

func TestCrashRollsBackAndFreesLocks(t *testing.T) {
	t.Parallel()
	sched, db := newScheduler(t)
	victim, other := db.Store("inventory"), db.Store("inventory")
	stock := courante.Key{Category: "stock", ID: "1"}
	mustCommit(t, other, row(stock, 0))

	var victimErr, waiterErr error
	holder := sched.start(func() {
		changes := row(stock, 1)
		changes.Events = []courante.Event{event("stock:1", 1)}
		victimErr = commit(t.Context(), victim, changes)
	})
	holder.to(memory.PointCommitWrite)
	waiter := sched.start(func() { waiterErr = commit(t.Context(), other, row(stock, 1)) })
	waiter.to(memory.PointLockWait)

	db.Crash(victim)
	waiter.finish()
	if waiterErr != nil {
		t.Errorf("the waiter: %v, want the row, free and as it was", waiterErr)
	}
	holder.finish() // a process that did not know that it was dead
	if !errors.Is(victimErr, courante.ErrClosed) {
		t.Errorf("the crashed commit returns %v, want ErrClosed", victimErr)
	}
	if v := versionOf(t, other, "stock:1"); v != 0 {
		t.Errorf("the crashed process's event is there")
	}
	for name, call := range map[string]func() error{
		"Begin":  func() error { _, err := victim.Begin(t.Context()); return err },
		"Append": func() error { _, err := victim.Append(t.Context(), "a:1", 0, event("", 0)); return err },
		"Head":   func() error { _, err := victim.Head(t.Context()); return err },
	} {
		if err := call(); !errors.Is(err, courante.ErrClosed) {
			t.Errorf("%s of a crashed handle: %v, want ErrClosed", name, err)
		}
	}
	mustCommit(t, db.Store("inventory"), events(event("stock:1", 1))) // the process is started again
}

func TestCrashEndsAPausedWaiter(t *testing.T) {
	t.Parallel()
	sched, db := newScheduler(t)
	victim, other := db.Store("inventory"), db.Store("inventory")
	stock := courante.Key{Category: "stock", ID: "1"}
	mustCommit(t, other, row(stock, 0))
	holder := sched.start(func() { mustCommit(t, other, row(stock, 1)) })
	holder.to(memory.PointCommitWrite)
	var err error
	waiter := sched.start(func() { err = commit(t.Context(), victim, row(stock, 1)) })
	waiter.to(memory.PointLockWait)
	db.Crash(victim)
	waiter.finish() // although the holder still holds
	if !errors.Is(err, courante.ErrClosed) {
		t.Errorf("the waiter gets %v, want ErrClosed", err)
	}
	holder.finish()
}

func TestCrashEndsAWaiter(t *testing.T) {
	t.Parallel()
	db := memory.New(memory.Config{}) // nothing is scheduled: the waiter really blocks
	victim, other := db.Store("inventory"), db.Store("inventory")
	stock := courante.Key{Category: "stock", ID: "1"}
	mustCommit(t, other, row(stock, 0))
	u, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Load(t.Context(), []courante.Key{stock}, nil); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		w, err := victim.Begin(t.Context())
		if err == nil {
			_, err = w.Load(t.Context(), []courante.Key{stock}, nil)
		}
		ended <- err
	}()
	db.Crash(victim) // before, while or after it begins to wait
	if err := <-ended; !errors.Is(err, courante.ErrClosed) {
		t.Errorf("the waiter gets %v, want ErrClosed", err)
	}
	if _, err := u.Commit(t.Context(), row(stock, 1)); err != nil {
		t.Errorf("the holder of another process: %v", err)
	}
}

func TestRestoreBeginsAnEpoch(t *testing.T) {
	t.Parallel()
	db := memory.New(memory.Config{})
	s := db.Store("ordering")
	mustCommit(t, s, events(event("order:1", 1)))
	_, ticked := readAll(t, db, s, courante.Cursor{})
	mustCommit(t, s, events(event("order:1", 2))) // in the backup, and in no tick
	backup := db.Backup()

	mustCommit(t, s, events(event("order:1", 3)))
	lost, err := s.Append(t.Context(), "order:lost", 0, event("", 0))
	if err != nil {
		t.Fatal(err)
	}
	_, past := readAll(t, db, s, ticked)
	open, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	opened := db.Store("payment") // after the backup
	mustCommit(t, opened, events(event("payment:1", 1)))

	db.Restore(backup)

	if v := versionOf(t, s, "order:1"); v != 2 {
		t.Errorf("order:1 is at version %d after the restore, want 2", v)
	}
	if v := versionOf(t, opened, "payment:1"); v != 0 {
		t.Errorf("a log younger than the backup has an event")
	}
	if _, err := open.Commit(t.Context(), events(event("order:9", 1))); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("a unit open at the restore: %v, want a transient error", err)
	}
	var other *courante.TokenEpochError
	if _, err := s.Locate(t.Context(), lost.Token); !errors.As(err, &other) {
		t.Errorf("a token of before: %v, want a *TokenEpochError", err)
	}

	// The lost versions, ids and tick numbers are given out again.
	again, err := s.Append(t.Context(), "order:1", 2, event("", 0))
	if err != nil {
		t.Fatal(err)
	}
	if again.Token.Epoch != lost.Token.Epoch+1 || again.Token.Xid > lost.Token.Xid {
		t.Errorf("after the restore the token is %+v, want a low transaction of the next epoch (before: %+v)", again.Token, lost.Token)
	}
	ids, _ := readAll(t, db, s, ticked)
	wantIDs(t, ids, "ordering/order:1@2", "ordering/order:1@3")
	ids, _ = readAll(t, db, s, courante.Cursor{})
	wantIDs(t, ids, "ordering/order:1@1", "ordering/order:1@2", "ordering/order:1@3")
	var broken *courante.LogBrokenError
	if _, _, err := s.ReadLog(t.Context(), past, 10); !errors.As(err, &broken) {
		t.Errorf("a cursor into the lost part: %v, want a *LogBrokenError", err)
	}

	db.Restore(backup) // the same one, which the first restore must not have changed
	ids, _ = readAll(t, db, s, courante.Cursor{})
	wantIDs(t, ids, "ordering/order:1@1", "ordering/order:1@2")
}

func TestRestoreLosesWhatWasOpen(t *testing.T) {
	t.Parallel()
	sched, db := newScheduler(t)
	s := db.Store("ordering")
	open := sched.start(func() { mustCommit(t, s, events(event("order:open", 1))) })
	open.to(memory.PointCommitWrite)
	mustCommit(t, s, events(event("order:1", 1)))
	readAll(t, db, s, courante.Cursor{}) // a tick that lists the open one as in progress
	mustCommit(t, s, events(event("order:1", 2)))
	backup := db.Backup()
	open.finish()
	ids, _ := readAll(t, db, s, courante.Cursor{})
	wantIDs(t, ids, "ordering/order:1@1", "ordering/order:open@1", "ordering/order:1@2")

	db.Restore(backup)
	ids, _ = readAll(t, db, s, courante.Cursor{})
	wantIDs(t, ids, "ordering/order:1@1", "ordering/order:1@2")
}

func TestRestoreLeavesEventsThatWereRead(t *testing.T) {
	t.Parallel()
	db := memory.New(memory.Config{})
	s := db.Store("ordering")
	const streams = 20 // of 1 to 20 events, so that some have room behind them
	key := func(n int64) courante.Key {
		return courante.Key{Category: "order", ID: string(rune('a' + n)), Sourced: true}
	}
	for n := int64(1); n <= streams; n++ {
		for v := range n {
			mustCommit(t, s, events(event(key(n).Stream(), v+1)))
		}
	}
	backup := db.Backup()
	write := func(subject string) (read [][]courante.Event) {
		for n := int64(1); n <= streams; n++ {
			e := event(key(n).Stream(), n+1)
			e.Subject = subject
			mustCommit(t, s, events(e))
			states, err := s.Read(t.Context(), []courante.Key{key(n)})
			if err != nil {
				t.Fatal(err)
			}
			read = append(read, states[0].Events)
		}
		return read
	}
	before := write("before")
	db.Restore(backup)
	first := write("first")
	db.Restore(backup)
	write("second")
	for i := range before {
		if b, f := before[i][i+1].Subject, first[i][i+1].Subject; b != "before" || f != "first" {
			t.Errorf("stream of %d events: readers hold events of %q and %q, want before and first", i+1, b, f)
		}
	}
}

func TestRestoreBringsBackEveryTable(t *testing.T) {
	t.Parallel()
	db := memory.New(memory.Config{})
	s := db.Store("inventory")
	stock := courante.Key{Category: "stock", ID: "1"}
	lane := courante.Lane{Subscriber: "inventory", Log: "ordering", Epoch: 1}
	everything := func(n int64) courante.Changes {
		c := row(stock, n-1)
		c.Snapshots = []courante.State{{Key: courante.Key{Category: "order", ID: "1", Sourced: true}, Row: n, Data: []byte(`{}`)}}
		c.Progress = []courante.Progress{{Lane: lane, N: n}}
		c.Park = []courante.Parked{{Subscriber: "inventory", Cause: "first"}}
		c.Replies = []courante.Reply{{Key: string(rune('0' + n)), Body: []byte(`{}`)}}
		return c
	}
	mustCommit(t, s, everything(1))
	if err := s.AddLaneEpoch(t.Context(), courante.LaneEpoch{Subscriber: "inventory", Log: "ordering", N: 1}); err != nil {
		t.Fatal(err)
	}
	backup := db.Backup()
	mustCommit(t, s, everything(2))
	mustCommit(t, s, courante.Changes{Park: []courante.Parked{{ID: 1, Cause: "second"}}, Unpark: []int64{2}})
	db.Restore(backup)

	parked, err := s.Parked(t.Context(), "inventory", courante.ParkedQuery{})
	if err != nil || len(parked) != 1 || parked[0].Cause != "first" {
		t.Errorf("parked %+v (error %v), want the message as it was", parked, err)
	}
	if p, err := s.Progress(t.Context(), lane); err != nil || p.N != 1 {
		t.Errorf("progress %+v (error %v), want number 1", p, err)
	}
	if epochs, err := s.LaneEpochs(t.Context(), "inventory", "ordering"); err != nil || len(epochs) != 1 {
		t.Errorf("lane epochs %v (error %v), want one", epochs, err)
	}
	if _, err := s.Reply(t.Context(), "1"); err != nil {
		t.Errorf("the reply of before: %v", err)
	}
	mustCommit(t, s, everything(2)) // rows, numbers and keys of the lost part are free
}

func TestRepliesAreForgotten(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	db := memory.New(memory.Config{Now: func() time.Time { return now }})
	s := db.Store("ordering")
	reply := courante.Changes{Replies: []courante.Reply{{Key: "k", Body: []byte(`{}`)}}}
	mustCommit(t, s, reply)
	now = now.Add(7 * 24 * time.Hour)
	if _, err := s.Reply(t.Context(), "k"); err != nil {
		t.Errorf("after seven days: %v", err)
	}
	if err := commit(t.Context(), s, reply); err == nil {
		t.Error("after seven days the key is taken again")
	}
	now = now.Add(24*time.Hour + time.Second)
	if _, err := s.Reply(t.Context(), "k"); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("after eight days: %v, want ErrNotFound", err)
	}
	mustCommit(t, s, reply)
}
