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

// following steps a follower until stop.
func following(t testing.TB, f courante.Follower) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := f.Step(t.Context()); err != nil && !errors.Is(err, courante.ErrTransient) && !errors.Is(err, courante.ErrUnknownOutcome) {
				t.Errorf("step: %v", err)
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// Three processes follow the log for one projection while it grows and their
// connections are killed: every event counts once.
func TestFollowersCountEveryEventOnce(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, s := openConfig(t, config)
	var stops []func()
	for range 3 {
		c := config
		c.URL = withApplication(config.URL, config.Schema)
		_, process := openConfig(t, c)
		keepTally(t, process, asyncTally(1))
		f := followerOf(process, asyncTally(1))
		stops = append(stops, following(t, f))
	}
	stop := writing(t, s, "load")
	conn := testConn(t)
	for killed := 0; killed < 10; {
		eventually(t, "a follower's connection to kill", func() bool {
			var n int
			err := conn.QueryRow(t.Context(), `select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
				where application_name = $1 and random() < 0.5`, config.Schema).Scan(&n)
			if err != nil {
				t.Fatal(err)
			}
			killed += n
			return n > 0
		})
		mustTick(t, s.db)
	}
	stop()
	mustTick(t, s.db)
	eventually(t, "the followers to have everything", func() bool {
		p := statusOf(t, s)
		live, ok := p.Live()
		return ok && live.Logs[0].Behind == 0
	})
	for _, stop := range stops {
		stop()
	}
	wantTally(t, s, 1)
}

func withApplication(url, name string) string {
	if strings.Contains(url, "?") {
		return url + "&application_name=" + name
	}
	return url + "?application_name=" + name
}

// A process that slept since it read a batch, and another that went on: the
// sleeper changes nothing.
func TestZombieFollowerIsFenced(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, s := openConfig(t, config)
	_, other := openConfig(t, config)
	p := asyncTally(1)
	keepTally(t, s, p)
	if err := commit(t, s, eventsOf("order:1", 3)); err != nil {
		t.Fatal(err)
	}
	mustTick(t, s.db)
	follow(t, followerOf(s, p))
	if err := commit(t, s, eventsOf("order:2", 3)); err != nil {
		t.Fatal(err)
	}
	mustTick(t, s.db)
	list, err := s.generations(t.Context(), s.db.pool, p.Name)
	if err != nil {
		t.Fatal(err)
	}
	zombie := s.newFolder(&p, list.live(), map[string]courante.ReadLog{s.name: s.ReadLog})
	if err := zombie.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	batch := zombie.read(t.Context(), s.name, zombie.lanes[s.name].Cursor)
	follow(t, followerOf(other, p))
	if err := zombie.commit(t.Context(), batch); !errors.Is(err, courante.ErrFenced) {
		t.Errorf("the zombie's fold: %v, want ErrFenced", err)
	}
	wantTally(t, s, 1)

	w := work(t, s, p)
	n := mustBuild(t, w)
	if err := commit(t, s, eventsOf("order:3", 3)); err != nil {
		t.Fatal(err)
	}
	mustTick(t, s.db)
	if err := zombie.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	zombie.lanes = nil
	if err := zombie.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	batch = zombie.read(t.Context(), s.name, zombie.lanes[s.name].Cursor)
	mustSwitch(t, w, n)
	if err := zombie.commit(t.Context(), batch); !errors.Is(err, errMoved) {
		t.Errorf("a fold into tables that were switched: %v, want to be told", err)
	}
	wantTally(t, s, 1)
}

// A query of what is built for the first time says so, a query of what is paused
// answers with what there is, and a place tells how far that is.
func TestAsyncProjectionFromFirstBuildToPause(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	p := asyncTally(1)
	if err := commit(t, s, eventsOf("order:1", 3)); err != nil {
		t.Fatal(err)
	}
	mustTick(t, s.db)
	keepTally(t, s, p)
	query := func() error { return s.Query(t.Context(), "select events from {schema}.tally", nil, drop) }
	if err := query(); !errors.Is(err, courante.ErrTransient) || !strings.Contains(err.Error(), "being built") {
		t.Errorf("a query before there is anything: %v", err)
	}
	if _, err := s.Place(t.Context(), "tally", s.name); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("its place: %v, want ErrNotFound", err)
	}
	f := followerOf(s, p)
	follow(t, f)
	if err := query(); err != nil {
		t.Error(err)
	}
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at, err := s.Place(t.Context(), "tally", s.name); err != nil || at != head || f.Place(s.name) != head {
		t.Errorf("place %v, known as %v, error %v; want %v", at, f.Place(s.name), err, head)
	}

	if err := s.PauseProjection(t.Context(), "tally", "anna"); err != nil {
		t.Fatal(err)
	}
	lookNow(f)
	if err := commit(t, s, eventsOf("order:2", 3)); err != nil {
		t.Fatal(err)
	}
	mustTick(t, s.db)
	follow(t, f)
	status := statusOf(t, s)
	live, _ := status.Live()
	if status.PausedBy != "anna" || live.Logs[0].Behind != 3 || live.Logs[0].Lag <= 0 {
		t.Errorf("paused: %+v", status)
	}
	if _, err := s.Place(t.Context(), "tally", s.name); !errors.Is(err, courante.ErrPaused) {
		t.Errorf("the place of what is paused: %v", err)
	}
	if err := query(); err != nil {
		t.Errorf("a query of what is paused: %v", err)
	}
	if err := s.ResumeProjection(t.Context(), "tally"); err != nil {
		t.Fatal(err)
	}
	lookNow(f)
	follow(t, f)
	wantTally(t, s, 1)
}

func TestInlineProjectionIsNotPaused(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	keepTally(t, s, tally(1))
	if err := s.PauseProjection(t.Context(), "tally", "anna"); err == nil || !strings.Contains(err.Error(), "inline") {
		t.Errorf("error %v, want that it cannot be", err)
	}
	if err := s.PauseProjection(t.Context(), "none", "anna"); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
}

// A new version of what follows the log is built and switched to by its program
// while the old one runs and carries the old one on, for the way back.
func TestAsyncProjectionGetsANewVersion(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, old := openConfig(t, config)
	_, newer := openConfig(t, config)
	keepTally(t, old, asyncTally(1))
	oldFollower := followerOf(old, asyncTally(1))
	if err := commit(t, old, eventsOf("order:1", 3)); err != nil {
		t.Fatal(err)
	}
	mustTick(t, old.db)
	follow(t, oldFollower)
	keepTally(t, newer, asyncTally(2))
	follow(t, followerOf(newer, asyncTally(2)))
	if p := statusOf(t, newer); states(p) != "1:kept@1 2:live@2" {
		t.Errorf("generations %s", states(p))
	}
	if err := commit(t, newer, eventsOf("order:2", 3)); err != nil {
		t.Fatal(err)
	}
	mustTick(t, old.db)
	lookNow(oldFollower)
	follow(t, oldFollower)
	wantTallyIn(t, old, old.schema+"_tally_1", 1)
	if p := statusOf(t, newer); states(p) != "1:kept@1 2:live@2" {
		t.Errorf("generations %s: the old program has taken its version back", states(p))
	}
	follow(t, followerOf(old, asyncTally(1))) // the old program is started again
	if p := statusOf(t, newer); states(p) != "1:live@1 2:kept@2" {
		t.Errorf("generations %s: the way back is to start the old program", states(p))
	}
	wantTally(t, old, 1)
}

// A projection that becomes inline, and one that ceases to be, go on with the
// tables that they have.
func TestProjectionOfAnotherKindGoesOn(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	for round, p := range []courante.Projection{tally(1), asyncTally(1), tally(1)} {
		keepTally(t, s, p)
		if err := commit(t, s, eventsOf(fmt.Sprintf("order:%d", round), 3)); err != nil {
			t.Fatal(err)
		}
		mustTick(t, s.db)
		follow(t, followerOf(s, p))
		if n := wantTally(t, s, 1); n != int64(3*(round+1)) {
			t.Errorf("round %d: %d events", round, n)
		}
	}
	if p := statusOf(t, s); states(p) != "1:live@1" {
		t.Errorf("generations %s, want the first", states(p))
	}
}

// An event that the projection cannot fold stops it, with the reason for all to
// see, and it goes on by itself when that has gone.
func TestProjectionThatStopsSaysWhy(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	p := asyncTally(1)
	keepTally(t, s, p)
	f := followerOf(s, p)
	follow(t, f)
	conn := testConn(t)
	mustExec(t, conn, s, "alter table {schema}.tally add constraint few check (events < 3)")
	if err := commit(t, s, eventsOf("order:1", 3)); err != nil {
		t.Fatal(err)
	}
	mustTick(t, s.db)
	if _, err := f.Step(t.Context()); err == nil {
		t.Error("the fold went through")
	}
	if status := statusOf(t, s); !strings.Contains(status.Failure, "order:1@1") || !strings.Contains(status.Failure, "few") {
		t.Errorf("failure %q, want the events and the constraint", status.Failure)
	}
	mustExec(t, conn, s, "alter table {schema}.tally drop constraint few")
	follow(t, f)
	if status := statusOf(t, s); status.Failure != "" {
		t.Errorf("failure %q after it went on", status.Failure)
	}
	wantTally(t, s, 1)
}

// A disk that is full stops a build and breaks nothing: it goes on.
func TestBuildOnAFullDisk(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	keepTally(t, s, tally(1))
	if err := commit(t, s, eventsOf("order:1", 3)); err != nil {
		t.Fatal(err)
	}
	full := tally(1)
	full.Apply = func(b *pgx.Batch, events []courante.Event) error {
		if err := tally(1).Apply(b, events); err != nil {
			return err
		}
		b.Queue("do $$ begin raise 'no space left on device' using errcode = '53100'; end $$")
		return nil
	}
	if _, err := work(t, s, full).Build(t.Context(), nil); !errors.Is(err, courante.ErrTransient) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a build on a full disk: %v", err)
	}
	w := work(t, s, tally(1))
	n := mustBuild(t, w)
	if c := mustCompare(t, w, n); n != 2 || !c.Same() {
		t.Errorf("generation %d, comparison %s", n, c)
	}
}

var viewTables = fstest.MapFS{"001_view.sql": {Data: []byte(`
	create materialized view {schema}.per_stream as select stream, count(*) as events from {schema}.event group by stream;
	create unique index on {schema}.per_stream (stream)`)}}

// A materialized view is refreshed after events that it wants, by one of those
// who follow, and not without.
func TestMaterializedViewIsRefreshed(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, s := openConfig(t, config)
	_, other := openConfig(t, config)
	p := courante.Projection{Name: "per_stream", Version: 1, Tables: []string{"per_stream"}, RefreshEvery: time.Nanosecond}
	for _, process := range []*Store{s, other} {
		if err := process.Keep(t.Context(), viewTables, []courante.Projection{p}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(n int) {
		t.Helper()
		var have int
		if err := testConn(t).QueryRow(t.Context(), s.sql("select coalesce(sum(events), 0) from {schema}.per_stream")).Scan(&have); err != nil || have != n {
			t.Errorf("the view has %d events (error %v), want %d", have, err, n)
		}
	}
	fs := []courante.Follower{followerOf(s, p), followerOf(other, p)}
	refreshed := func(f courante.Follower) bool {
		worked, err := f.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return worked
	}
	refreshed(fs[0]) // makes it known
	for i := range 3 {
		if err := commit(t, s, eventsOf(fmt.Sprintf("order:%d", i), 2)); err != nil {
			t.Fatal(err)
		}
		mustTick(t, s.db)
		want(2 * i)
		eventually(t, "the first to refresh it", func() bool { return refreshed(fs[0]) })
		if refreshed(fs[1]) {
			t.Errorf("round %d: the second refreshed it too", i)
		}
		want(2*i + 2)
	}
	if status := statusOf(t, other); states(status) != "1:live@1" || status.Generations[0].Logs[0].Behind != 0 {
		t.Errorf("status %+v", status)
	}
}

// What nobody carries on cannot be compared at one place: it is said, and does
// not keep a rebuild from ending.
func TestComparisonWithWhatStandsStill(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	p := asyncTally(1)
	keepTally(t, s, p)
	follow(t, followerOf(s, p))
	if err := commit(t, s, eventsOf("order:1", 3)); err != nil {
		t.Fatal(err)
	}
	w := work(t, s, p)
	n := mustBuild(t, w)
	c := mustCompare(t, w, n)
	if !c.Same() || !strings.Contains(c.Basis, "stands still") {
		t.Errorf("comparison %s, want it to say what was not compared", c)
	}
	mustSwitch(t, w, n)
	wantTally(t, s, 1)
}

// A build that is cut off again and again, wherever it is, comes to the same
// rows as the one that was never disturbed.
func TestBuildThatIsInterruptedAllTheTime(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	keepTally(t, s, tally(1))
	for i := range 40 {
		if err := commit(t, s, eventsOf(fmt.Sprintf("category%d:1", i), 500)); err != nil {
			t.Fatal(err)
		}
	}
	mustTick(t, s.db)
	p := tally(1)
	g, err := s.begin(t.Context(), &p, true)
	if err != nil {
		t.Fatal(err)
	}
	small := map[string]courante.ReadLog{s.name: func(ctx context.Context, after courante.Cursor, _ int) ([]courante.Event, courante.Cursor, error) {
		return s.ReadLog(ctx, after, 500)
	}}
	for cut := 1; ; cut++ {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Duration(cut)*time.Millisecond, cancel)
		err := s.newFolder(&p, g, small).catchUp(ctx, 0, nil)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) && !errors.Is(err, courante.ErrTransient) && !errors.Is(err, courante.ErrUnknownOutcome) && !errors.Is(err, courante.ErrFenced) {
			t.Fatal(err)
		}
	}
	w := work(t, s, p)
	if n := mustBuild(t, w); n != g.N {
		t.Errorf("generation %d was built, want it to go on with %d", n, g.N)
	}
	if c := mustCompare(t, w, g.N); !c.Same() || c.Tables[0].NewRows != 40 {
		t.Errorf("comparison %s", c)
	}
	mustSwitch(t, w, g.N)
	wantTally(t, s, 1)
}
