//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// tallyTables count events by category. A row changes with many events, so one
// that is folded twice, or not, is seen.
var tallyTables = fstest.MapFS{"001_tally.sql": {Data: []byte(`
	create table {schema}.tally (category text primary key, events bigint not null, by int not null);
	create view {schema}.top as select category, events from {schema}.tally`)}}

func tally(version int) courante.Projection {
	return courante.Projection{
		Name: "tally", Version: version, Tables: []string{"tally"},
		Apply: func(b *pgx.Batch, events []courante.Event) error {
			counts := map[string]int64{}
			for i := range events {
				category, _, _ := strings.Cut(events[i].Stream, ":")
				counts[category]++
			}
			var categories []string
			var numbers []int64
			for c, n := range counts {
				categories, numbers = append(categories, c), append(numbers, n)
			}
			b.Queue(`insert into {schema}.tally as t select a.*, $3::int from unnest($1::text[], $2::bigint[]) a order by 1
				on conflict (category) do update set events = t.events + excluded.events, by = excluded.by`, categories, numbers, version)
			return nil
		},
	}
}

func asyncTally(version int) courante.Projection {
	p := tally(version)
	p.Async = true
	return p
}

func keepTally(t testing.TB, s *Store, p courante.Projection) {
	t.Helper()
	err := courante.Transient(errors.New("not yet"))
	for errors.Is(err, courante.ErrTransient) {
		err = s.Keep(t.Context(), tallyTables, []courante.Projection{p})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// wantTally checks the live table against the log, after a tick.
func wantTally(t testing.TB, s *Store, version int) int64 {
	t.Helper()
	return wantTallyIn(t, s, s.schema, version)
}

func wantTallyIn(t testing.TB, s *Store, schema string, version int) int64 {
	t.Helper()
	var logged, counted int64
	var wrong int
	err := testConn(t).QueryRow(t.Context(), s.sql(`select (select count(*) from {schema}.event), coalesce(sum(events), 0)::bigint, count(*) filter (where by <> $1)
		from `+pgx.Identifier{schema, "tally"}.Sanitize()), version).Scan(&logged, &counted, &wrong)
	if err != nil {
		t.Fatal(err)
	}
	if logged != counted || wrong > 0 {
		t.Errorf("%d events in the log, %d counted in %s, %d rows of another version than %d", logged, counted, schema, wrong, version)
	}
	return logged
}

func work(t testing.TB, s *Store, p courante.Projection) *ProjectionWork {
	t.Helper()
	w, err := s.ProjectionWork(t.Context(), p, []string{s.name})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustBuild(t testing.TB, w *ProjectionWork) int64 {
	t.Helper()
	n, err := w.Build(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mustSwitch(t testing.TB, w *ProjectionWork, n int64) {
	t.Helper()
	err := courante.Transient(errors.New("not yet"))
	for errors.Is(err, courante.ErrTransient) {
		err = w.Switch(t.Context(), n)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func statusOf(t testing.TB, s *Store) ProjectionStatus {
	t.Helper()
	list, err := s.Projections(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("projections %+v, error %v", list, err)
	}
	return list[0]
}

func states(p ProjectionStatus) string {
	var all []string
	for _, g := range p.Generations {
		all = append(all, fmt.Sprintf("%d:%s@%d", g.N, g.State, g.Version))
	}
	return strings.Join(all, " ")
}

// follow steps a follower until it finds nothing to do.
func follow(t testing.TB, f courante.Follower) {
	t.Helper()
	for worked := true; worked; {
		var err error
		if worked, err = f.Step(t.Context()); err != nil && !errors.Is(err, courante.ErrTransient) {
			t.Fatal(err)
		} else if err != nil {
			worked = true
		}
	}
}

// lookNow has the follower look at once what generations there are.
func lookNow(f courante.Follower) { f.(*logFollower).looked = time.Time{} }

func followerOf(s *Store, p courante.Projection) courante.Follower {
	return s.Follow(p, map[string]courante.ReadLog{s.name: s.ReadLog})
}

// writing has a store write units without end, until stop, which returns how
// many events were written. An error that is not transient fails the test.
func writing(t testing.TB, s *Store, prefix string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := commit(t, s, eventsOf(fmt.Sprintf("%s%d:%d", prefix, w, i), 3)); err != nil && !errors.Is(err, courante.ErrTransient) {
					t.Errorf("a unit: %v", err)
					return
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// A rebuild of an inline projection beside the live one, under load: units and
// queries go on, the two are the same, and the way there and back loses and
// repeats nothing.
func TestRebuildUnderLoadAndBack(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, s := openConfig(t, config)
	_, operator := openConfig(t, config)
	keepTally(t, s, tally(1))
	stop := writing(t, s, "load")
	eventually(t, "some load", func() bool { return wantEventsAtLeast(t, s, 300) })

	w := work(t, operator, tally(1))
	n := mustBuild(t, w)
	if p := statusOf(t, operator); states(p) != fmt.Sprintf("1:live@1 %d:ready@1", n) {
		t.Errorf("generations %s", states(p))
	}
	c := mustCompare(t, w, n)
	if !c.Same() || c.Tables[0].Rows == 0 {
		t.Errorf("comparison: %s", c)
	}
	mustSwitch(t, w, n)
	if p := statusOf(t, operator); states(p) != fmt.Sprintf("1:kept@1 %d:live@1", n) {
		t.Errorf("generations %s", states(p))
	}
	eventually(t, "load on the new tables", func() bool { return wantEventsAtLeast(t, s, 600) })
	mustSwitch(t, w, 1)
	stop()
	wantTally(t, s, 1)
	var top int64
	if err := testConn(t).QueryRow(t.Context(), s.sql("select sum(events)::bigint from {schema}.top")).Scan(&top); err != nil || top != wantTally(t, s, 1) {
		t.Errorf("the view over the table says %d (error %v): it should read what is live", top, err)
	}

	// What was live is carried on by a program of its version.
	f := followerOf(s, tally(1))
	mustTick(t, s.db)
	follow(t, f)
	wantTallyIn(t, s, fmt.Sprintf("%s_tally_%d", s.schema, n), 1)
	if err := operator.DiscardGeneration(t.Context(), "tally", n); err != nil {
		t.Fatal(err)
	}
	if err := operator.DiscardGeneration(t.Context(), "tally", 1); err == nil {
		t.Error("the live generation was discarded")
	}
	if p := statusOf(t, operator); states(p) != "1:live@1" {
		t.Errorf("generations %s", states(p))
	}
	follow(t, f)
	var left int
	if err := testConn(t).QueryRow(t.Context(), s.sql("select (select count(*) from {schema}.lane_epoch) + (select count(*) from {schema}.progress)")).Scan(&left); err != nil || left > 0 {
		t.Errorf("%d rows of places are left (error %v)", left, err)
	}
}

func wantEventsAtLeast(t testing.TB, s *Store, n int) bool {
	t.Helper()
	var have int
	if err := s.db.pool.QueryRow(t.Context(), s.sql("select count(*) from {schema}.event")).Scan(&have); err != nil {
		t.Fatal(err)
	}
	return have >= n
}

func mustCompare(t testing.TB, w *ProjectionWork, n int64) *Comparison {
	t.Helper()
	var c *Comparison
	err := courante.Transient(errors.New("not yet"))
	for errors.Is(err, courante.ErrTransient) {
		c, err = w.Compare(t.Context(), n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A table that somebody has changed is found by the comparison, with the rows.
func TestComparisonNamesTheRowsThatDiffer(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	keepTally(t, s, tally(1))
	for _, stream := range []string{"order:1", "parcel:1"} {
		if err := commit(t, s, eventsOf(stream, 2)); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, testConn(t), s, "update {schema}.tally set events = 7 where category = 'parcel'")
	w := work(t, s, tally(1))
	c := mustCompare(t, w, mustBuild(t, w))
	if c.Same() || strings.Join(c.Tables[0].OnlyOld, "") != "(parcel,7,1)" || strings.Join(c.Tables[0].OnlyNew, "") != "(parcel,2,1)" {
		t.Errorf("comparison %s", c)
	}
}

// An Apply whose rows depend on how it is called does not become live.
func TestNewVersionThatFoldsUnevenlyStaysBeside(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	keepTally(t, s, tally(1))
	for i := range 3 {
		if err := commit(t, s, eventsOf(fmt.Sprintf("order:%d", i), 500)); err != nil {
			t.Fatal(err)
		}
	}
	uneven := tally(2)
	uneven.Apply = func(b *pgx.Batch, events []courante.Event) error {
		b.Queue("insert into {schema}.tally values ('calls', 1, 2) on conflict (category) do update set events = tally.events + 1")
		return nil
	}
	err := s.Keep(t.Context(), tallyTables, []courante.Projection{uneven})
	var differs *DifferenceError
	if !errors.As(err, &differs) || !strings.Contains(err.Error(), "(calls,1,2)") {
		t.Errorf("error %v, want one that shows the rows", err)
	}
	if p := statusOf(t, s); states(p) != "1:live@1 2:building@2" {
		t.Errorf("generations %s, want the first live still", states(p))
	}
	wantTally(t, s, 1)
}

// While a new version is built, programs of the old one write and query what is
// live; from the switch on they are told, and after the way back they go on.
func TestNewVersionBesideTheOldProgram(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, old := openConfig(t, config)
	keepTally(t, old, tally(1))
	if err := commit(t, old, eventsOf("order:1", 2)); err != nil {
		t.Fatal(err)
	}
	query := func(s *Store) error {
		return s.Query(t.Context(), "select events from {schema}.tally", nil, drop)
	}
	_, newer := openConfig(t, config)
	n := mustBuild(t, work(t, newer, tally(2)))
	if err := errors.Join(commit(t, old, eventsOf("order:2", 2)), query(old)); err != nil {
		t.Errorf("the old program, beside what is built: %v", err)
	}
	keepTally(t, newer, tally(2)) // finds what was built
	if p := statusOf(t, newer); states(p) != fmt.Sprintf("1:kept@1 %d:live@2", n) {
		t.Errorf("generations %s", states(p))
	}
	wantTally(t, newer, 2)
	if err := commit(t, old, eventsOf("order:3", 2)); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("a unit of the old program: %v, want a transient error", err)
	}
	if err := query(old); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("a query of the old program: %v, want a transient error", err)
	}
	if err := commit(t, newer, eventsOf("order:3", 2)); err != nil {
		t.Error(err)
	}
	if err := work(t, newer, tally(2)).Switch(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "program of version 1") {
		t.Errorf("back by a program that does not know the version: %v", err)
	}
	keepTally(t, old, tally(1)) // the old program is started again
	if p := statusOf(t, old); states(p) != fmt.Sprintf("1:live@1 %d:kept@2", n) {
		t.Errorf("generations %s, want the one that was kept", states(p))
	}
	wantTally(t, old, 1)
}

// Somebody reads the live table for long: the switch does not wait for him in
// others' way, and is done when he has ended.
func TestSwitchBehindALongReader(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	keepTally(t, s, tally(1))
	w := work(t, s, tally(1))
	n := mustBuild(t, w)
	reader, err := testConn(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Exec(t.Context(), s.sql("select from {schema}.tally")); err != nil {
		t.Fatal(err)
	}
	if err := w.Switch(t.Context(), n); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("a switch behind a reader: %v, want a transient error", err)
	}
	eventually(t, "the reader to be named", func() bool {
		users, err := s.UsedBy(t.Context(), "tally")
		if err != nil {
			t.Fatal(err)
		}
		return len(users) == 1 && strings.Contains(users[0], "select from")
	})
	if err := commit(t, s, eventsOf("order:1", 1)); err != nil {
		t.Errorf("a unit beside the reader: %v", err)
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustSwitch(t, w, n)
	wantTally(t, s, 1)
}

// Rights on the live table are those of the one that takes its place.
func TestSwitchKeepsRights(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	keepTally(t, s, tally(1))
	conn := testConn(t)
	mustExec(t, conn, s, "grant select on {schema}.tally to public")
	w := work(t, s, tally(1))
	mustSwitch(t, w, mustBuild(t, w))
	var may bool
	err := conn.QueryRow(t.Context(), s.sql(`select exists (select from aclexplode((select relacl from pg_class where oid = '{schema}.tally'::regclass)) where grantee = 0)`)).Scan(&may)
	if err != nil || !may {
		t.Errorf("public may select: %v (error %v)", may, err)
	}
}

// Two operators who build the same make one generation, with every event once.
func TestTwoRebuildersAtOnce(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, s := openConfig(t, config)
	keepTally(t, s, tally(1))
	for i := range 30 {
		if err := commit(t, s, eventsOf(fmt.Sprintf("order:%d", i), 999)); err != nil {
			t.Fatal(err)
		}
	}
	mustTick(t, s.db)
	var works [2]*ProjectionWork
	for i := range works {
		_, operator := openConfig(t, config)
		works[i] = work(t, operator, tally(1))
	}
	both := func(act func(w *ProjectionWork)) {
		var wg sync.WaitGroup
		for _, w := range works {
			wg.Go(func() { act(w) })
		}
		wg.Wait()
	}
	both(func(w *ProjectionWork) {
		if n, err := w.Build(t.Context(), nil); n != 2 || err != nil {
			t.Errorf("generation %d, error %v", n, err)
		}
	})
	both(func(w *ProjectionWork) {
		err := courante.Transient(errors.New("not yet"))
		for errors.Is(err, courante.ErrTransient) {
			err = w.Switch(t.Context(), 2)
		}
		if err != nil {
			t.Error(err)
		}
	})
	wantTally(t, s, 1)
}

// Tables that cannot be made again as they are, are refused with the reason.
func TestTablesThatCannotBeBuiltBeside(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	keepTally(t, s, tally(1))
	mustExec(t, testConn(t), s, "alter table {schema}.tally add column id serial")
	_, err := work(t, s, tally(1)).Build(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "generated always as identity") {
		t.Errorf("error %v, want the sequence and what to do", err)
	}
}
