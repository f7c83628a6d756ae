//go:build linux || darwin

package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// run runs a program of PostgreSQL as the server's account.
func run(t *testing.T, s *Server, input []byte, program string, args ...string) []byte {
	t.Helper()
	// The program is ended when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := s.command(program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, stderr.Bytes())
	}
	return stdout.Bytes()
}

// writeHistory fills the log with what a crash can leave: a sealed part, events
// with ticks, events without, and a transaction that rolled back between them.
// It returns the cursor of a subscriber that is in the sealed part, and what it
// has read.
func writeHistory(t *testing.T, db *Database, s *Store) (read []courante.Event, at courante.Cursor) {
	t.Helper()
	for i := range int64(20) {
		appendRaw(t, db, fmt.Sprintf("order:%d", i%7), i/7+1, i/7+1)
		if i%3 == 0 {
			mustTick(t, db)
		}
		if i == 12 {
			if _, err := s.ClosePart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.SealPart(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustTick(t, db)
	read, at, err := s.ReadLog(t.Context(), courante.Cursor{}, 5)
	if err != nil {
		t.Fatal(err)
	}
	undone, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer undone.Rollback(context.Background())
	if err := insertRaw(t.Context(), undone, db.Epoch(), "order:undone", 1); err != nil {
		t.Fatal(err)
	}
	appendRaw(t, db, "order:late", 1, 5) // committed, and no tick sees it
	return read, at
}

// writeFuture goes on in a cluster that will be lost and returns the cursor of
// a subscriber that has read all of it.
func writeFuture(t *testing.T, db *Database, s *Store) courante.Cursor {
	t.Helper()
	for v := range int64(8) {
		appendRaw(t, db, "order:lost", v+1, v+1)
		mustTick(t, db)
	}
	_, at := readOn(t, s, courante.Cursor{}, 100)
	return at
}

// checkContinues checks what must hold in a cluster that took over from
// another: both processes that start at once agree on the epoch, what had no
// tick is the old epoch's last tick, a subscriber goes on without loss or
// repetition, new events follow, and a cursor from the lost future stops.
func checkContinues(t *testing.T, url string, before int32, read []courante.Event, at, lost courante.Cursor) {
	t.Helper()
	ctx := t.Context()
	dbs := make([]*Database, 4)
	var opening sync.WaitGroup
	for i := range dbs {
		opening.Go(func() {
			var err error
			if dbs[i], err = Open(ctx, Config{URL: url}); err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(dbs[i].Close)
		})
	}
	opening.Wait()
	if t.Failed() {
		t.FailNow()
	}
	db := dbs[0]
	for _, other := range dbs {
		if other.Epoch() != db.Epoch() || other.Epoch() <= before {
			t.Fatalf("epochs %d and %d after %d", db.Epoch(), other.Epoch(), before)
		}
	}
	store, err := db.Store(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	var closing, lastEpoch int32
	err = db.pool.QueryRow(ctx, "select n, epoch from courante.tick where log = 'orders' order by n desc limit 1").Scan(&closing, &lastEpoch)
	if err != nil {
		t.Fatal(err)
	}
	if lastEpoch != before {
		t.Errorf("the last tick is of epoch %d, want the old epoch's, %d", lastEpoch, before)
	}
	if moved := mustTick(t, db); len(moved) != 0 {
		t.Errorf("Tick moved %v, but nothing is new", moved)
	}
	rest, end := readOn(t, store, at, 100)
	for _, e := range rest {
		if e.Stream == "order:late" && e.Tick != int64(closing) {
			t.Errorf("%s is in tick %d, want the closing one, %d", e.ID(), e.Tick, closing)
		}
	}
	checkOrder(t, store, "subscriber after the change", slices.Concat(read, rest))

	// A cursor that is further than the log.
	checkBroken(t, store, lost, "missing")
	// New events of old and new streams; then the lost cursor's tick is there
	// again, with other contents.
	appendRaw(t, db, "order:late", 6, 9)
	mustTick(t, dbs[1])
	for v := int64(1); ; v++ {
		head, err := store.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if head.Tick >= lost.Tick {
			break
		}
		appendRaw(t, dbs[2], "order:new", v, v)
		mustTick(t, db)
	}
	news, _ := readOn(t, store, end, 2)
	checkOrder(t, store, "subscriber at the end", slices.Concat(read, rest, news))
	whole, _ := readOn(t, store, courante.Cursor{}, 1000)
	if !slices.Equal(placesOf(whole), placesOf(slices.Concat(read, rest, news))) {
		t.Error("a replay gave another order than the subscriber saw")
	}
	checkTicks(t, store)
	checkBroken(t, store, lost, "epoch")
	same := lost
	same.Epoch = db.Epoch()
	checkBroken(t, store, same, "contents")
}

func checkBroken(t *testing.T, s *Store, at courante.Cursor, reason string) {
	t.Helper()
	events, next, err := s.ReadLog(t.Context(), at, 10)
	var broken *courante.LogBrokenError
	if !errors.As(err, &broken) {
		t.Fatalf("reading from the lost cursor %s gave %d events and error %v, want a *LogBrokenError", at, len(events), err)
	}
	if broken.Log != "orders" || broken.Cursor != at || !strings.Contains(broken.Reason, reason) || !strings.Contains(err.Error(), "courante subscriber repair") {
		t.Errorf("error %q, want one about %q that names the repair", err, reason)
	}
	if next != at {
		t.Errorf("the cursor moved from %s to %s", at, next)
	}
}

// A dump restored into a new cluster: transaction ids there are small again.
func TestEpochAfterDumpAndRestore(t *testing.T) {
	t.Parallel()
	first := startServer(t, ServerConfig{Dir: serverDir(t)})
	db, store := openLogAt(t, first.URL("postgres"))
	// Each statement of this procedure is a transaction of its own.
	if _, err := db.pool.Exec(t.Context(), "do $$ begin for i in 1..5000 loop perform pg_current_xact_id(); commit; end loop; end $$"); err != nil {
		t.Fatal(err)
	}
	read, at := writeHistory(t, db, store)
	dump := run(t, first, nil, "pg_dump", "--dbname="+first.URL("postgres"))
	var old uint64
	if err := db.pool.QueryRow(t.Context(), "select max(xid) from orders.event").Scan(&old); err != nil {
		t.Fatal(err)
	}
	lost := writeFuture(t, db, store)
	db.Close()
	stopServer(t, first)

	second := startServer(t, ServerConfig{Dir: serverDir(t)})
	run(t, second, dump, "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname="+second.URL("postgres"))
	var now uint64
	if err := connect(t, second.URL("postgres")).QueryRow(t.Context(), "select pg_current_xact_id()").Scan(&now); err != nil {
		t.Fatal(err)
	}
	if now >= old {
		t.Fatalf("the new cluster is at transaction %d, past %d of the old one: the test shows nothing", now, old)
	}
	checkContinues(t, second.URL("postgres"), db.Epoch(), read, at, lost)
}

// A standby that is promoted without the primary's last transactions.
func TestEpochAfterPromotion(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	primary := startServer(t, ServerConfig{Dir: serverDir(t)})
	db, store := openLogAt(t, primary.URL("postgres"))
	dir := serverDir(t)
	if err := primary.account.own(dir); err != nil {
		t.Fatal(err)
	}
	run(t, primary, nil, "pg_basebackup", "--pgdata="+filepath.Join(dir, "data"), "--write-recovery-conf",
		"--checkpoint=fast", "--dbname="+primary.URL(""))
	standby := startServer(t, ServerConfig{Dir: dir})
	admin := connect(t, standby.URL("postgres"))

	read, at := writeHistory(t, db, store)
	var lsn string
	if err := db.pool.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&lsn); err != nil {
		t.Fatal(err)
	}
	await(t, "the standby has replayed the history", func() bool {
		var done bool
		if err := admin.QueryRow(ctx, "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", lsn).Scan(&done); err != nil {
			t.Fatal(err)
		}
		return done
	})
	if _, err := Open(ctx, Config{URL: standby.URL("postgres")}); !errors.Is(err, errStandby) {
		t.Errorf("Open on a standby: %v, want %v", err, errStandby)
	}

	// Cut it off, let the primary go on, and promote.
	for _, sql := range []string{"alter system set primary_conninfo = ''", "select pg_reload_conf()"} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the standby is cut off", func() bool {
		var senders int
		if err := db.pool.QueryRow(ctx, "select count(*) from pg_stat_replication").Scan(&senders); err != nil {
			t.Fatal(err)
		}
		return senders == 0
	})
	lost := writeFuture(t, db, store)
	if _, err := admin.Exec(ctx, "select pg_promote()"); err != nil {
		t.Fatal(err)
	}
	checkContinues(t, standby.URL("postgres"), db.Epoch(), read, at, lost)
}

// A process whose server is promoted beneath it, behind one address, goes on
// without a restart: its connections break, and the next ones learn the epoch.
// The ticks that it holds in memory of the lost future must not be used.
func TestEpochChangesUnderARunningProcess(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := serverDir(t)
	server := startServer(t, ServerConfig{Dir: dir})
	db, store := openLogAt(t, server.URL("postgres"))
	writeHistory(t, db, store)
	before := db.Epoch()
	dump := run(t, server, nil, "pg_dump", "--create", "--dbname="+server.URL("postgres"))
	lost := writeFuture(t, db, store)

	// The database is replaced by its backup, as another incarnation: the
	// registered system identifier is no longer the server's.
	if _, err := connect(t, server.URL("template1")).Exec(ctx, "drop database postgres with (force)"); err != nil {
		t.Fatal(err)
	}
	run(t, server, dump, "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname="+server.URL("template1"))
	if _, err := connect(t, server.URL("postgres")).Exec(ctx, "update courante.epoch set system_identifier = system_identifier + 1"); err != nil {
		t.Fatal(err)
	}
	await(t, "the process is connected again", func() bool {
		return db.pool.Ping(ctx) == nil && db.log.pool.Ping(ctx) == nil
	})
	checkBroken(t, store, lost, "missing")
	for v := int64(6); v < 16; v++ {
		appendRaw(t, db, "order:late", v, v)
		mustTick(t, db)
	}
	checkBroken(t, store, lost, "epoch")
	all, end := readOn(t, store, courante.Cursor{}, 100)
	checkOrder(t, store, "after the change", all)
	if end.Epoch <= before {
		t.Errorf("the log ends in epoch %d, it began in %d", end.Epoch, before)
	}
	checkTicks(t, store)
}

// Ticks are refused where a snapshot would be wrong.
func TestTickOnAStandby(t *testing.T) {
	t.Parallel()
	server := startServer(t, ServerConfig{Dir: serverDir(t)})
	db, _ := openLogAt(t, server.URL("postgres"))
	appendRaw(t, db, "order:1", 1, 1)
	conn, err := db.log.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	epoch, err := db.epochOf(t.Context(), conn.Conn())
	if err != nil {
		t.Fatal(err)
	}
	logs, err := readLogs(t.Context(), conn, db.schema)
	if err != nil {
		t.Fatal(err)
	}
	// A read-only transaction fails as a standby does.
	err = pgx.BeginTxFunc(t.Context(), conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, err := runTick(t.Context(), tx.Conn(), tickSQL(db.schema, logs), epoch)
		return err
	})
	if !onStandby(err) {
		t.Errorf("tick where nothing can be written: %v", err)
	}
}
