//go:build linux || darwin

package postgres

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// insertMany appends events set-wise, in transactions of size each, as the
// store would have in many calls. The streams are new.
func insertMany(t testing.TB, conn *pgx.Conn, s *Store, name string, transactions, size int) {
	t.Helper()
	// A procedural block may commit between its statements; each iteration is
	// a transaction of its own.
	_, err := conn.Exec(t.Context(), s.sql(fmt.Sprintf(`
		do $$ begin
		for i in 1..%d loop
			insert into {schema}.event (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
			select 1, now(), 1, %d, 1, 'order:%s-' || i || '-' || j, 'shop.order_placed', 'order-' || j, 'place_order', '',
			       '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
			       '{"order":"0198c2f4","lines":[{"sku":"A-1001","quantity":2},{"sku":"A-1002","quantity":2},{"sku":"B-7","quantity":1}]}'
			from generate_series(1, %d) j;
			commit;
		end loop;
		end $$`, transactions, s.db.Epoch(), name, size)))
	if err != nil {
		t.Fatal(err)
	}
}

// insertHistory adds old events and the ticks that they would have had,
// set-wise: a log as it is after months, without the months. They are of an
// epoch of their own, each event of its own transaction, and a foreign
// transaction was open throughout.
func insertHistory(t testing.TB, conn *pgx.Conn, s *Store, epoch, events, perTick int) {
	t.Helper()
	for _, sql := range []string{
		`insert into {schema}.event (xid, version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		select (i + 1000)::text::xid8, 1, now(), 1, %[1]d, 1, 'order:%[1]d-' || i, 'shop.order_placed', 'order-' || i, 'place_order', '',
		       '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
		       '{"order":"0198c2f4","lines":[{"sku":"A-1001","quantity":2},{"sku":"A-1002","quantity":2},{"sku":"B-7","quantity":1}]}'
		from generate_series(1, %[2]d) i`,
		`insert into {ticker}.tick (log, n, epoch, high, snapshot)
		select 'orders', (select count(*) from {ticker}.tick) + n, %[1]d, (select last_value from {schema}.event_position) - %[2]d + n * %[3]d, format('900:%%s:900', n * %[3]d + 1001)::pg_snapshot
		from generate_series(1, %[2]d / %[3]d) n`,
		`analyze {schema}.event`,
	} {
		sql = strings.ReplaceAll(s.sql(fmt.Sprintf(sql+" -- %[1]d %[2]d %[3]d", epoch, events, perTick)), "{ticker}", s.db.schema)
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTickStaysFlat holds a foreign write transaction open during a million
// events: what a tick and a read cost at the end must be what they cost at the
// beginning. They are counted in pages that the server touched, which a busy
// machine does not change.
func TestTickStaysFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("appends a million events")
	}
	t.Parallel()
	url := startServer(t, ServerConfig{Dir: serverDir(t), Settings: map[string]string{"synchronous_commit": "off"}}).URL("postgres")
	db, store := openLogAt(t, url)
	conn, foreign := connect(t, url), connect(t, url)
	for _, sql := range []string{"create table other (n int)", "begin", "insert into other values (1)"} {
		if _, err := foreign.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	insertMany(t, conn, store, "first", 50, 10)
	mustTick(t, db)
	at, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// cost is what a tick and the read of 500 new events touch.
	cost := func(name string) (tick, read int) {
		t.Helper()
		insertMany(t, conn, store, name, 50, 10)
		tick = touched(t, db, store, func(conn *pgx.Conn, epoch int32) (string, []any) {
			logs, err := readLogs(t.Context(), conn, db.schema)
			if err != nil {
				t.Fatal(err)
			}
			return tickSQL(db.schema, logs), []any{epoch}
		})
		before := cursorTick(t, store, at.Tick)
		head, err := store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if head.Tick != at.Tick+1 {
			t.Fatalf("the explained tick made tick %d after %d", head.Tick, at.Tick)
		}
		last := cursorTick(t, store, head.Tick)
		read = touched(t, db, store, func(*pgx.Conn, int32) (string, []any) {
			return store.windowEvents(logColumns, "") + " limit $7", append(windowArgs(before, []courante.Tick{last}), 10_000)
		})
		events, next := readOn(t, store, at, 10_000)
		if len(events) != 500 {
			t.Fatalf("%s: read %d events, want the 500 new ones", name, len(events))
		}
		at = next
		return tick, read
	}
	cost("warm") // the catalogue's pages are read once
	tick, read := cost("early")
	for i := range 20 {
		insertMany(t, conn, store, strconv.Itoa(i), 500, 100)
		mustTick(t, db)
	}
	if at, err = store.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	lateTick, lateRead := cost("late")
	t.Logf("pages touched after 1,000 and after 1,000,000 events: tick %d, %d; read of 500 events %d, %d", tick, lateTick, read, lateRead)
	if lateTick > 2*tick {
		t.Errorf("a tick touches %d pages after a million events, %d at the start", lateTick, tick)
	}
	if lateRead > 2*read {
		t.Errorf("a read of 500 events touches %d pages after a million events, %d at the start", lateRead, read)
	}
}

// TestPlannedEarlyStaysFlat has PostgreSQL plan the tick, and the read of what a
// tick made visible, while the log is empty and nothing is known of it. A
// connection that was there from the first day keeps such plans for as long as
// it lives.
func TestPlannedEarlyStaysFlat(t *testing.T) {
	t.Parallel()
	url := startServer(t, ServerConfig{Dir: serverDir(t), Settings: map[string]string{"autovacuum": "off"}}).URL("postgres")
	db, store := openLogAt(t, url)
	conn, err := db.log.pool.Acquire(t.Context()) // which plans as the ticker and the readers do
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	foreign := connect(t, url)
	must(t, foreign, "create table other (n int)")
	logs, err := readLogs(t.Context(), conn, db.schema)
	if err != nil {
		t.Fatal(err)
	}
	epoch, err := db.epochOf(t.Context(), conn.Conn())
	if err != nil {
		t.Fatal(err)
	}
	must(t, conn.Conn(),
		"prepare early_tick(int) as "+tickSQL(db.schema, logs),
		"prepare early_read(int, xid8, xid8, xid8[], xid8[], bigint) as "+store.windowEvents(logColumns, ""))
	tick := fmt.Sprintf("execute early_tick(%d)", epoch)
	read := func(args []any) string {
		for i, a := range args {
			if xids, ok := a.([]uint64); ok {
				args[i] = "array" + strings.ReplaceAll(fmt.Sprint(xids), " ", ",") + "::text[]::xid8[]"
			} else {
				args[i] = fmt.Sprintf("'%v'", a)
			}
		}
		return fmt.Sprintf("execute early_read(%s, %s, %s, %s, %s, %s)", args...)
	}
	must(t, conn.Conn(), tick, read([]any{0, 1, 1, []uint64{}, []uint64{1}, 1})) // which plans them
	// Nothing is new but the end of a transaction that was under way at the last
	// tick, of another log: both have to look whether it was of this one.
	cost := func(name string) (ticked, seen int) {
		t.Helper()
		must(t, foreign, "begin", "insert into other values (1)")
		insertMany(t, conn.Conn(), store, name, 1, 1)
		mustTick(t, db)
		before, err := store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		must(t, foreign, "commit")
		ticked = pagesOf(t, conn.QueryRow(t.Context(), "explain (analyze, buffers, format json) "+tick))
		insertMany(t, conn.Conn(), store, name+"-next", 1, 1)
		mustTick(t, db)
		args := windowArgs(cursorTick(t, store, before.Tick), []courante.Tick{cursorTick(t, store, before.Tick+1)})
		if ended, ok := args[4].([]uint64); !ok || len(ended) != 1 {
			t.Fatalf("ended between the ticks: %v, want the other log's transaction", args[4])
		}
		return ticked, pagesOf(t, conn.QueryRow(t.Context(), "explain (analyze, buffers, format json) "+read(args)))
	}
	cost("warm") // the catalogue's pages are read once
	earlyTick, earlyRead := cost("early")
	for i := range 10 {
		insertMany(t, conn.Conn(), store, strconv.Itoa(i), 500, 10)
		mustTick(t, db)
	}
	lateTick, lateRead := cost("late")
	if lateTick > 2*earlyTick {
		t.Errorf("a tick touches %d pages after 50,000 events, %d at the start", lateTick, earlyTick)
	}
	if lateRead > 2*earlyRead {
		t.Errorf("a read of one event touches %d pages after 50,000 events, %d at the start", lateRead, earlyRead)
	}
}

func must(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// cursorTick is the stored tick n.
func cursorTick(t testing.TB, s *Store, n int64) courante.Tick {
	t.Helper()
	rows, err := s.db.pool.Query(t.Context(), "select n, epoch, high, snapshot::text from "+s.db.schema+".tick where log = $1 and n = $2", s.name, n)
	if err != nil {
		t.Fatal(err)
	}
	ticks, err := scanTicks(rows)
	if err != nil || len(ticks) != 1 {
		t.Fatalf("tick %d: %v, %v", n, ticks, err)
	}
	return ticks[0]
}

// touched runs the statement on a connection of the log's readers and returns
// how many pages it touched.
func touched(t testing.TB, db *Database, s *Store, statement func(conn *pgx.Conn, epoch int32) (string, []any)) int {
	t.Helper()
	conn, err := db.log.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	epoch, err := db.epochOf(t.Context(), conn.Conn())
	if err != nil {
		t.Fatal(err)
	}
	sql, args := statement(conn.Conn(), epoch)
	return pagesOf(t, conn.QueryRow(t.Context(), "explain (analyze, buffers, format json) "+sql, args...))
}

// pagesOf reads from an explained statement how many pages it touched.
func pagesOf(t testing.TB, row pgx.Row) int {
	t.Helper()
	var text []byte
	if err := row.Scan(&text); err != nil {
		t.Fatal(err)
	}
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil || len(plans) != 1 {
		t.Fatalf("plan %s: %v", text, err)
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read
}

// BenchmarkRelay reads a log in its total order, 2,000 events a call. An
// operation is an event.
//
//	events-a-tick=400   a busy log, as written at 50,000 events/s and 100 ticks/s
//	events-a-tick=3     a quiet log: hundreds of ticks a call
//	head                what is new, with old events and ticks behind it
//
// COURANTE_BENCH_OLD is how many old events there are, ten to a tick; the
// figures must not depend on it.
func BenchmarkRelay(b *testing.B) {
	old, _ := strconv.Atoi(os.Getenv("COURANTE_BENCH_OLD"))
	db, store := openTest(b)
	conn := testConn(b)
	if old > 0 {
		insertHistory(b, conn, store, -3, old, 10)
	}
	for i, perTick := range []int{400, 3} {
		start, err := store.Head(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		insertHistory(b, conn, store, i-2, 240_000, perTick)
		b.Run(fmt.Sprintf("events-a-tick=%d/old=%d", perTick, old), func(b *testing.B) {
			for n := 0; n < b.N; {
				at := start
				for n < b.N {
					list, next, err := store.ReadLog(b.Context(), at, min(2000, b.N-n))
					if err != nil {
						b.Fatal(err)
					}
					if len(list) == 0 {
						break
					}
					n, at = n+len(list), next
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
	b.Run(fmt.Sprintf("head/old=%d", old), func(b *testing.B) {
		b.StopTimer()
		at, err := store.Head(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		var ticking time.Duration
		for n := 0; n < b.N; {
			insertMany(b, conn, store, fmt.Sprintf("%d-%d", b.N, n), 50, 10)
			began := time.Now()
			mustTick(b, db)
			ticking += time.Since(began)
			b.StartTimer()
			list, next, err := store.ReadLog(b.Context(), at, 2000)
			b.StopTimer()
			if err != nil || len(list) != 500 {
				b.Fatalf("read %d events, %v; want 500", len(list), err)
			}
			n, at = n+len(list), next
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64(ticking.Microseconds())/float64((b.N+499)/500), "us/tick")
	})
}
