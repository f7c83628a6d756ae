//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// seenTables has a row for each event. One that is projected twice breaks the
// key, so that nothing of that goes unnoticed.
var seenTables = fstest.MapFS{"001_seen.sql": {Data: []byte(`
	create table {schema}.seen (stream text, version bigint check (version < 1000), by int, primary key (stream, version))`)}}

// seen is the projection of every event.
func seen(version int) courante.Projection {
	return courante.Projection{
		Name: "seen", Version: version, Tables: []string{"seen"},
		Apply: func(b *pgx.Batch, events []courante.Event) error {
			var streams []string
			var versions []int64
			for _, e := range events {
				if e.Position != 0 || e.Xid != 0 || e.Tick != 0 {
					return fmt.Errorf("%s has a place in the log", e.ID())
				}
				streams, versions = append(streams, e.Stream), append(versions, e.Version)
			}
			b.Queue("insert into {schema}.seen (stream, version, by) select a.*, $3::int from unnest($1::text[], $2::bigint[]) a", streams, versions, version)
			return nil
		},
	}
}

// keep is Keep as a runtime calls it.
func keep(t testing.TB, s *Store, list ...courante.Projection) error {
	err := courante.Transient(errors.New("not yet"))
	for errors.Is(err, courante.ErrTransient) {
		err = s.Keep(t.Context(), seenTables, list)
	}
	return err
}

func mustKeep(t testing.TB, s *Store, list ...courante.Projection) {
	t.Helper()
	if err := keep(t, s, list...); err != nil {
		t.Fatal(err)
	}
}

// wantSeen checks that the table has what the log has, by the version of the
// projection, and returns how much that is.
func wantSeen(t testing.TB, s *Store, version int) int {
	t.Helper()
	var logged, seen, wrong int
	err := testConn(t).QueryRow(t.Context(), s.sql(`select (select count(*) from {schema}.event), (select count(*) from {schema}.seen),
		(select count(*) from {schema}.event e full join {schema}.seen s on s.stream = e.stream and s.version = e.version
		where e.stream is null or s.stream is null or s.by <> $1)`), version).Scan(&logged, &seen, &wrong)
	if err != nil {
		t.Fatal(err)
	}
	if wrong > 0 {
		t.Errorf("%d events in the log, %d in the table, of which %d do not fit", logged, seen, wrong)
	}
	return logged
}

func eventsOf(stream string, n int64) courante.Changes {
	var c courante.Changes
	for v := range n {
		c.Events = append(c.Events, eventAt(stream, v+1))
	}
	return c
}

// The events and what is made of them are one transaction: a unit that fails
// for any reason leaves neither.
func TestProjectionChangesWithItsEvents(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	mustKeep(t, s, seen(1))
	if err := commit(t, s, eventsOf("order:1", 3)); err != nil {
		t.Fatal(err)
	}
	if n := wantSeen(t, s, 1); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
	wantConflict(t, commit(t, s, eventsOf("order:1", 1)))
	far := eventsOf("order:2", 1)
	far.Progress = []courante.Progress{{Lane: lane, N: 7}}
	if err := commit(t, s, far); !errors.Is(err, courante.ErrFenced) {
		t.Errorf("a zombie's unit: %v, want ErrFenced", err)
	}
	u := mustBegin(t, s)
	if _, err := u.Load(t.Context(), []courante.Key{{Category: "order", ID: "1", Sourced: true}}, nil); err != nil {
		t.Fatal(err)
	}
	u.Rollback(t.Context())
	if n := wantSeen(t, s, 1); n != 3 {
		t.Errorf("%d events, want 3 as before", n)
	}
	if _, err := s.Append(t.Context(), "order:3", 0, noted()); err == nil || !strings.Contains(err.Error(), "seen@1") {
		t.Errorf("an append past the projection: %v, want a refusal that names it", err)
	}
}

// A projection's own failure is told apart from conflicts: it would come again
// with every try.
func TestProjectionThatFails(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	mustKeep(t, s, seen(1))
	mustExec(t, testConn(t), s, "insert into {schema}.seen values ('order:1', 1, 1)")
	err := commit(t, s, eventsOf("order:1", 1)) // breaks the table's key, as conflicts break ours
	var conflict *courante.ConflictError
	if err == nil || errors.As(err, &conflict) || errors.Is(err, courante.ErrTransient) || !strings.Contains(err.Error(), "projection seen") {
		t.Errorf("error %v, want a lasting one that names the projection", err)
	}
	if err := commit(t, s, eventsOf("order:2", 1)); err != nil {
		t.Errorf("another order: %v", err)
	}

	broken := seen(2)
	broken.Apply = func(b *pgx.Batch, _ []courante.Event) error {
		b.Queue("select {schema}.expect('seen', 1, 2)")
		return nil
	}
	if err := s.Keep(t.Context(), nil, []courante.Projection{broken}); err == nil || !strings.Contains(err.Error(), "order:2@1") {
		t.Errorf("building on a statement that fails: %v, want an error that names the events", err)
	}
	broken.Version = 3
	broken.Apply = func(b *pgx.Batch, _ []courante.Event) error {
		b.Queue("insert into no_such_table values (1)")
		return nil
	}
	if err := s.Keep(t.Context(), nil, []courante.Projection{broken}); err == nil || !strings.Contains(err.Error(), "write {schema}.no_such_table") {
		t.Errorf("building on a table without its schema: %v, want an error that says what to write", err)
	}
}

// The server ends a unit's session while its projection waits for somebody:
// there is neither the event nor the row, or both.
func TestProjectionOfAUnitThatIsKilled(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	mustKeep(t, s, seen(1))
	blocker, conn := testConn(t), testConn(t)
	tx, err := blocker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), s.sql("lock table {schema}.seen in exclusive mode")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- commit(t, s, eventsOf("order:1", 2)) }()
	waits := ` from pg_stat_activity where wait_event_type = 'Lock' and strpos(query, $1) > 0 and pid <> pg_backend_pid()`
	eventually(t, "the projection to wait", func() bool {
		var n int
		if err := conn.QueryRow(t.Context(), "select count(*)"+waits, s.quoted+".seen").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	if _, err := conn.Exec(t.Context(), "select pg_terminate_backend(pid)"+waits, s.quoted+".seen"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, courante.ErrTransient) && !errors.Is(err, courante.ErrUnknownOutcome) {
		t.Errorf("error %v, want one that says to look or to try again", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := wantSeen(t, s, 1); n != 0 {
		t.Errorf("%d events of a unit that was killed before its commit", n)
	}
	if err := commit(t, s, eventsOf("order:1", 2)); err != nil {
		t.Error(err)
	}
	wantSeen(t, s, 1)
}

// A log that was there before is folded, including what somebody's open
// transaction adds to it at the last moment; a changed version folds it anew,
// and a program of the version before can neither write nor query any more.
func TestProjectionOfALogThatIsThere(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, s := openConfig(t, config)
	for i := range 3 { // more than one step
		mustAppend(t, s, fmt.Sprintf("order:%d", i), 0, 450)
	}
	open := hold(t, s, "order:held", 1)
	kept := make(chan error)
	go func() { kept <- keep(t, s, seen(1)) }()
	conn := testConn(t)
	eventually(t, "the build to wait for the open transaction", func() bool {
		var waits bool
		if err := conn.QueryRow(t.Context(), "select exists (select from pg_locks where not granted and mode = 'ShareLock' and relation = to_regclass($1))", s.quoted+".event").Scan(&waits); err != nil {
			t.Fatal(err)
		}
		return waits
	})
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	if n := wantSeen(t, s, 1); n != 3*(450)+1 {
		t.Errorf("%d events in the log", n)
	}

	_, newer := openConfig(t, config)
	mustKeep(t, newer, seen(2))
	wantSeen(t, newer, 2)
	if err := commit(t, s, eventsOf("order:old", 1)); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("a unit of the version before: %v, want a transient error", err)
	}
	if err := s.Query(t.Context(), "select stream from {schema}.seen", nil, drop); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("a query of the version before: %v, want a transient error", err)
	}
	if err := newer.Query(t.Context(), "select stream from {schema}.seen", nil, drop); err != nil {
		t.Errorf("a query: %v", err)
	}
	if err := commit(t, newer, eventsOf("order:new", 1)); err != nil {
		t.Error(err)
	}
	wantSeen(t, newer, 2)

	_, without := openConfig(t, config)
	if err := commit(t, without, eventsOf("order:without", 1)); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("a unit of a program that has not said what it keeps: %v, want a transient error", err)
	}
	mustKeep(t, without)
	if err := commit(t, without, eventsOf("order:without", 1)); err != nil {
		t.Errorf("a unit when nothing is kept any more: %v", err)
	}
	if err := commit(t, newer, eventsOf("order:newer", 2)); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("a unit with a projection that is kept no more: %v, want a transient error", err)
	}
	mustKeep(t, newer, seen(2)) // back again: what came in between is not forgotten
	wantSeen(t, newer, 2)
}

func drop(rows pgx.Rows) error {
	rows.Close()
	return rows.Err()
}

// A process that dies between two steps of a build has done nothing that the
// next one repeats.
func TestBuildGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	dead, s := openConfig(t, config)
	for i := range 4 {
		mustAppend(t, s, fmt.Sprintf("order:%d", i), 0, 900)
	}
	if err := dead.MigrateSchema(t.Context(), s.schema, seenTables); err != nil {
		t.Fatal(err)
	}
	if _, err := dead.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := seen(1)
	g, err := s.begin(t.Context(), &p, false)
	if err != nil {
		t.Fatal(err)
	}
	f := s.newFolder(&p, g, map[string]courante.ReadLog{s.name: func(ctx context.Context, after courante.Cursor, _ int) ([]courante.Event, courante.Cursor, error) {
		return s.ReadLog(ctx, after, 1000)
	}})
	if err := f.catchUp(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := testConn(t).QueryRow(t.Context(), s.sql("select count(*) from {schema}.seen")).Scan(&n); err != nil || n == 0 {
		t.Fatalf("%d events (error %v) after one step, want some", n, err)
	}
	dead.Close()
	_, heir := openConfig(t, config)
	mustKeep(t, heir, seen(1))
	if n := wantSeen(t, heir, 1); n != 3600 {
		t.Errorf("%d events, want 3600", n)
	}
}

// Two processes that start at once build one projection, while units of an
// older program, which knows nothing of it, are written all the time. They go
// on until it is live, and from then on none is.
func TestBuildAtOnceUnderLoad(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, old := openConfig(t, config)
	starting := [2]*Store{}
	for i := range starting {
		_, starting[i] = openConfig(t, config)
	}
	for i := range 5 { // more than one step
		mustAppend(t, old, fmt.Sprintf("order:before-%d", i), 0, 900)
	}
	var writers, builders sync.WaitGroup
	var written atomic.Int64
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				err := commit(t, old, eventsOf(fmt.Sprintf("order:%d-%d", w, i), 3))
				if err != nil {
					if !strings.Contains(err.Error(), "another program") {
						t.Errorf("an old unit: %v, want a hint at the other program", err)
					}
					return
				}
				written.Add(3)
			}
		})
	}
	eventually(t, "some load", func() bool { return written.Load() > 300 })
	for b, s := range starting {
		builders.Go(func() {
			err := keep(t, s, seen(1))
			if err == nil {
				err = commit(t, s, eventsOf(fmt.Sprintf("order:after-%d", b), 3))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	builders.Wait()
	writers.Wait()
	if n := wantSeen(t, old, 1); int64(n) != 4506+written.Load() {
		t.Errorf("%d events in the log, want %d", n, 4506+written.Load())
	}
}

// A unit that waits for the lock of a build sees what the build has made live,
// though its statement was sent before: that is what keeps the projection
// whole, and what [expectProjections] relies on.
func TestUnitBehindABuild(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	if err := commit(t, s, eventsOf("order:1", 1)); err != nil { // so that its statements are prepared
		t.Fatal(err)
	}
	tx, err := testConn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), s.sql("lock table {schema}.event in share mode")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- commit(t, s, eventsOf("order:2", 1)) }()
	conn := testConn(t)
	eventually(t, "the unit to wait", func() bool {
		var waits bool
		if err := conn.QueryRow(t.Context(), "select exists (select from pg_locks where not granted and relation = to_regclass($1))", s.quoted+".event_1").Scan(&waits); err != nil {
			t.Fatal(err)
		}
		return waits
	})
	if _, err := tx.Exec(t.Context(), s.sql("insert into {schema}.projection (version, live, kind, name) values (1, true, 'inline', 'seen')")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, courante.ErrTransient) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("error %v, want a transient one that hints at the other program", err)
	}
	wantVersions(t, s, "order:2", 0)
}
