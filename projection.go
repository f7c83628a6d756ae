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
// that no key answers: lists, filters, sums.
//
// It is inline: its tables change in the transaction of the events that change
// them, so they never lag behind the log, and who has the answer to a command
// finds it in them. The price is its statements in every unit that emits such
// events; what may lag, or is expensive, does not belong here.
//
// A projection needs SQL, so it is kept on stores that have it (see
// [SQLStore]). On others, such as package memory's, the service runs without
// it, and queries of it fail with [ErrNoSQL].
type Projection struct {
	// Name identifies the projection within its service: lower-case letters,
	// digits and _.
	Name string

	// Version is raised, from 1 on, whenever Apply or the meaning of the tables
	// changes. A runtime that finds the tables at another version than its own
	// empties them and folds the log anew before it starts.
	Version int

	// Tables are the names of the tables that the projection fills, without
	// schema: what is emptied before it is built.
	Tables []string

	// Types are the event types that it wants to see; none means all events of
	// the service's log.
	Types []string

	// Apply queues the statements that change the tables by the events. It is
	// called once for each transaction with all of its events that the
	// projection wants, those of one stream in order, and while it is built
	// with long stretches of the log in its total order. So the number of
	// statements must not depend on the number of events, nor may their text;
	// rows are passed as arrays. {schema} in the text stands for the schema of
	// the service.
	//
	// The statements run behind the events' own, in the order queued, and travel
	// with the commit: they cannot be waited for, and what they return is lost.
	// One that fails, fails the unit like any other write: the batch is
	// bisected until the culprit is alone, and that is set aside. The same
	// holds for an error of Apply itself. {schema}.expect('name', written,
	// wanted) raises one in SQL when the two numbers differ.
	//
	// Apply depends on nothing but the events, and not on the fields that are
	// read from the log: while a transaction is under way it has no place in
	// the log yet. It may be called at once, and again for the same events
	// after a transaction that failed.
	Apply func(b *pgx.Batch, events []Event) error
}

// Wants reports whether the projection is to see events of the type.
func (p *Projection) Wants(typ string) bool {
	return len(p.Types) == 0 || contains(p.Types, typ)
}

// SQLStore is a Store that can keep projections, because it is in PostgreSQL:
// postgres.Store. It is an interface of its own because the store of the
// simulation has no SQL to offer.
type SQLStore interface {
	Store

	// Keep applies the migrations, brings the projections up to date with the
	// log, and keeps them so: every later unit of this Store changes them too.
	// Projections that are not named are kept no longer. The program whose Keep
	// was called last owns the projections of the log: units of others, in
	// other processes, fail as transient unless they keep the same ones.
	// It may be repeated after an error, and goes on where it was.
	Keep(ctx context.Context, migrations fs.FS, projections []Projection) error

	// Query runs one query on the tables in the store's schema, for which
	// {schema} stands, and has read take the rows. It fails as transient while
	// the projections in the tables are not those that this Store keeps.
	Query(ctx context.Context, sql string, args []any, read func(pgx.Rows) error) error
}

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
	case len(p.Tables) == 0 || p.Apply == nil:
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
// [ErrTransient] while another program has them in another version.
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
// their projections, of which a new one is filled from the log. That may take
// long, during which other processes go on with what they keep. Failures of
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
