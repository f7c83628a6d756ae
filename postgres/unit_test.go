//go:build linux || darwin

package postgres

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

func mustBegin(t testing.TB, s *Store) courante.Unit {
	t.Helper()
	u, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Rollback(t.Context()) })
	return u
}

func commit(t testing.TB, s *Store, c courante.Changes) error {
	t.Helper()
	_, err := mustBegin(t, s).Commit(t.Context(), c)
	return err
}

func eventAt(stream string, version int64) courante.Event {
	e := noted()
	e.Stream, e.Version = stream, version
	return e
}

// A version that somebody else's open transaction holds makes the unit wait;
// when that commits the unit conflicts, and names this stream and no other.
func TestUnitBehindAnOpenTransaction(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	tx := hold(t, s, "order:2", 1)
	done := make(chan error)
	go func() {
		done <- commit(t, s, courante.Changes{Events: []courante.Event{eventAt("order:1", 1), eventAt("order:2", 1), eventAt("order:2", 2)}})
	}()
	conn := testConn(t)
	eventually(t, "the unit to wait", func() bool {
		var n int
		if err := conn.QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where wait_event = 'transactionid' and strpos(query, $1) > 0 and pid <> pg_backend_pid()`, s.quoted).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := <-done
	var conflict *courante.ConflictError
	if !errors.As(err, &conflict) || !slices.Equal(conflict.Streams, []string{"order:2"}) {
		t.Errorf("error %v, want a conflict on order:2", err)
	}
	wantVersions(t, s, "order:1", 0)
	wantVersions(t, s, "order:2", 1)
}

// A part that closes under a unit that holds locks is the caller's to repeat;
// one that has read nothing is repeated by the store.
func TestUnitAndClosedPart(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, s := openConfig(t, config)
	_, other := openConfig(t, config)
	if _, err := other.ClosePart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := commit(t, s, courante.Changes{Events: []courante.Event{eventAt("order:1", 1)}}); err != nil {
		t.Errorf("a unit that loaded nothing: %v", err)
	}
	if _, err := other.ClosePart(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := mustBegin(t, s)
	if _, err := u.Load(t.Context(), []courante.Key{{Category: "order", ID: "1", Sourced: true}}, nil); err != nil {
		t.Fatal(err)
	}
	c := courante.Changes{Events: []courante.Event{eventAt("order:1", 2)}}
	_, err := u.Commit(t.Context(), c)
	var conflict *courante.ConflictError
	if !errors.As(err, &conflict) || len(conflict.Streams) > 0 {
		t.Errorf("a unit that has loaded: error %v, want a conflict on no stream, so that it is decided again", err)
	}
	if err := commit(t, s, c); err != nil {
		t.Errorf("the next unit: %v", err)
	}
	wantVersions(t, s, "order:1", 2)

	// A rehearsal finds out too, and the next one does not find it again.
	if _, err := other.ClosePart(t.Context()); err != nil {
		t.Fatal(err)
	}
	c = courante.Changes{Events: []courante.Event{eventAt("order:1", 3)}}
	if err := mustBegin(t, s).Rehearse(t.Context(), c); !errors.As(err, &conflict) || len(conflict.Streams) > 0 {
		t.Errorf("a rehearsal: error %v, want a conflict on no stream", err)
	}
	if err := mustBegin(t, s).Rehearse(t.Context(), c); err != nil {
		t.Errorf("the next rehearsal: %v", err)
	}
	wantVersions(t, s, "order:1", 2)
}

var lane = courante.Lane{Subscriber: "test", Log: "orders", Epoch: 1}

func recordProgress(t testing.TB, s *Store, lane courante.Lane, n int64) error {
	t.Helper()
	return commit(t, s, courante.Changes{Progress: []courante.Progress{{Lane: lane, N: n, Cursor: courante.Cursor{Tick: n}, Note: json.RawMessage(`"note"`)}}})
}

// TestIdleLaneIsMovedOn: a range of progress that a busy lane has left far
// behind goes, though an idle lane is in it. The idle lane keeps its place in
// the log under a higher number, and who knows only the old number is fenced.
func TestIdleLaneIsMovedOn(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	idle, busy := lane, lane
	busy.K = 1
	for n := range int64(3) {
		if err := recordProgress(t, s, idle, n+1); err != nil {
			t.Fatal(err)
		}
	}
	conn := testConn(t)
	for i := range int64(3) { // as if it had recorded all numbers up to there
		if err := s.Maintain(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		mustExec(t, conn, s, `insert into {schema}.progress (n, epoch, lane_epoch, k, tick, position, hash, subscriber, log)
			values ($1, 1, 1, 1, 5, 5, 5, 'test', 'orders')`, i*progressSpan+7)
	}
	if err := s.Maintain(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if first, _, err := s.progressRange(t.Context()); err != nil || first != progressSpan {
		t.Errorf("progress begins with number %d (error %v), want %d", first, err, progressSpan)
	}
	for _, n := range []int64{1, 3, 4, 5} {
		if err := recordProgress(t, s, idle, n); !errors.Is(err, courante.ErrFenced) {
			t.Errorf("number %d of the idle lane: %v, want fenced", n, err)
		}
	}
	p, err := s.Progress(t.Context(), idle)
	if err != nil {
		t.Fatal(err)
	}
	if p.N != 2*progressSpan || p.Cursor.Tick != 3 || string(p.Note) != `"note"` {
		t.Errorf("the idle lane is at %+v, want number %d at tick 3 with its note", p, 2*progressSpan)
	}
	for _, next := range []struct {
		lane courante.Lane
		n    int64
	}{{idle, p.N + 1}, {busy, 2*progressSpan + 8}} {
		if err := recordProgress(t, s, next.lane, next.n); err != nil {
			t.Errorf("the next number of lane %d: %v", next.lane.K, err)
		}
	}
}

// TestProgressAheadOfPartitions: a lane that comes to a range for which nobody
// has made the partition is held up once.
func TestProgressAheadOfPartitions(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	mustExec(t, testConn(t), s, `insert into {schema}.progress (n, epoch, lane_epoch, k, tick, position, hash, subscriber, log)
		values ($1, 1, 1, 0, 5, 5, 5, 'test', 'orders')`, 2*progressSpan-1)
	if err := recordProgress(t, s, lane, 2*progressSpan); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("error %v, want a transient one", err)
	}
	if err := recordProgress(t, s, lane, 2*progressSpan); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

// TestRepliesAreDropped: a reply is kept for eight days, and goes with its day.
func TestRepliesAreDropped(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	if err := commit(t, s, courante.Changes{Replies: []courante.Reply{{Key: "k", Body: json.RawMessage(`1`)}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Maintain(t.Context(), time.Now().AddDate(0, 0, keepReplies-1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reply(t.Context(), "k"); err != nil {
		t.Errorf("after %d days: %v", keepReplies-1, err)
	}
	if err := s.Maintain(t.Context(), time.Now().AddDate(0, 0, keepReplies+2)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reply(t.Context(), "k"); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("after %d days: error %v, want not found", keepReplies+2, err)
	}
	// All days of today are gone: a unit makes them again.
	c := courante.Changes{Replies: []courante.Reply{{Key: "k2", Body: json.RawMessage(`1`)}}}
	if err := commit(t, s, c); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("error %v, want a transient one", err)
	}
	if err := commit(t, s, c); err != nil {
		t.Error(err)
	}
}

// TestReaderOfOldPartitions: a backup that reads what is to be dropped holds up
// only that, however long it takes, and not the partitions that are needed next.
func TestReaderOfOldPartitions(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	later := time.Now().AddDate(0, 0, keepReplies+2)
	backup := testConn(t)
	mustExec(t, backup, s, "begin; select from {schema}.reply")
	if err := s.Maintain(t.Context(), later); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("error %v, want a transient one", err)
	}
	var made bool
	day := later.UTC().AddDate(0, 0, repliesAhead).Format(dayFormat)
	if err := testConn(t).QueryRow(t.Context(), "select to_regclass($1) is not null", s.quoted+".reply_"+day).Scan(&made); err != nil {
		t.Fatal(err)
	}
	if !made {
		t.Errorf("there is no partition of replies for %s", day)
	}
	mustExec(t, backup, s, "commit")
	if err := s.Maintain(t.Context(), later); err != nil {
		t.Error(err)
	}
}

// TestStoredStateStaysFlat writes a stored state a thousand times while
// somebody's transaction is open, which keeps PostgreSQL from cleaning up: what
// it costs to load and to write it at the end must be what it cost at the
// beginning. It is counted in pages, which a busy machine does not change.
func TestStoredStateStaysFlat(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	foreign, conn := testConn(t), testConn(t)
	must(t, foreign, "begin", "select pg_current_xact_id()")
	hot := courante.Key{Category: "stock", ID: "hot"}
	data, _ := json.Marshal(strings.Repeat("x", 500)) // a dozen rows fill a page
	var row int64
	write := func(times int) {
		for range times {
			if err := commit(t, s, courante.Changes{States: []courante.State{{Key: hot, Row: row, Data: data}}}); err != nil {
				t.Fatal(err)
			}
			row++
		}
	}
	// cost is the pages that loading the state and writing it touch, in a
	// transaction that leaves nothing.
	cost := func() (load, update int) {
		t.Helper()
		must(t, conn, "begin")
		load = pagesOf(t, conn.QueryRow(t.Context(), "explain (analyze, buffers, format json) "+s.sql(lockStates), []string{hot.Stream()}))
		update = pagesOf(t, conn.QueryRow(t.Context(), "explain (analyze, buffers, format json) "+s.sql(updateStates),
			[]int64{row}, []int64{0}, []string{hot.Stream()}, []string{`1`}, []*string{nil}, 1))
		must(t, conn, "rollback")
		return load, update
	}
	write(20)
	cost() // the catalogue's pages are read once
	load, update := cost()
	write(1000)
	lateLoad, lateUpdate := cost()
	t.Logf("pages touched after 20 writes and after 1,020: a load %d, %d; an update %d, %d", load, lateLoad, update, lateUpdate)
	if lateLoad > load+20 {
		t.Errorf("a load touches %d pages after a thousand writes, %d at the start", lateLoad, load)
	}
	if lateUpdate > update+20 {
		t.Errorf("an update touches %d pages after a thousand writes, %d at the start", lateUpdate, update)
	}
}

// TestStoredStateIsMadeOnce has a unit find no row, and two others make it and
// write it before the first does: it must not make a second one, although no
// row has the version any more that it wants to give it.
func TestStoredStateIsMadeOnce(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	key := courante.Key{Category: "stock", ID: "new"}
	late := mustBegin(t, s)
	if _, err := late.Load(t.Context(), []courante.Key{key}, nil); err != nil {
		t.Fatal(err)
	}
	for row := range int64(40) {
		if err := commit(t, s, courante.Changes{States: []courante.State{{Key: key, Row: row, Data: json.RawMessage(`"theirs"`)}}}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := late.Commit(t.Context(), courante.Changes{States: []courante.State{{Key: key, Data: json.RawMessage(`"late"`)}}})
	var conflict *courante.ConflictError
	if !errors.As(err, &conflict) || !slices.Equal(conflict.Streams, []string{"stock:new"}) {
		t.Errorf("error %v, want a conflict on stock:new", err)
	}
	states, err := s.Read(t.Context(), []courante.Key{key})
	if err != nil || states[0].Row != 40 || string(states[0].Data) != `"theirs"` {
		t.Errorf("the state is %+v, %v; want row 40 of theirs", states, err)
	}
}
