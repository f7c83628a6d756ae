//go:build linux || darwin

package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

type orderPlaced struct {
	N int `json:"n"`
}

func (orderPlaced) EventType() string { return "shop.order_placed" }

// orderState is what the orders of these tests fold to: how many events, and
// the sum of what is in them.
type orderState struct{ Events, Sum int }

func ordersService() (*courante.Service, *courante.Entity[orderState]) {
	svc := courante.NewService("orders")
	svc.Emits(courante.Critical, orderPlaced{})
	return svc, courante.Sourced(svc, "order", courante.Evolve(func(s *orderState, e orderPlaced) {
		s.Events++
		s.Sum += e.N
	}))
}

// laterOrders is the service of a later program, which folds to something else.
func laterOrders() (*courante.Service, *courante.Entity[struct{ Largest int }]) {
	svc := courante.NewService("orders")
	svc.Emits(courante.Critical, orderPlaced{})
	return svc, courante.Sourced(svc, "order", courante.Evolve(func(s *struct{ Largest int }, e orderPlaced) {
		s.Largest = max(s.Largest, e.N)
	}))
}

// mount has a runtime hold the service, so that its entities can be read.
func mount(t *testing.T, db *Database, s *Store, svc *courante.Service) {
	t.Helper()
	_, err := courante.NewRuntime(courante.Config{Database: db, Stepped: true, Services: []courante.Mount{{Service: svc, Store: s}}})
	if err != nil {
		t.Fatal(err)
	}
}

// detached is a log of 6 events whose first part is detached: order:1 ends in
// it, order:2 goes on behind it, order:3 begins there, and "loose:1" is a stream
// of no state.
func detached(t *testing.T, due time.Time) (*Database, *Store) {
	t.Helper()
	db, s := openTest(t)
	ctx := t.Context()
	add := func(stream string, expected int64, n int, notes *courante.Notes) {
		t.Helper()
		e := testEvent(n)
		e.Notes = notes
		if _, err := s.Append(ctx, stream, expected, e); err != nil {
			t.Fatal(err)
		}
	}
	add("order:1", 0, 10, nil)
	add("order:1", 1, 20, &courante.Notes{Set: []courante.Deadline{{Name: "pay", Due: due}}})
	add("order:2", 0, 1, nil)
	add("loose:1", 0, 7, nil)
	mustTick(t, db)
	closeAndSeal(t, s, 1)
	add("order:2", 1, 2, nil)
	add("order:3", 0, 3, nil)
	mustTick(t, db)
	svc, _ := ordersService()
	if _, err := s.DetachPart(ctx, 1, svc); err != nil {
		t.Fatal(err)
	}
	return db, s
}

func closeAndSeal(t *testing.T, s *Store, n int) {
	t.Helper()
	if closed, err := s.ClosePart(t.Context()); err != nil || closed != n {
		t.Fatalf("ClosePart = %d, %v; want %d", closed, err, n)
	}
	if err := s.SealPart(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

// A stream whose events were all detached goes on where it was, and does not
// begin again: for appends, for units, and for processes that were there before.
func TestStreamGoesOnBehindDetachedPart(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"order:1", "loose:1"} {
		for how, write := range map[string]func(t *testing.T, s *Store, e courante.Event) error{
			"append": func(t *testing.T, s *Store, e courante.Event) error {
				_, err := s.Append(t.Context(), stream, e.Version-1, e)
				return err
			},
			"unit": func(t *testing.T, s *Store, e courante.Event) error {
				unit, err := s.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer unit.Rollback(t.Context())
				e.Stream = stream
				_, err = unit.Commit(t.Context(), courante.Changes{Events: []courante.Event{e}})
				return err
			},
		} {
			t.Run(stream+" "+how, func(t *testing.T) {
				t.Parallel()
				db, s := detached(t, time.Time{})
				_, fresh := openConfig(t, db.config)
				last := map[string]int64{"order:1": 2, "loose:1": 1}[stream]
				for _, process := range []*Store{s, fresh} {
					for _, version := range []int64{1, last, last + 2} {
						e := testEvent(5)
						e.Version = version
						if err := write(t, process, e); !errors.As(err, new(*courante.ConflictError)) || !strings.Contains(err.Error(), stream) {
							t.Errorf("version %d: %v, want a conflict on %s", version, err, stream)
						}
					}
					last++
					e := testEvent(5)
					e.Version = last
					if err := write(t, process, e); err != nil {
						t.Errorf("version %d: %v", last, err)
					}
				}
				if _, err := s.Append(t.Context(), "order:new", 0, testEvent(1)); err != nil {
					t.Errorf("a new stream: %v", err)
				}
			})
		}
	}
}

// The state of a stream and what it waits for are known without the part, also
// when its table is gone; its history is read from the table as long as it is
// there, and then its reader is told.
func TestStateAndHistoryBehindDetachedPart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	due := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	db, s := detached(t, due)
	svc, orders := ordersService()
	mount(t, db, s, svc)
	states := func(when string) {
		t.Helper()
		for id, want := range map[string]orderState{"1": {2, 30}, "2": {2, 3}, "3": {1, 3}} {
			if got, version, err := orders.Get(ctx, id); got != want || version != int64(want.Events) || err != nil {
				t.Errorf("%s: order %s is %+v at version %d, %v; want %+v", when, id, got, version, err, want)
			}
		}
		read, err := s.Read(ctx, []courante.Key{orders.Key("1")})
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := read[0].Open.Deadline("pay"); !ok || !d.Due.Equal(due) {
			t.Errorf("%s: order 1 waits for %+v, want its deadline", when, read[0].Open)
		}
	}
	states("detached")
	for id, want := range map[string]int{"1": 2, "2": 2, "3": 1, "nobody": 0} {
		if history, err := orders.History(ctx, id); len(history) != want || err != nil {
			t.Errorf("order %s has a history of %d events, %v; want %d", id, len(history), err, want)
		}
	}
	later, largest := laterOrders()
	mount(t, db, s, later)
	if got, _, err := largest.Get(ctx, "1"); got.Largest != 20 || err != nil {
		t.Errorf("another program folds order 1 to %+v, %v; want what its events say", got, err)
	}

	conn := testConn(t)
	mustExec(t, conn, s, "alter table {schema}.event_1 rename to elsewhere")
	states("dropped")
	for id, version := range map[string]int64{"1": 2, "2": 1} {
		_, err := orders.History(ctx, id)
		var archived *courante.ArchivedError
		if !errors.As(err, &archived) || archived.Version != version || len(archived.Parts) != 1 {
			t.Errorf("the history of order %s: %v, want that it is archived up to version %d", id, err, version)
		}
		if _, err := orders.Event(ctx, id, version+1); id == "2" && err != nil {
			t.Errorf("the event behind it: %v", err)
		}
	}
	if got, _, err := largest.Get(ctx, "1"); !errors.As(err, new(*courante.ArchivedError)) {
		t.Errorf("a state that has to be folded again: %+v, %v; want that its events are archived", got, err)
	}
	if err := s.AttachPart(ctx, 1); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("attached a part that is gone: %v", err)
	}
	mustExec(t, conn, s, "alter table {schema}.elsewhere rename to event_1")
	states("restored")
}

// An attached part is one like before.
func TestAttachPart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, s := detached(t, time.Time{})
	refusedFromStart(t, s, "begins at part 2")
	if err := s.AttachPart(ctx, 1); err != nil {
		t.Fatal(err)
	}
	events, _ := readOn(t, s, courante.Cursor{}, 2)
	if len(events) != 6 {
		t.Errorf("%d events from the start, want 6", len(events))
	}
	checkOrder(t, s, "attached", events)
	// Again and further, with a later program: it folds anew.
	closeAndSeal(t, s, 2)
	svc, largest := laterOrders()
	for n := 1; n <= 2; n++ {
		if n == 1 {
			if _, err := s.DetachPart(ctx, 2, svc); err == nil || !strings.Contains(err.Error(), "part 1 comes first") {
				t.Errorf("part 2 before part 1: %v", err)
			}
		}
		if _, err := s.DetachPart(ctx, n, svc); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, testConn(t), s, "drop table {schema}.event_1, {schema}.event_2")
	mount(t, db, s, svc)
	for id, want := range map[string]int{"1": 20, "2": 2, "3": 3} {
		if got, _, err := largest.Get(ctx, id); got.Largest != want || err != nil {
			t.Errorf("order %s: %+v, %v; want %d", id, got, err, want)
		}
	}
	refusedFromStart(t, s, "begins at part 3")
	if err := s.AttachPart(ctx, 1); err == nil || !strings.Contains(err.Error(), "part 2 comes first") {
		t.Errorf("part 1 before part 2: %v", err)
	}
}

// refusedFromStart checks that who begins at the start is told, and not given a
// log with a hole.
func refusedFromStart(t *testing.T, s *Store, why string) {
	t.Helper()
	_, fresh := openConfig(t, s.db.config)
	_, _, err := fresh.ReadLog(t.Context(), courante.Cursor{}, 10)
	var broken *courante.LogBrokenError
	if !errors.As(err, &broken) || !strings.Contains(broken.Reason, why) {
		t.Errorf("reading from the start: %v", err)
	}
	if _, err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("the start of the log: %v, want that it %s", err, why)
	}
	if _, err := s.At(t.Context(), time.Now().Add(-time.Hour)); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("an hour ago: %v, want that the log %s", err, why)
	}
}

// A part is kept for every subscriber that is not past it, and for no other.
func TestDetachWaitsForSubscribers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, s := openTest(t)
	svc, _ := ordersService()
	subscriber, err := db.Store(ctx, "shipping")
	if err != nil {
		t.Fatal(err)
	}
	refused := func(why string) {
		t.Helper()
		if table, err := s.DetachPart(ctx, 1, svc); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("DetachPart = %s, %v; want it to refuse: %s", table, err, why)
		}
	}
	for v := range int64(2) {
		if _, err := s.Append(ctx, "order:1", v, testEvent(1)); err != nil {
			t.Fatal(err)
		}
		mustTick(t, db)
	}
	refused("not sealed")
	end, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	closeAndSeal(t, s, 1)

	if err := courante.AddSubscriber(ctx, subscriber, "orders", courante.Cursor{}, "ann"); err != nil {
		t.Fatal(err)
	}
	refused("subscriber shipping, which has not run yet")
	epoch := courante.LaneEpoch{Subscriber: "shipping", Log: "orders", N: 2, Lanes: 2, Types: []string{"shop.order_placed"}}
	if err := subscriber.AddLaneEpoch(ctx, epoch); err != nil {
		t.Fatal(err)
	}
	refused("subscriber shipping, lane 1")
	record := func(epoch, k int, to courante.Cursor) {
		t.Helper()
		lane := courante.Lane{Subscriber: "shipping", Log: "orders", Epoch: epoch, K: k}
		p, err := subscriber.Progress(ctx, lane)
		if err != nil && !errors.Is(err, courante.ErrNotFound) {
			t.Fatal(err)
		}
		unit, err := subscriber.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unit.Commit(ctx, courante.Changes{Progress: []courante.Progress{{Lane: lane, N: p.N + 1, Cursor: to}}}); err != nil {
			t.Fatal(err)
		}
	}
	record(2, 0, end)
	refused("subscriber shipping, lane 2")
	// The next epoch begins behind the part, but lane 2 of this one has not
	// come there.
	epoch.N, epoch.From = 3, end
	if err := subscriber.AddLaneEpoch(ctx, epoch); err != nil {
		t.Fatal(err)
	}
	refused("subscriber shipping, lane 2")
	if _, err := courante.RetireSubscriber(ctx, subscriber, "orders", end, "ann", false); err != nil {
		t.Fatal(err)
	}
	table, err := s.DetachPart(ctx, 1, svc)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.DetachPart(ctx, 1, svc); again != table || err != nil {
		t.Errorf("detaching again = %s, %v", again, err)
	}
	rest, _ := readOn(t, s, end, 10)
	if len(rest) != 0 {
		t.Errorf("behind the part: %v", rest)
	}
}

// TestDetachBetweenTheStatementsOfAReader: a reader that has asked for the ticks
// asks for their events when the part with these has just been detached. It is
// told, and does not go on behind events that it has not seen.
func TestDetachBetweenTheStatementsOfAReader(t *testing.T) {
	t.Parallel()
	db, s := openTest(t)
	ctx := t.Context()
	for v := range int64(3) {
		mustAppend(t, s, "order:1", v, 1)
		mustTick(t, db)
	}
	closeAndSeal(t, s, 1)
	mustAppend(t, s, "order:1", 3, 1)
	mustTick(t, db)
	at := cursorAt(t, s, 2, courante.MaxPosition)

	conn, watch := testConn(t), testConn(t)
	mustExec(t, conn, s, "begin; lock table {schema}.event in access exclusive mode")
	type read struct {
		events []courante.Event
		next   courante.Cursor
		err    error
	}
	done := make(chan read)
	go func() {
		events, next, err := s.ReadLog(ctx, at, 10)
		done <- read{events, next, err}
	}()
	eventually(t, "the reader to want the events", func() (waits bool) {
		err := watch.QueryRow(ctx, "select exists (select from pg_locks where relation = $1::regclass and not granted)", s.quoted+".event").Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
		return waits
	})
	mustExec(t, conn, s, "alter table {schema}.event detach partition {schema}.event_1; update {schema}.part set detached = now() where n = 1; commit")
	if r := <-done; !errors.As(r.err, new(*courante.LogBrokenError)) || r.next != at {
		t.Errorf("the reader at %s got %d events, the cursor %s and error %v; want none, the same cursor and a *LogBrokenError", at, len(r.events), r.next, r.err)
	}
}

// TestReadStreamWhileItGrows: what is appended to a stream while it is read at
// its end is not taken for events that were detached.
func TestReadStreamWhileItGrows(t *testing.T) {
	t.Parallel()
	_, s := detached(t, time.Time{})
	conn, watch := testConn(t), testConn(t)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), s.sql("lock table {schema}.part in access exclusive mode")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		for e, err := range s.ReadStream(t.Context(), "order:3", 1) {
			if err != nil || e.Version != 2 {
				done <- fmt.Errorf("version %d: %w", e.Version, err)
				return
			}
		}
		done <- nil
	}()
	eventually(t, "the reader to look for detached parts", func() (waits bool) {
		err := watch.QueryRow(t.Context(), "select exists (select from pg_locks where relation = $1::regclass and not granted)", s.quoted+".part").Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
		return waits
	})
	insertAs(t, s, tx, "order:3", 2)
	if _, err := tx.Exec(t.Context(), s.sql("insert into {schema}.snapshot (version, stream, data) values (2, 'order:3', '{}')")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
