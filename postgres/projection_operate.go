package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// ProjectionWork is what an operator does with the generations of a projection.
// Its methods fail as transient when somebody uses the tables, and can be
// repeated after any error: they go on where they were.
type ProjectionWork struct {
	store *Store
	p     *courante.Projection
	logs  map[string]courante.ReadLog
}

// ProjectionWork begins work on a projection of the store's service. logs are
// those that it reads, see [courante.Projection.Logs].
func (s *Store) ProjectionWork(ctx context.Context, p courante.Projection, logs []string) (*ProjectionWork, error) {
	w := &ProjectionWork{store: s, p: &p, logs: make(map[string]courante.ReadLog)}
	for _, log := range logs {
		source, err := s.db.Store(ctx, log)
		if err != nil {
			return nil, err
		}
		w.logs[log] = source.ReadLog
	}
	return w, nil
}

// BuildProgress says how far a build is, in events of all its logs. Total is an
// estimate until the end.
type BuildProgress struct {
	Generation  int64
	Done, Total int64
}

// Build builds a generation at the program's version, beside the live one if
// there is one, to the end of the logs, and returns its number. One that was
// begun goes on. A materialized view is computed anew, and has no number.
func (w *ProjectionWork) Build(ctx context.Context, told func(BuildProgress)) (n int64, err error) {
	s := w.store
	doing := fmt.Sprintf("build projection %s of %s", w.p.Name, s.name)
	if w.p.Kind() == courante.View {
		return 0, w.refresh(ctx)
	}
	for {
		g, err := s.begin(ctx, w.p, true)
		if err != nil {
			return 0, translate(doing, err)
		}
		if _, err := s.db.Tick(ctx); err != nil { // nobody may run who does it
			return g.N, err
		}
		f := s.newFolder(w.p, g, w.logs)
		var total buildTotal
		err = f.catchUp(ctx, 0, func(f *folder) {
			if told != nil {
				told(total.progress(ctx, f))
			}
		})
		if err == nil {
			return g.N, translate(doing, s.ready(ctx, g))
		}
		if err := s.again(ctx, err); err != nil {
			return g.N, translate(doing, err)
		}
	}
}

// buildTotal is how many events a build has to fold, looked up now and then.
type buildTotal struct {
	ends   map[string]int64 // last positions
	looked time.Time
}

func (t *buildTotal) progress(ctx context.Context, f *folder) BuildProgress {
	if time.Since(t.looked) > time.Second {
		t.ends, t.looked = make(map[string]int64), time.Now()
		for log := range f.logs {
			if source, err := f.store.db.Store(ctx, log); err == nil {
				t.ends[log], _ = source.lastPosition(ctx) // without it the bar only seems further
			}
		}
	}
	p := BuildProgress{Generation: f.g.N}
	for log, lane := range f.lanes {
		p.Done += lane.Events
		p.Total += lane.Events + max(0, t.ends[log]-lane.foldNote.Position)
	}
	return p
}

func (w *ProjectionWork) refresh(ctx context.Context) error {
	s := w.store
	for {
		if err := s.beginView(ctx, w.p); err != nil {
			return translate("refresh "+w.p.Name, err)
		}
		list, err := s.generations(ctx, s.db.pool, w.p.Name)
		if err != nil {
			return translate("refresh "+w.p.Name, err)
		}
		live := list.live()
		if live == nil {
			continue
		}
		err = s.newFolder(w.p, live, w.logs).refreshView(ctx)
		if err := s.again(ctx, err); err != nil || !errors.Is(err, courante.ErrFenced) {
			return err
		}
	}
}

// Compare compares a generation with what it can be compared with: the live one
// of the same version, or itself folded twice.
func (w *ProjectionWork) Compare(ctx context.Context, n int64) (*Comparison, error) {
	f, err := w.folder(ctx, n)
	if err != nil {
		return nil, err
	}
	for {
		c, err := w.store.compare(ctx, f)
		if err == nil {
			return c, nil
		}
		if err := w.store.again(ctx, err); err != nil {
			return nil, translate(fmt.Sprintf("compare generation %d of projection %s", n, w.p.Name), err)
		}
	}
}

// folder is for a generation that is beside and of the program's version.
func (w *ProjectionWork) folder(ctx context.Context, n int64) (*folder, error) {
	list, err := w.store.generations(ctx, w.store.db.pool, w.p.Name)
	if err != nil {
		return nil, translate("look for generation", err)
	}
	g := list.number(n)
	switch {
	case g == nil:
		return nil, fmt.Errorf("projection %s has no generation %d: %w", w.p.Name, n, courante.ErrNotFound)
	case g.State == stateBuilding:
		return nil, fmt.Errorf("generation %d of projection %s is not built yet; go on with: courante projection rebuild %s %s", n, w.p.Name, w.store.name, w.p.Name)
	case g.State != stateLive && g.Version != w.p.Version:
		return nil, fmt.Errorf("generation %d of projection %s is of version %d, and this program's is %d: what has happened since can only be folded by the program of version %d; use that one",
			n, w.p.Name, g.Version, w.p.Version, g.Version)
	}
	return w.store.newFolder(w.p, g, w.logs), nil
}

// Switch makes a generation live that is ready or kept, with all that has
// happened since. What was live is kept.
func (w *ProjectionWork) Switch(ctx context.Context, n int64) error {
	for {
		f, err := w.folder(ctx, n)
		if err != nil || f.g.State == stateLive {
			return err
		}
		if err = f.catchUp(ctx, 0, nil); err == nil { // the longer part, while nobody waits
			err = w.store.switchTo(ctx, f)
		}
		if err == nil {
			return nil
		}
		if err := w.store.again(ctx, err); err != nil {
			return translate(fmt.Sprintf("switch projection %s to generation %d", w.p.Name, n), err)
		}
	}
}

// DiscardGeneration drops a generation that is not live, and its tables.
func (s *Store) DiscardGeneration(ctx context.Context, projection string, n int64) error {
	doing := fmt.Sprintf("discard generation %d of projection %s", n, projection)
	list, err := s.generations(ctx, s.db.pool, projection)
	if err != nil {
		return translate(doing, err)
	}
	g := list.number(n)
	switch {
	case g == nil:
		return fmt.Errorf("%s: %w", doing, courante.ErrNotFound)
	case !g.Beside:
		return fmt.Errorf("%s: it is %s, in the place that queries read", doing, g.State)
	}
	return translate(doing, s.discard(ctx, g))
}

// PauseProjection stops a projection from following its logs, in all programs,
// within about a second, until it is resumed. An inline one cannot be paused:
// its tables change with the events.
func (s *Store) PauseProjection(ctx context.Context, name, by string) error {
	tag, err := s.db.pool.Exec(ctx, s.sql("update {schema}.projection set paused = coalesce(paused, now()), paused_by = $2 where name = $1 and kind <> 'inline'"), name, by)
	if err != nil {
		return translate("pause projection "+name, err)
	}
	if tag.RowsAffected() > 0 {
		return nil
	}
	return s.whyNotPaused(ctx, name)
}

// ResumeProjection ends what PauseProjection has begun.
func (s *Store) ResumeProjection(ctx context.Context, name string) error {
	tag, err := s.db.pool.Exec(ctx, s.sql("update {schema}.projection set paused = null, paused_by = '' where name = $1 and kind <> 'inline'"), name)
	if err != nil {
		return translate("resume projection "+name, err)
	}
	if tag.RowsAffected() > 0 {
		return nil
	}
	return s.whyNotPaused(ctx, name)
}

func (s *Store) whyNotPaused(ctx context.Context, name string) error {
	var kind string
	err := s.db.pool.QueryRow(ctx, s.sql("select kind from {schema}.projection where name = $1"), name).Scan(&kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%s has no projection %q that has run: %w", s.name, name, courante.ErrNotFound)
	}
	if err != nil {
		return translate("look at projection "+name, err)
	}
	return fmt.Errorf("projection %s is inline: its tables change in the transaction of the events, so it cannot be paused and never lags", name)
}

// UsedBy returns who holds locks on the tables of a projection, in a line each:
// whom a switch waits for.
func (s *Store) UsedBy(ctx context.Context, projection string) ([]string, error) {
	rows, err := s.db.pool.Query(ctx, s.sql(`
		select distinct format('process %s (%s, %s for %s): %s', a.pid, coalesce(nullif(a.application_name, ''), a.usename), a.state,
			date_trunc('second', clock_timestamp() - a.xact_start), left(regexp_replace(a.query, '\s+', ' ', 'g'), 60))
		from {schema}.generation g cross join unnest(g.tables) as t(name)
		join pg_class c on c.relname = t.name and c.relnamespace = $2::text::regnamespace
		join pg_locks l on l.relation = c.oid and l.granted
		join pg_stat_activity a on a.pid = l.pid and a.xact_start < now() - interval '100 ms'
		where g.projection = $1 and a.pid <> pg_backend_pid()`), projection, s.quoted)
	if err != nil {
		return nil, translate("look who uses projection "+projection, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, translate("look who uses projection "+projection, err)
}
