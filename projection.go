package courante

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Projection is a read model in SQL tables of the service's own, for questions
// that no key answers: lists, filters, sums. There are three kinds, see
// [ProjectionKind]; all are built, rebuilt, switched and listed alike.
//
// A projection needs SQL, so it is kept on stores that have it (see
// [SQLStore]). On others, such as package memory's, the service runs without
// it, and queries of it fail with [ErrNoSQL].
type Projection struct {
	// Name identifies the projection within its service: lower-case letters,
	// digits and _.
	Name string

	// Version is raised, from 1 on, whenever Apply or the meaning of the tables
	// changes. A runtime that finds another version live builds its own beside
	// it, and switches when that has come to the end of the log: an inline one
	// before it starts, others while it runs.
	Version int

	// Async makes the projection follow the logs at a distance, instead of
	// changing in the transaction of the events.
	Async bool

	// RefreshEvery, if not 0, makes the projection a materialized view, which a
	// migration has created: Tables has its name, and there is no Apply. It is
	// refreshed after new events, at most so often, and at least as long apart
	// as a refresh takes; concurrently, so that readers do not wait, if it has
	// a unique index on columns only.
	RefreshEvery time.Duration

	// Tables are the names of the tables that the projection fills, without
	// schema. Nobody else writes to them. Apply and queries name each as
	// {schema}.table: that is how they are led to the generation that is meant.
	Tables []string

	// Types are the event types that it wants to see; none means all events of
	// the service's log. An asynchronous one may name those of other services
	// whose logs are in the same database. Each log comes in its order; the order
	// between logs is not the same in every build, so that what is made of two
	// logs must not depend on it.
	Types []string

	// Apply queues the statements that change the tables by the events. It is
	// called once for each transaction with all of its events that the
	// projection wants, those of one stream in order: inline the events of a
	// unit, otherwise, and while it is built, long stretches of a log in its
	// total order. So the number of statements must not depend on the number of
	// events, nor may their text; rows are passed as arrays. {schema} in the
	// text stands for the schema of the service.
	//
	// The statements run in the order queued, and travel with the commit: they
	// cannot be waited for, and what they return is lost. One that fails, fails
	// the transaction: a unit is bisected like for any other write until the
	// culprit is alone, and that is set aside; what follows the log stops, says
	// why in its status, and tries again. The same holds for an error of Apply
	// itself. {schema}.expect('name', written, wanted) raises one in SQL when
	// the two numbers differ.
	//
	// Apply depends on nothing but the events, and not on the fields that are
	// read from the log: while a transaction is under way it has no place in
	// the log yet. How events are cut into calls must not matter either. It may
	// be called at once, and again for the same events after a transaction that
	// failed.
	Apply func(b *pgx.Batch, events []Event) error
}

// ProjectionKind says when the tables of a projection change.
type ProjectionKind string

// The kinds of projections.
const (
	// Inline tables change in the transaction of the events that change them,
	// so they never lag behind the log, and who has the answer to a command
	// finds it in them. The price is their statements in every unit that emits
	// such events; what may lag, or is expensive, does not belong here.
	Inline ProjectionKind = "inline"
	// Async tables follow the logs: each step changes them and moves their place
	// in one transaction, so that every event counts once, whatever dies.
	Async ProjectionKind = "async"
	// View is a materialized view, for those who start simple: all of it is
	// computed anew after new events.
	View ProjectionKind = "view"
)

// Kind is the kind of the projection.
func (p *Projection) Kind() ProjectionKind {
	switch {
	case p.RefreshEvery > 0:
		return View
	case p.Async:
		return Async
	}
	return Inline
}

// Wants reports whether the projection is to see events of the type.
func (p *Projection) Wants(typ string) bool {
	return len(p.Types) == 0 || contains(p.Types, typ)
}

// Logs are the names of the logs that the projection of the service own reads,
// sorted. services are those whose events it may want; a type that none of them
// emits is looked for in the foreign logs.
func (p *Projection) Logs(own *Service, services []*Service, foreign []string) []string {
	if len(p.Types) == 0 || p.Kind() == Inline {
		return []string{own.name}
	}
	var logs []string
	for _, typ := range p.Types {
		i := slices.IndexFunc(services, func(s *Service) bool { _, emits := s.events[typ]; return emits })
		if i < 0 {
			logs = append(logs, foreign...)
		} else {
			logs = append(logs, services[i].name)
		}
	}
	slices.Sort(logs)
	return slices.Compact(logs)
}

// SQLStore is a Store that can keep projections, because it is in PostgreSQL:
// postgres.Store. It is an interface of its own because the store of the
// simulation has no SQL to offer.
type SQLStore interface {
	Store

	// Keep applies the migrations, brings the inline projections up to date with
	// the log, and keeps them so: every later unit of this Store changes them
	// too. Projections that are not named are kept no longer. The program whose
	// Keep was called last owns the inline projections of the log: units of
	// others, in other processes, fail as transient unless they keep the same
	// ones. It may be repeated after an error, and goes on where it was.
	Keep(ctx context.Context, migrations fs.FS, projections []Projection) error

	// Follow returns the follower of a projection that Keep was told of. logs
	// are those that it reads.
	Follow(p Projection, logs map[string]ReadLog) Follower

	// Place returns how far in a log the live generation of a projection is, as
	// anybody has recorded it. It fails with ErrNotFound if there is none, and
	// with ErrPaused, beside the place, if it is paused.
	Place(ctx context.Context, projection, log string) (Cursor, error)

	// Query runs one query on the tables in the store's schema, for which
	// {schema} stands, and has read take the rows. It fails as transient while
	// a projection that the query names a table of is not live in the version
	// that this Store keeps.
	Query(ctx context.Context, sql string, args []any, read func(pgx.Rows) error) error
}

// ReadLog reads a log as [Store.ReadLog] does.
type ReadLog func(ctx context.Context, after Cursor, max int) ([]Event, Cursor, error)

// Follower carries the tables of one projection on behind its logs: the live
// ones, unless they are inline, those that are being built, and those that were
// live before. It is used by one goroutine; several processes may each have one,
// of which one at a time gets to work.
type Follower interface {
	// Step does a piece of work and reports whether there was any.
	Step(ctx context.Context) (worked bool, err error)
	// Next is when Step has something to do, even if no log grows.
	Next() time.Time
	// Place is how far the live generation is in a log, as this process knows;
	// the zero Cursor if it does not. It may be called from any goroutine.
	Place(log string) Cursor
}

// ErrPaused says that a projection was paused by an operator: it does not
// follow its logs until somebody resumes it.
var ErrPaused = errors.New("paused")

// ErrNoSQL says that a service was asked for what is in its tables, and that
// it is on a store without SQL, which does not keep any.
var ErrNoSQL = errors.New("the store has no SQL")

// Tables declares the service's own tables, by migrations: files named
// 001_what_it_does.sql in the root of the file system, numbered without a gap.
// {schema} in a file stands for the service's schema, which is also that of
// its store. They only go forward, and must leave the program before working.
func (s *Service) Tables(migrations fs.FS) {
	if s.migrations != nil {
		s.problem("its tables are declared twice")
	}
	s.migrations = migrations
}

// Migrations are those that were declared with Tables, nil if none were.
func (s *Service) Migrations() fs.FS { return s.migrations }

var projectionName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// Project declares a projection.
func (s *Service) Project(p Projection) {
	switch {
	case !projectionName.MatchString(p.Name):
		s.problem("projection %q: the name must be of lower-case letters, digits and _, and begin with a letter", p.Name)
	case p.Version < 1:
		s.problem("projection %s: Version is %d; versions begin at 1", p.Name, p.Version)
	case p.RefreshEvery < 0 || p.Kind() == View && (len(p.Tables) != 1 || p.Apply != nil || p.Async):
		s.problem("projection %s: a materialized view has its name as the one table in Tables, a RefreshEvery above 0, and neither Apply nor Async", p.Name)
	case p.Kind() != View && (len(p.Tables) == 0 || p.Apply == nil):
		s.problem("projection %s needs Tables and Apply", p.Name)
	case slices.ContainsFunc(s.projections, func(other Projection) bool { return other.Name == p.Name }):
		s.problem("projection %s is declared twice", p.Name)
	}
	s.projections = append(s.projections, p)
}

// Projections returns what was declared with Project.
func (s *Service) Projections() []Projection { return s.projections }

// Select answers a query from the tables of the service, a T for each row, as
// row makes it, such as pgx.RowToStructByPos[T]. {schema} in the query stands
// for the service's schema. It sees everything that was committed before. The
// text must be one of few, because it is prepared and remembered.
//
// It fails with [ErrNoSQL] on a store that keeps no projections, and as
// [ErrTransient] while a projection that it reads is built for the first time,
// or another program has it in another version. What no projection answers, the
// source of truth does: [Entity.Get], [Entity.History].
func Select[T any](ctx context.Context, s *Service, row pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	if s.node == nil {
		return nil, errors.New("query of " + s.name + ": the service has no runtime; hand it to NewRuntime first")
	}
	store, ok := s.node.store.(SQLStore)
	if !ok {
		return nil, fmt.Errorf("query of %s: %w", s.name, ErrNoSQL)
	}
	var list []T
	err := store.Query(ctx, sql, args, func(rows pgx.Rows) (err error) {
		list, err = pgx.CollectRows(rows, row)
		return err
	})
	return list, err
}

// Prepare brings the tables of the services up to date: their migrations, and
// their inline projections, of which a new one is filled from the log. That may
// take long, during which other processes go on with what they keep. Failures of
// the infrastructure are waited out. Run does it by itself; called before, it
// tells how long it took and what is wrong.
func (rt *Runtime) Prepare(ctx context.Context) error {
	for _, n := range rt.nodes {
		if err := n.prepare(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) prepare(ctx context.Context) error {
	store, ok := n.store.(SQLStore)
	if !ok || n.prepared {
		return nil
	}
	for try := 1; ; try++ {
		err := store.Keep(ctx, n.svc.migrations, n.svc.projections)
		if err == nil {
			n.prepared = true
			return nil
		}
		if !isTransient(err) || ctx.Err() != nil {
			return fmt.Errorf("prepare %s: %w", n.svc.name, err)
		}
		pause := n.rt.backoff(try, minPause, maxPause)
		n.rt.log.Warn("paused", "actor", "projections "+n.svc.name, "failures", try, "pause_ms", pause.Milliseconds(), "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
