package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var _ courante.SQLStore = (*Store)(nil)

// inline is what the units of a store change beside the log.
type inline struct {
	list []courante.Projection // sorted by name
	kept string                // their names and versions, as liveProjections gives them
	live string                // those that the tables had when they were looked at last
}

// newInline makes the value of the projections, which it sorts by name.
func newInline(list []courante.Projection) *inline {
	in := &inline{list: slices.Clone(list)}
	slices.SortFunc(in.list, func(a, b courante.Projection) int { return strings.Compare(a.Name, b.Name) })
	names := make([]string, len(in.list))
	for i, p := range in.list {
		names[i] = fmt.Sprintf("%s@%d", p.Name, p.Version)
	}
	in.kept = strings.Join(names, " ")
	in.live = in.kept
	return in
}

// liveProjections is SQL for the names and versions of what every unit of the
// log has to change.
const liveProjections = `coalesce((select string_agg(p.name || '@' || p.version, ' ' order by p.name collate "C")
		from {schema}.projection p where p.live), '')`

// expectProjections is SQL that fails unless the live projections are those of
// the parameter. In the statement that inserts events it is the fence: whoever
// makes other projections live has locked the log's table before, so that
// statement waits, and then sees what changed, because PostgreSQL takes a
// statement's snapshot after its locks.
func expectProjections(param string) string {
	return `{schema}.expect('projection', (` + liveProjections + ` = ` + param + `::text)::int, 1)`
}

// notKept reports whether a statement failed on expectProjections.
func notKept(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && server.Code == codeExpect && server.TableName == "projection"
}

// errNotKept is transient: it ends with this program, or when this program is
// started anew, and no message is to blame.
func errNotKept(doing string) error {
	return courante.Transient(fmt.Errorf("postgres: %s: another program, which was started later, keeps other projections of this log; "+
		"stop this one, or start it again if it is the one that shall go on", doing))
}

// projectionError is the failure of a statement that a projection has queued.
// It is told apart from those of our own statements because the tables, and
// so their names in errors, are not ours.
type projectionError struct {
	name string
	err  error
}

func (e *projectionError) Error() string { return "projection " + e.name + ": " + e.err.Error() }
func (e *projectionError) Unwrap() error { return e.err }

// projected are the statements by which a unit changes one projection.
type projected struct {
	name       string
	statements []*pgx.QueuedQuery
}

// project has the projections make their statements for the events.
func (in *inline) project(s *Store, events []courante.Event) ([]projected, error) {
	var all []projected
	for i := range in.list {
		p := &in.list[i]
		batch, err := s.apply(p, events)
		if err != nil {
			return nil, err
		}
		if batch.Len() > 0 {
			all = append(all, projected{p.Name, batch.QueuedQueries})
		}
	}
	return all, nil
}

// apply returns the projection's statements for those of the events that it
// wants.
func (s *Store) apply(p *courante.Projection, events []courante.Event) (*pgx.Batch, error) {
	batch := &pgx.Batch{}
	wanted := events
	if len(p.Types) > 0 {
		wanted = nil
		for i := range events {
			if p.Wants(events[i].Type) {
				wanted = append(wanted, events[i])
			}
		}
	}
	if len(wanted) == 0 {
		return batch, nil
	}
	if err := p.Apply(batch, wanted); err != nil {
		return nil, &projectionError{p.Name, err}
	}
	for _, q := range batch.QueuedQueries {
		q.SQL = s.sql(q.SQL)
	}
	return batch, nil
}

// queued adds a statement of a projection. Its arguments are encoded as pgx
// does it everywhere else.
func (p *pipeline) queued(projection string, q *pgx.QueuedQuery) {
	if p.err != nil {
		return
	}
	fail := func(err error) { p.err = &notSentError{&projectionError{projection, err}} }
	statement, err := p.conn.Prepare(p.ctx, q.SQL, q.SQL)
	if err != nil {
		fail(err)
		return
	}
	var b pgx.ExtendedQueryBuilder
	if err := b.Build(p.conn.TypeMap(), statement, q.Arguments); err != nil {
		fail(err)
		return
	}
	p.steps = append(p.steps, step{
		sql: q.SQL, statement: statement, params: b.ParamValues, formats: b.ParamFormats, projection: projection,
	})
}

// Query runs a query on the tables of the context; see [courante.SQLStore].
func (s *Store) Query(ctx context.Context, sql string, args []any, read func(pgx.Rows) error) error {
	doing := "query " + s.name
	var batch pgx.Batch
	batch.Queue(s.sql(sql), args...).Query(read)
	// Asked behind the query: a program that takes over in between is noticed
	// then, and one that took over before is as well.
	batch.Queue(s.sql("select "+expectProjections("$1")), s.inline.Load().kept)
	err := s.db.pool.SendBatch(ctx, &batch).Close()
	if notKept(err) {
		return errNotKept(doing)
	}
	return translate(doing, err)
}

// checkAppend refuses appends to a log with projections, which only units
// change. A program that appends by itself and does not know of a projection
// that became live since it was started is not noticed.
func (s *Store) checkAppend() error {
	if live := s.inline.Load().live; live != "" {
		return fmt.Errorf("log %s has the projections %s, which change with units only: use Begin and Commit", s.name, live)
	}
	return nil
}

// refreshInline looks up which projections the log has. It knows no more of
// them than that: until Keep was called, units and queries of this store fail.
func (s *Store) refreshInline(ctx context.Context) error {
	in := &inline{}
	err := s.db.pool.QueryRow(ctx, s.inSchema("select "+liveProjections)).Scan(&in.live)
	s.inline.Store(in)
	return translate("look for the projections of log "+s.name, err)
}

// Keep builds the projections and has every unit change them from then on; see
// [courante.SQLStore].
func (s *Store) Keep(ctx context.Context, migrations fs.FS, projections []courante.Projection) error {
	if migrations != nil {
		if err := s.db.MigrateSchema(ctx, s.schema, migrations); err != nil {
			return err
		}
	}
	in := newInline(projections)
	for i := range in.list {
		if err := s.build(ctx, &in.list[i]); err != nil {
			return translate(fmt.Sprintf("build projection %s of %s", in.list[i].Name, s.name), err)
		}
	}
	if err := s.forget(ctx, in); err != nil {
		return translate("forget old projections of "+s.name, err)
	}
	s.inline.Store(in)
	return nil
}
