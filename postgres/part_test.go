//go:build linux || darwin

package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/courante-dev/courante"
)

// orderHash is the hash of the whole order of the log, as a reader sees it that
// asks for max events a call.
func orderHash(t *testing.T, s *Store, max int) (hash [32]byte, events []courante.Event) {
	t.Helper()
	events, _ = readOn(t, s, courante.Cursor{}, max)
	h := sha256.New()
	for i := range events {
		e := &events[i]
		fmt.Fprintln(h, e.Tick, e.TickHash, e.Position, e.Epoch, e.Xid, e.ID(), e.Type, e.Time.UnixMicro(), string(e.Data))
	}
	h.Sum(hash[:0])
	return hash, events
}

// cursors are all cursors that a reader passes, with the number of events
// behind each.
func cursors(t *testing.T, s *Store, max int) (list []courante.Cursor, behind []int) {
	t.Helper()
	count := 0
	for at := (courante.Cursor{}); ; {
		events, next, err := s.ReadLog(t.Context(), at, max)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return list, behind
		}
		count += len(events)
		list, behind = append(list, next), append(behind, count)
		at = next
	}
}

func testEvent(n int) courante.Event {
	return courante.Event{Type: "shop.order_placed", Schema: 1, Data: fmt.Appendf(nil, `{"n": %d}`, n)}
}

// fillParts has 16 appenders at work while the log's part is closed twice and
// two tickers tick, and returns how many events were appended.
func fillParts(t *testing.T, db, other *Database, store, otherStore *Store) int {
	t.Helper()
	const appenders, each, streams = 16, 60, 40
	ctx := t.Context()
	var appended atomic.Int64
	var appending, rest sync.WaitGroup
	stop, ended, reached := make(chan struct{}), make(chan struct{}), make(chan struct{}, appenders*each)
	for a := range appenders {
		appending.Go(func() {
			random := rand.New(rand.NewPCG(3, uint64(a)))
			s := store
			if a%2 == 1 {
				s = otherStore // another process, which learns of the new part by its failures
			}
			known := make(map[string]int64)
			for n := 0; n < each; {
				stream := fmt.Sprintf("order:%d", random.IntN(streams))
				batch := []courante.Event{testEvent(n), testEvent(n)}[:1+random.IntN(2)]
				_, err := s.Append(ctx, stream, known[stream], batch...)
				var conflict *courante.ConflictError
				if errors.As(err, &conflict) { // somebody else was first: decide again on what is there
					var last int64
					err = db.pool.QueryRow(ctx, "select coalesce(max(version), 0) from "+s.quoted+".event where stream = $1", stream).Scan(&last)
					known[stream] = last
				} else if err == nil {
					known[stream] += int64(len(batch))
					appended.Add(int64(len(batch)))
					n++
					reached <- struct{}{}
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	go func() {
		appending.Wait()
		close(ended)
	}()
	for _, ticker := range []*Database{db, other} {
		rest.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-ticker.Committed():
				}
				if _, err := ticker.Tick(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 2 {
		for range appenders * each / 3 {
			select {
			case <-reached:
			case <-ended: // an appender failed
			}
		}
		closed, err := store.ClosePart(ctx)
		if err != nil || closed != i+1 {
			t.Errorf("ClosePart = %d, %v; want %d", closed, err, i+1)
		}
	}
	<-ended
	close(stop)
	rest.Wait()
	mustTick(t, db)
	return int(appended.Load())
}

// Parts are closed under load, then sealed; readers see the same order before
// and after, from every cursor, and also those who hold the ticks in memory.
func TestParts(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	db, store := openConfig(t, config)
	other, otherStore := openConfig(t, config)
	want := fillParts(t, db, other, store, otherStore)

	before, events := orderHash(t, store, 100)
	checkOrder(t, store, "before sealing", events)
	if len(events) != want {
		t.Errorf("%d events in the log, %d were appended", len(events), want)
	}
	perPart := make(map[int]int)
	rows, err := db.pool.Query(t.Context(), "select part, count(*) from "+store.quoted+".event group by part")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var part, count int
		if err := rows.Scan(&part, &count); err != nil {
			t.Fatal(err)
		}
		perPart[part] = count
	}
	if len(perPart) != 3 {
		t.Fatalf("events in parts %v, want three parts", perPart)
	}
	points, behind := cursors(t, store, 7)
	ticks := checkTicks(t, store)

	if err := store.SealPart(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "part 1 comes first") {
		t.Errorf("sealing part 2 before part 1: %v", err)
	}
	if err := store.SealPart(t.Context(), 3); err == nil || !strings.Contains(err.Error(), "not closed") {
		t.Errorf("sealing the open part: %v", err)
	}
	for part := 1; part <= 2; part++ {
		if err := store.SealPart(t.Context(), part); err != nil {
			t.Fatal(err)
		}
		_, fresh := openConfig(t, config)
		for who, s := range map[string]*Store{"the reader from before": store, "a new reader": fresh} {
			for _, max := range []int{7, 100_000} {
				if after, events := orderHash(t, s, max); after != before {
					t.Fatalf("part %d sealed: %s, %d events a call, sees another order, of %d events", part, who, max, len(events))
				}
			}
			for i := part; i < len(points); i += 9 {
				at := points[i]
				rest, _, err := s.ReadLog(t.Context(), at, 3)
				if err != nil {
					t.Fatalf("part %d sealed: %s at %s: %v", part, who, at, err)
				}
				if k := behind[i]; k < len(events) && (len(rest) == 0 || rest[0].ID() != events[k].ID()) {
					t.Fatalf("part %d sealed: %s at %s goes on with %v, want %s", part, who, at, rest, events[k].ID())
				}
			}
		}
	}
	// The ticks are gone, and their hashes still tell a foreign cursor.
	left := checkTicks(t, store)
	if left >= ticks {
		t.Errorf("%d of %d ticks are left", left, ticks)
	}
	strange := points[0]
	strange.Hash++
	_, _, err = store.ReadLog(t.Context(), strange, 1)
	var broken *courante.LogBrokenError
	if !errors.As(err, &broken) {
		t.Errorf("a cursor with another hash in a sealed part: %v", err)
	}
	// The log goes on, for streams whose events are in sealed parts too.
	if _, err := store.Append(t.Context(), events[0].Stream, 0, testEvent(0)); !errors.As(err, new(*courante.ConflictError)) {
		t.Errorf("version 1 of a sealed stream again: %v", err)
	}
	if _, err := otherStore.Append(t.Context(), "order:new", 0, testEvent(1)); err != nil {
		t.Error(err)
	}
	mustTick(t, other)
	all, _ := readOn(t, store, courante.Cursor{}, 1)
	checkOrder(t, store, "at the end", all)
	parts, err := store.Parts(t.Context())
	if err != nil || len(parts) != 3 || parts[1].Sealed.IsZero() || !parts[2].Closed.IsZero() || parts[1].LastTick < parts[0].LastTick {
		t.Errorf("parts %+v, %v", parts, err)
	}
	t.Logf("%d events in parts %v; %d of %d ticks are left", want, perPart, left, ticks)
}

// A part is not sealed before all of its events have a tick, and a transaction
// that is open makes closing wait and not fail.
func TestSealWaitsForTicks(t *testing.T) {
	t.Parallel()
	db, store := openTest(t)
	ctx := t.Context()
	if _, err := store.Append(ctx, "order:1", 0, testEvent(1)); err != nil {
		t.Fatal(err)
	}
	open, err := db.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Rollback(context.Background())
	if _, err := open.Exec(ctx, store.sql(`insert into {schema}.event (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		values (1, now(), 1, $1, 1, 'order:2', '', '', '', '', '', '{}')`), db.Epoch()); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() {
		_, err := store.ClosePart(ctx)
		closed <- err
	}()
	// Others append meanwhile: closing lets them pass again and again.
	for v := range int64(20) {
		if _, err := store.Append(ctx, "order:1", v+1, testEvent(1)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-closed:
		t.Fatalf("ClosePart returned %v with a writer in flight", err)
	default:
	}
	if err := open.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := store.SealPart(ctx, 1); err == nil || !strings.Contains(err.Error(), "has no tick yet") {
		t.Errorf("sealing without a tick: %v", err)
	}
	mustTick(t, db)
	if err := store.SealPart(ctx, 1); err != nil {
		t.Error(err)
	}
	events, _ := readOn(t, store, courante.Cursor{}, 5)
	checkOrder(t, store, "sealed", events)
}

// A transaction that began before a part was sealed, such as that of a backup,
// and looks at the log only afterwards, sees the log as it was.
func TestSealUnderAnOlderSnapshot(t *testing.T) {
	t.Parallel()
	db, s := openTest(t)
	mustAppend(t, s, "order:1", 0, 5)
	mustTick(t, db)
	if _, err := s.ClosePart(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := testConn(t)
	mustExec(t, conn, s, "begin isolation level repeatable read; select 1")
	if err := s.SealPart(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var seen int
	if err := conn.QueryRow(t.Context(), s.sql("select count(*) from {schema}.event")).Scan(&seen); err != nil {
		t.Fatal(err)
	}
	if seen != 5 {
		t.Errorf("the older transaction sees %d events of 5", seen)
	}
}
