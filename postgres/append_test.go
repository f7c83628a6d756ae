//go:build linux || darwin

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

func noted() courante.Event {
	return courante.Event{Type: "test.noted", Schema: 1, Time: time.Unix(0, 0), Data: json.RawMessage(`{"n":1}`)}
}

func notedTimes(n int) []courante.Event {
	events := make([]courante.Event, n)
	for i := range events {
		events[i] = noted()
	}
	return events
}

func mustAppend(t testing.TB, s *Store, stream string, expected int64, n int) {
	t.Helper()
	if _, err := s.Append(t.Context(), stream, expected, notedTimes(n)...); err != nil {
		t.Fatal(err)
	}
}

func wantConflict(t testing.TB, err error) {
	t.Helper()
	var conflict *courante.ConflictError
	if !errors.As(err, &conflict) {
		t.Errorf("error %v, want a conflict", err)
	}
}

func wantVersions(t testing.TB, s *Store, stream string, n int64) {
	t.Helper()
	last := int64(0)
	for e, err := range s.ReadStream(t.Context(), stream, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Version != last+1 {
			t.Errorf("%s: version %d follows %d", stream, e.Version, last)
		}
		last = e.Version
	}
	if last != n {
		t.Errorf("%s ends with version %d, want %d", stream, last, n)
	}
}

// hold writes a version of a stream in a transaction of somebody else that
// stays open.
func hold(t testing.TB, s *Store, stream string, version int64) pgx.Tx {
	t.Helper()
	tx, err := testConn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	insertAs(t, s, tx, stream, version)
	return tx
}

func insertAs(t testing.TB, s *Store, tx pgx.Tx, stream string, version int64) {
	t.Helper()
	_, err := tx.Exec(t.Context(), s.sql(`insert into {schema}.event
		(version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		values ($1, now(), $4, $2, 1, $3, 'test.noted', '', '', '', '', '{}')`), version, s.db.epoch, stream, s.part.Load())
	if err != nil {
		t.Fatal(err)
	}
}

// eventually asks again until it is so: for what another process does.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// waiting reports whether n sessions wait for somebody's transaction in an
// append to the store's log.
func waiting(t testing.TB, conn *pgx.Conn, s *Store, n int) func() bool {
	return func() bool {
		var have int
		err := conn.QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where wait_event = 'transactionid' and strpos(query, $1 || '.event') > 0`, s.quoted).Scan(&have)
		if err != nil {
			t.Fatal(err)
		}
		return have >= n
	}
}

type result struct {
	stream string
	err    error
}

// appendAll starts an append to each of the streams.
func appendAll(ctx context.Context, s *Store, expected int64, streams ...string) chan result {
	results := make(chan result, len(streams))
	for _, stream := range streams {
		go func() {
			_, err := s.Append(ctx, stream, expected, noted())
			results <- result{stream, err}
		}()
	}
	return results
}

func streamNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("order:%02d", i)
	}
	return names
}

func oneCommitter(c *Config) { c.Committers = 1 }

func TestAppendTraps(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T, opener){
		"behind an open transaction that commits, nothing of the append stays":   testHeldVersionCommitted,
		"behind an open transaction that rolls back, the append goes through":    testHeldVersionRolledBack,
		"one stream that is held does not hold up 63 others":                     testNeighboursGoOn,
		"a caller that gives up is told whether something may have been written": testCanceled,
		"of 64 callers for one version exactly one wins":                         testOneWinner,
		"64 callers that try again all get through":                              testNoStarvation,
		"bad input is refused and neighbours are not":                            testBadInput,
		"a group that is a deadlock's victim is repeated":                        testDeadlock,
		"a connection lost with the answer leaves the outcome unknown":           testLostAnswer,
		"a session that is ended has written nothing, and the next is opened":    testTerminated,
		"close writes what was handed over":                                      testCloseDrains,
		"appends go on while parts are closed":                                   testPartClosed,
		"several processes append to the same streams":                           testProcesses,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, openConfig)
		})
		t.Run(name+", the server having to look", func(t *testing.T) {
			t.Parallel()
			test(t, openSecondPart)
		})
	}
}

// opener opens the store that is attacked.
type opener func(testing.TB, Config) (*Database, *Store)

// openSecondPart opens a store with a closed part. No new stream is known to
// be new there, so that the server has to look for what is appended first.
func openSecondPart(t testing.TB, config Config) (*Database, *Store) {
	t.Helper()
	db, s := openConfig(t, config)
	if s.part.Load() == 1 {
		if _, err := s.ClosePart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.refreshPart(t.Context(), db.pool); err != nil {
			t.Fatal(err)
		}
	}
	return db, s
}

func testHeldVersionCommitted(t *testing.T, open opener) {
	_, s := openWith(t, open, oneCommitter)
	mustAppend(t, s, "order:1", 0, 4)
	tx := hold(t, s, "order:1", 5)
	done := make(chan error)
	go func() {
		_, err := s.Append(t.Context(), "order:1", 4, notedTimes(3)...)
		done <- err
	}()
	eventually(t, "the append to wait", waiting(t, testConn(t), s, 1))
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantConflict(t, <-done)
	wantVersions(t, s, "order:1", 5)
}

func testHeldVersionRolledBack(t *testing.T, open opener) {
	_, s := openWith(t, open, oneCommitter)
	mustAppend(t, s, "order:1", 0, 4)
	tx := hold(t, s, "order:1", 5)
	done := make(chan error)
	go func() {
		_, err := s.Append(t.Context(), "order:1", 4, notedTimes(3)...)
		done <- err
	}()
	eventually(t, "the append to wait", waiting(t, testConn(t), s, 1))
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("append: %v", err)
	}
	wantVersions(t, s, "order:1", 7)
}

func testNeighboursGoOn(t *testing.T, open opener) {
	_, s := openWith(t, open, oneCommitter, func(c *Config) { c.AppendTimeout = time.Minute })
	names := streamNames(64)
	tx := hold(t, s, names[30], 1)
	for round := range int64(3) { // later ones for the held stream wait with it
		results := appendAll(t.Context(), s, round, append(names[:30:30], names[31:]...)...)
		if round == 0 {
			held := appendAll(t.Context(), s, 0, names[30])
			defer func() {
				if err := tx.Commit(t.Context()); err != nil {
					t.Error(err)
				}
				wantConflict(t, (<-held).err)
				wantVersions(t, s, names[30], 1)
				mustAppend(t, s, names[30], 1, 1)
			}()
		}
		for range 63 {
			if r := <-results; r.err != nil {
				t.Errorf("append to %s: %v", r.stream, r.err)
			}
		}
	}
}

func testCanceled(t *testing.T, open opener) {
	_, s := openWith(t, open, oneCommitter, func(c *Config) { c.AppendTimeout = time.Minute })
	tx := hold(t, s, "order:1", 1)
	ctx, cancel := context.WithCancel(t.Context())
	sent := appendAll(ctx, s, 0, "order:1")
	q := s.appender.queue
	eventually(t, "the append to be set apart", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.held["order:1"] && q.busy == 0
	})
	queued := appendAll(ctx, s, 0, "order:1")
	eventually(t, "the second to wait behind it", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.calls) == 1
	})
	cancel()
	if err := (<-sent).err; !errors.Is(err, courante.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("the one that was sent: %v, want canceled with unknown outcome", err)
	}
	if err := (<-queued).err; errors.Is(err, courante.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("the one that was not: %v, want canceled and nothing else", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream to be released", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return !q.held["order:1"]
	})
	wantVersions(t, s, "order:1", 1) // the first went through, the second never ran
}

func testOneWinner(t *testing.T, open opener) {
	_, s := openWith(t, open)
	for round := range int64(5) {
		names := make([]string, 64)
		for i := range names {
			names[i] = "order:1"
		}
		results, won := appendAll(t.Context(), s, round, names...), 0
		for range names {
			if r := <-results; r.err == nil {
				won++
			} else {
				wantConflict(t, r.err)
			}
		}
		if won != 1 {
			t.Fatalf("%d callers appended version %d, want 1", won, round+1)
		}
	}
	wantVersions(t, s, "order:1", 5)
}

func testNoStarvation(t *testing.T, open opener) {
	_, s := openWith(t, open)
	var last atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				expected := last.Load()
				_, err := s.Append(t.Context(), "order:1", expected, noted())
				if err == nil {
					last.Store(expected + 1)
					return
				}
				var conflict *courante.ConflictError
				if !errors.As(err, &conflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	wantVersions(t, s, "order:1", 64)
}

func testBadInput(t *testing.T, open opener) {
	_, s := openWith(t, open, oneCommitter)
	with := func(change func(*courante.Event)) courante.Event {
		e := noted()
		change(&e)
		return e
	}
	bad := map[string]courante.Event{
		"NUL in a text":           with(func(e *courante.Event) { e.Correlation = "a\x00b" }),
		"invalid UTF-8 in a text": with(func(e *courante.Event) { e.Type = "a\xff" }),
		"no JSON":                 with(func(e *courante.Event) { e.Data = json.RawMessage(`{`) }),
		"invalid UTF-8 in JSON":   with(func(e *courante.Event) { e.Data = json.RawMessage("\"\xff\"") }),
		"NUL in JSON":             with(func(e *courante.Event) { e.Data = json.RawMessage(`{"a":"\\\u0000"}`) }),
		"NUL in notes":            with(func(e *courante.Event) { e.Notes = &courante.Notes{Clear: []string{"\x00"}} }),
		"too large":               with(func(e *courante.Event) { e.Data = json.RawMessage(`"` + strings.Repeat("x", MaxEvent) + `"`) }),
	}
	good := appendAll(t.Context(), s, 0, streamNames(64)...)
	for name, event := range bad {
		_, err := s.Append(t.Context(), "order:bad", 0, event)
		if err == nil || errors.Is(err, courante.ErrTransient) {
			t.Errorf("%s: error %v, want one that does not pass by itself", name, err)
		}
		if errors.Is(err, courante.ErrTooLarge) != (name == "too large") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for range 64 {
		if r := <-good; r.err != nil {
			t.Errorf("append to %s: %v", r.stream, r.err)
		}
	}
	wantVersions(t, s, "order:bad", 0)
	// The escaped backslash before u0000 makes it harmless.
	if _, err := s.Append(t.Context(), "order:bad", 0, with(func(e *courante.Event) { e.Data = json.RawMessage(`"\\u0000"`) })); err != nil {
		t.Error(err)
	}
}

func testDeadlock(t *testing.T, open opener) {
	_, s := openWith(t, open, oneCommitter, func(c *Config) {
		c.LockTimeout, c.AppendTimeout = time.Minute, time.Minute
		// Who waits looks for a deadlock once, after this time: by then the
		// other waits as well, and looks later.
		c.URL = withParam(t, c.URL, "deadlock_timeout", "3s")
	})
	conn := testConn(t)
	first := hold(t, s, "order:first", 1) // keeps the committer busy
	busy := appendAll(t.Context(), s, 0, "order:first")
	eventually(t, "the committer to wait", waiting(t, conn, s, 1))
	pair := appendAll(t.Context(), s, 0, "order:a", "order:b")
	q := s.appender.queue
	eventually(t, "two appends to queue up", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.calls) == 2
	})
	other := hold(t, s, "order:b", 1)
	if _, err := other.Exec(t.Context(), "set local deadlock_timeout = '1min'"); err != nil {
		t.Fatal(err)
	}
	if err := first.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := <-busy; r.err != nil {
		t.Fatal(r.err)
	}
	eventually(t, "the group of two to wait", waiting(t, conn, s, 1))
	// The group has a and waits for b; now the other wants a.
	insertAs(t, s, other, "order:a", 1)
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantConflict(t, (<-pair).err)
	}
	wantVersions(t, s, "order:a", 1)
	wantVersions(t, s, "order:b", 1)
}

func withParam(t testing.TB, address, name, value string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String()
}

func testTerminated(t *testing.T, open opener) {
	_, s := openWith(t, open, oneCommitter, func(c *Config) { c.LockTimeout, c.AppendTimeout = time.Minute, time.Minute })
	conn := testConn(t)
	tx := hold(t, s, "order:1", 1)
	results := appendAll(t.Context(), s, 0, "order:1")
	eventually(t, "the append to wait", waiting(t, conn, s, 1))
	_, err := conn.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity
		where wait_event = 'transactionid' and strpos(query, $1) > 0 and pid <> pg_backend_pid()`, s.quoted)
	if err != nil {
		t.Fatal(err)
	}
	if r := <-results; !errors.Is(r.err, courante.ErrTransient) || errors.Is(r.err, courante.ErrUnknownOutcome) {
		t.Errorf("error %v, want a transient one with a known outcome", r.err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "order:1", 0, 1)
}

func testCloseDrains(t *testing.T, open opener) {
	db, s := openWith(t, open, oneCommitter)
	names := streamNames(64)
	results := appendAll(t.Context(), s, 0, names...)
	first := <-results
	db.Close()
	written := 0
	if first.err == nil {
		written++
	}
	for range 63 {
		if r := <-results; r.err == nil {
			written++
		} else if !errors.Is(r.err, courante.ErrClosed) {
			t.Errorf("append to %s: %v", r.stream, r.err)
		}
	}
	var stored int
	if err := testConn(t).QueryRow(t.Context(), s.sql("select count(*) from {schema}.event")).Scan(&stored); err != nil {
		t.Fatal(err)
	}
	if stored != written {
		t.Errorf("%d events are stored, %d callers were told so", stored, written)
	}
	if _, err := s.Append(t.Context(), "order:late", 0, noted()); !errors.Is(err, courante.ErrClosed) {
		t.Errorf("append after close: %v, want ErrClosed", err)
	}
}

func testPartClosed(t *testing.T, open opener) {
	_, s := openWith(t, open)
	mustAppend(t, s, "order:old", 0, 3)
	stop, appended := make(chan struct{}), make(chan int64)
	go func() {
		n := int64(0)
		defer func() { appended <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.Append(t.Context(), "order:busy", n, noted()); err != nil {
				t.Error(err)
				return
			}
			n++
		}
	}()
	for range 3 {
		if _, err := s.ClosePart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wantVersions(t, s, "order:busy", <-appended)
	for _, expected := range []int64{0, 1, 2, 4} {
		_, err := s.Append(t.Context(), "order:old", expected, noted())
		wantConflict(t, err)
	}
	mustAppend(t, s, "order:old", 3, 2)
	_, err := s.Append(t.Context(), "order:old", 3, noted())
	wantConflict(t, err)
	mustAppend(t, s, "order:new", 0, 1)
	wantVersions(t, s, "order:old", 5)
}

// testProcesses has three processes race for the same ten streams; every
// append that was confirmed is there, once, and the streams are dense.
func testProcesses(t *testing.T, open opener) {
	config := NewTestConfig(t)
	const each, processes = 100, 3
	names := streamNames(10)
	var stores []*Store
	for range processes {
		_, s := open(t, config)
		stores = append(stores, s)
	}
	var confirmed [10]atomic.Int64
	var wg sync.WaitGroup
	for _, s := range stores {
		for i, name := range names {
			wg.Go(func() {
				for n, expected := 0, int64(0); n < each; {
					_, err := s.Append(t.Context(), name, expected, notedTimes(2)...)
					var conflict *courante.ConflictError
					switch {
					case err == nil:
						confirmed[i].Add(2)
						n++
						expected += 2
					case errors.As(err, &conflict):
						expected += 2
					default:
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for i, name := range names {
		if got := confirmed[i].Load(); got != 2*each*processes {
			t.Errorf("%s: %d events were confirmed, want %d", name, got, 2*each*processes)
		}
		wantVersions(t, stores[0], name, confirmed[i].Load())
	}
}
