//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// openLogAt opens the database of the server and the store "orders" in it.
func openLogAt(t testing.TB, url string) (*Database, *Store) {
	t.Helper()
	db, err := Open(t.Context(), Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	store, err := db.Store(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	return db, store
}

func testPool(t testing.TB, url string, conns int32) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = conns
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// insertRaw writes one event in a transaction of the test's own, as no store
// would: to hold it open, or to take its transaction id early.
func insertRaw(ctx context.Context, tx pgx.Tx, epoch int32, stream string, version int64) error {
	_, err := tx.Exec(ctx, `insert into orders.event
		(version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		values ($1, now(), (select max(n) from orders.part), $2, 1, $3, 'shop.order_placed', $3, '', '', '', '{"n":1}')`, version, epoch, stream)
	return err
}

// appendRaw commits events 1 to n of a new stream, each in its own transaction.
func appendRaw(t testing.TB, db *Database, stream string, from, to int64) {
	t.Helper()
	for v := from; v <= to; v++ {
		err := pgx.BeginFunc(t.Context(), db.pool, func(tx pgx.Tx) error {
			epoch, err := db.epochOf(t.Context(), tx.Conn())
			if err != nil {
				return err
			}
			return insertRaw(t.Context(), tx, epoch, stream, v)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func mustTick(t testing.TB, db *Database) []string {
	t.Helper()
	moved, err := db.Tick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return moved
}

// readOn reads from the cursor to the end of the log, max events a call.
func readOn(t testing.TB, s *Store, from courante.Cursor, max int) ([]courante.Event, courante.Cursor) {
	t.Helper()
	var all []courante.Event
	for {
		events, next, err := s.ReadLog(t.Context(), from, max)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return all, next
		}
		if len(events) > max {
			t.Fatalf("ReadLog returned %d events, asked for %d", len(events), max)
		}
		last := events[len(events)-1]
		if at := last.Cursor(); at.Tick != next.Tick || at.Epoch != next.Epoch || at.Hash != next.Hash {
			t.Fatalf("the last event says it is at %+v, the cursor behind it is %+v", at, next)
		}
		if next.Tick != last.Tick || next.Position != courante.MaxPosition && next.Position != last.Position {
			t.Fatalf("cursor %s is not behind the last event, tick %d position %d", next, last.Tick, last.Position)
		}
		all = append(all, events...)
		from = next
	}
}

// cursorAt is the cursor at a place in the log as it is stored now.
func cursorAt(t testing.TB, s *Store, tick, position int64) courante.Cursor {
	t.Helper()
	rows, err := s.db.pool.Query(t.Context(), "select n, epoch, high, snapshot::text from "+s.db.schema+".tick where log = $1 and n = $2", s.name, tick)
	if err != nil {
		t.Fatal(err)
	}
	ticks, err := scanTicks(rows)
	if err != nil || len(ticks) != 1 {
		t.Fatalf("tick %d: %d rows, %v", tick, len(ticks), err)
	}
	at := behind(ticks[0])
	at.Position = position
	return at
}

type placed struct {
	tick, position int64
	id             string
}

func placesOf(events []courante.Event) []placed {
	list := make([]placed, len(events))
	for i := range events {
		list[i] = placed{events[i].Tick, events[i].Position, events[i].ID()}
	}
	return list
}

// checkOrder fails unless the events are all of the log, each once, every
// stream in the order of its versions, and in the total order.
func checkOrder(t *testing.T, s *Store, who string, events []courante.Event) {
	t.Helper()
	var want int
	if err := s.db.pool.QueryRow(t.Context(), "select count(*) from "+s.quoted+".event").Scan(&want); err != nil {
		t.Fatal(err)
	}
	if len(events) != want {
		t.Errorf("%s: got %d events, committed were %d", who, len(events), want)
	}
	next := make(map[string]int64)
	for i := range events {
		e := &events[i]
		if e.Version != next[e.Stream]+1 {
			t.Fatalf("%s: %s came after version %d", who, e.ID(), next[e.Stream])
		}
		next[e.Stream] = e.Version
		if i > 0 && (e.Tick < events[i-1].Tick || e.Tick == events[i-1].Tick && e.Position <= events[i-1].Position) {
			t.Fatalf("%s: %s at %d/%d came after %d/%d", who, e.ID(), e.Tick, e.Position, events[i-1].Tick, events[i-1].Position)
		}
	}
}

// checkTicks fails unless the ticks are numbered without a gap and each
// snapshot sees all that the one before sees.
func checkTicks(t *testing.T, s *Store) int {
	t.Helper()
	rows, err := s.db.pool.Query(t.Context(), "select n, epoch, high, snapshot::text from "+s.db.schema+".tick where log = $1 order by n", s.name)
	if err != nil {
		t.Fatal(err)
	}
	ticks, err := scanTicks(rows)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(ticks); i++ {
		a, b := ticks[i-1], ticks[i]
		if b.N != a.N+1 {
			t.Errorf("tick %d follows tick %d", b.N, a.N)
		}
		shrunk := b.Snapshot.Xmin < a.Snapshot.Xmin || b.Snapshot.Xmax < a.Snapshot.Xmax
		for _, xid := range b.Snapshot.InProgress {
			shrunk = shrunk || a.Snapshot.Visible(xid)
		}
		if a.Epoch == b.Epoch && shrunk {
			t.Errorf("tick %d (%s) does not see all that tick %d (%s) sees", b.N, b.Snapshot, a.N, a.Snapshot)
		}
	}
	return len(ticks)
}

// TestRelayTorture is the experiment that decided how the log is read: writers
// that hold their transactions open for a random time, take their transaction
// id long before they append, and roll back, while a foreign transaction stays
// open throughout. Two processes tick and read.
func TestRelayTorture(t *testing.T) {
	t.Parallel()
	const (
		writers = 24
		streams = 200
		enough  = 20_000 // events
	)
	url := startServer(t, ServerConfig{Dir: serverDir(t)}).URL("postgres")
	db, store := openLogAt(t, url)
	other, otherStore := openLogAt(t, url)
	pool := testPool(t, url, writers+3)
	ctx := t.Context()
	if _, err := pool.Exec(ctx, `
		create table stream (name int primary key);
		insert into stream select generate_series(1, 200);
		create table inbox (id bigint generated always as identity primary key);
		create index on orders.event (position)`, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	foreign, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Rollback(context.Background())
	if _, err := foreign.Exec(ctx, "insert into inbox default values"); err != nil {
		t.Fatal(err)
	}

	var written atomic.Int64
	write := func(random *rand.Rand, tx pgx.Tx) error {
		if random.IntN(10) < 3 { // an inbox row first: the transaction id is older than the append
			if _, err := tx.Exec(ctx, "insert into inbox default values"); err != nil {
				return err
			}
		}
		number, count := random.IntN(streams)+1, random.IntN(3)+1
		stream := fmt.Sprintf("order:%d", number)
		if _, err := tx.Exec(ctx, "select from stream where name = $1 for update", number); err != nil {
			return err
		}
		var version int64
		if err := tx.QueryRow(ctx, "select coalesce(max(version), 0) from orders.event where stream = $1", stream).Scan(&version); err != nil {
			return err
		}
		for range count {
			version++
			if err := insertRaw(ctx, tx, db.Epoch(), stream, version); err != nil {
				return err
			}
		}
		// The hold is the workload: transactions commit in another order than
		// they began.
		if _, err := tx.Exec(ctx, "select pg_sleep($1)", random.Float64()*0.004); err != nil {
			return err
		}
		if random.IntN(100) < 3 {
			return errRollback
		}
		written.Add(int64(count))
		return nil
	}
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for written.Load() < enough {
				err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return write(random, tx) })
				if err != nil && !errors.Is(err, errRollback) {
					t.Error(err)
					return
				}
			}
		})
	}
	stop := make(chan struct{})
	for _, ticker := range []*Database{db, other} {
		reading.Go(func() {
			every(t, 3*time.Millisecond, stop, func() bool {
				_, err := ticker.Tick(ctx)
				if err != nil {
					t.Error(err)
				}
				return err == nil
			})
		})
	}
	read := func(s *Store, all *[]courante.Event) {
		var at courante.Cursor
		random := rand.New(rand.NewPCG(2, 2))
		every(t, 3*time.Millisecond, stop, func() bool {
			for {
				events, next, err := s.ReadLog(ctx, at, 1+random.IntN(300))
				if err != nil {
					t.Error(err)
					return false
				}
				*all, at = append(*all, events...), next
				if len(events) == 0 {
					return true
				}
			}
		})
	}
	var first, second []courante.Event
	reading.Go(func() { read(store, &first) })
	reading.Go(func() { read(otherStore, &second) })
	var naive int64
	reading.Go(func() {
		var at int64
		every(t, 3*time.Millisecond, stop, func() bool {
			var n, last int64
			err := pool.QueryRow(ctx, "select count(*), coalesce(max(position), $1) from orders.event where position > $1", at).Scan(&n, &last)
			if err != nil {
				t.Error(err)
			}
			naive, at = naive+n, last
			return err == nil
		})
	})
	writing.Wait()
	mustTick(t, db)
	close(stop)
	reading.Wait()

	// The foreign transaction is open still, and blocked nobody.
	checkOrder(t, store, "first reader", first)
	checkOrder(t, store, "second reader", second)
	if !slices.Equal(placesOf(first), placesOf(second)) {
		t.Error("the two readers saw different orders")
	}
	_, fresh := openLogAt(t, url)
	again, _ := readOn(t, fresh, courante.Cursor{}, 777)
	if !slices.Equal(placesOf(first), placesOf(again)) {
		t.Error("reading again gave another order")
	}
	ticks := checkTicks(t, store)
	if naive >= written.Load() {
		t.Errorf("a reader by position alone lost nothing of %d events: the workload proves nothing", written.Load())
	}
	t.Logf("%d events, %d ticks; a reader by position alone lost %d", len(first), ticks, written.Load()-naive)
}

var errRollback = errors.New("rolled back on purpose")

// every runs step at once and then at each interval, and a last time after
// stop, until step says no.
func every(t *testing.T, interval time.Duration, stop <-chan struct{}, step func() bool) {
	t.Helper()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for step() {
		select {
		case <-ticker.C:
		case <-stop:
			step()
			return
		}
	}
}

// Two tickers that race make no tick twice, none is lost, and a ticker without
// new events makes none.
func TestTickersRace(t *testing.T) {
	t.Parallel()
	url := startServer(t, ServerConfig{Dir: serverDir(t)}).URL("postgres")
	db, store := openLogAt(t, url)
	other, _ := openLogAt(t, url)
	if moved := mustTick(t, db); len(moved) != 0 {
		t.Errorf("Tick of an empty log moved %v", moved)
	}
	for round := range 200 {
		appendRaw(t, db, "order:1", int64(round)+1, int64(round)+1)
		start := make(chan struct{})
		var moves atomic.Int64
		var race sync.WaitGroup
		for _, ticker := range []*Database{db, other, db, other} {
			race.Go(func() {
				<-start
				moved, err := ticker.Tick(t.Context())
				if err != nil {
					t.Error(err)
				}
				moves.Add(int64(len(moved)))
			})
		}
		close(start)
		race.Wait()
		if got := moves.Load(); got != 1 {
			t.Fatalf("round %d: %d ticks for one event", round, got)
		}
	}
	if ticks := checkTicks(t, store); ticks != 200 {
		t.Errorf("got %d ticks for 200 events ticked one by one", ticks)
	}
	if moved := mustTick(t, db); len(moved) != 0 {
		t.Errorf("Tick without new events moved %v", moved)
	}
}

// A log that another process registers is ticked from the next call on.
func TestTickFindsNewLogs(t *testing.T) {
	t.Parallel()
	url := startServer(t, ServerConfig{Dir: serverDir(t)}).URL("postgres")
	db, _ := openLogAt(t, url)
	mustTick(t, db)
	other, err := Open(t.Context(), Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	if _, err := other.Store(t.Context(), "stock"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.pool.Exec(t.Context(), `insert into stock.event
		(version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		values (1, now(), 1, $1, 1, 'sku:1', 'shop.stocked', '', '', '', '', '{}')`, db.Epoch()); err != nil {
		t.Fatal(err)
	}
	if moved := mustTick(t, db); !slices.Equal(moved, []string{"stock"}) {
		t.Errorf("moved %v, want the new log", moved)
	}
}

// A tick of more events than a call may return is continued inside.
func TestReadInsideALargeTick(t *testing.T) {
	t.Parallel()
	url := startServer(t, ServerConfig{Dir: serverDir(t)}).URL("postgres")
	db, store := openLogAt(t, url)
	appendRaw(t, db, "order:small", 1, 3)
	mustTick(t, db)
	// One transaction of 5,000 that is open over several ticks.
	large, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer large.Rollback(context.Background())
	for v := range int64(5000) {
		if err := insertRaw(t.Context(), large, db.Epoch(), "order:large", v+1); err != nil {
			t.Fatal(err)
		}
		if v%1000 == 500 {
			appendRaw(t, db, fmt.Sprintf("order:between-%d", v), 1, 2)
			mustTick(t, db)
		}
	}
	if err := large.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendRaw(t, db, "order:small", 4, 6)
	mustTick(t, db)
	appendRaw(t, db, "order:small", 7, 9)
	mustTick(t, db)
	whole, _ := readOn(t, store, courante.Cursor{}, 100_000)
	checkOrder(t, store, "whole", whole)
	for _, max := range []int{1, 2, 7, 100, 999, 5003, 5006, 6000} {
		if max < 7 && testing.Short() {
			continue
		}
		pieces, _ := readOn(t, store, courante.Cursor{}, max)
		if !slices.Equal(placesOf(whole), placesOf(pieces)) {
			t.Errorf("%d events a call gave another order", max)
		}
	}
	// A cursor may stand behind any event, as the progress of a lane does.
	for i := 0; i < len(whole); i += 371 {
		e := whole[i]
		at := cursorAt(t, store, e.Tick, e.Position)
		rest, _ := readOn(t, store, at, 400)
		if !slices.Equal(placesOf(whole[i+1:]), placesOf(rest)) {
			t.Fatalf("reading from %s gave %d events, want %d", at, len(rest), len(whole)-i-1)
		}
	}
}

// Processes hear of each other's ticks, also after the connection that listens
// was cut.
func TestTickedAcrossProcesses(t *testing.T) {
	t.Parallel()
	url := startServer(t, ServerConfig{Dir: serverDir(t)}).URL("postgres")
	db, _ := openLogAt(t, url)
	other, _ := openLogAt(t, url)
	hears := func(what string) {
		t.Helper()
		select {
		case <-other.Ticked():
		case <-time.After(30 * time.Second):
			t.Fatal("not heard of: " + what)
		}
	}
	hears("listening has begun")
	appendRaw(t, db, "order:1", 1, 1)
	mustTick(t, db)
	hears("a tick")
	if _, err := db.pool.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen%'"); err != nil {
		t.Fatal(err)
	}
	hears("listening has begun again")
	appendRaw(t, db, "order:1", 2, 2)
	mustTick(t, db)
	hears("a tick after the cut")
}
