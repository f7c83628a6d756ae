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

// inline is what the units of a store change beside the log, and what its
// queries read.
type inline struct {
	all    []courante.Projection // that are kept, of all kinds
	tables map[string]string     // of all: the projection and version that fills each, as name@version
	list   []courante.Projection // the inline ones, sorted by name
	kept   string                // their names and versions, as liveProjections gives them
	live   string                // those that the tables had when they were looked at last
}

// newInline makes the value of the projections.
func newInline(all []courante.Projection) *inline {
	in := &inline{all: all, tables: make(map[string]string)}
	for _, p := range all {
		if p.Kind() == courante.Inline {
			in.list = append(in.list, p)
		}
		for _, table := range p.Tables {
			in.tables[table] = nameVersion(&p)
		}
	}
	slices.SortFunc(in.list, func(a, b courante.Projection) int { return strings.Compare(a.Name, b.Name) })
	names := make([]string, len(in.list))
	for i := range in.list {
		names[i] = nameVersion(&in.list[i])
	}
	in.kept = strings.Join(names, " ")
	in.live = in.kept
	return in
}

func nameVersion(p *courante.Projection) string { return fmt.Sprintf("%s@%d", p.Name, p.Version) }

// readBy are the projections whose tables an SQL text names, as name@version.
func (in *inline) readBy(text string) []string {
	var names []string
	for _, m := range tableName.FindAllStringSubmatch(text, -1) {
		if name := in.tables[m[2]]; name != "" && !contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// liveProjections is SQL for the names and versions of what every unit of the
// log has to change.
const liveProjections = `coalesce((select string_agg(p.name || '@' || p.version, ' ' order by p.name collate "C")
		from {schema}.projection p where p.live and p.kind = 'inline'), '')`

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
		statements, err := apply(p, events, s.sql)
		if err != nil {
			return nil, err
		}
		if len(statements) > 0 {
			all = append(all, projected{p.Name, statements})
		}
	}
	return all, nil
}

// apply returns the projection's statements for those of the events that it
// wants; in puts schemas into their text.
func apply(p *courante.Projection, events []courante.Event, in func(sql string) string) ([]*pgx.QueuedQuery, error) {
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
		return nil, nil
	}
	var batch pgx.Batch
	if err := p.Apply(&batch, wanted); err != nil {
		return nil, &projectionError{p.Name, err}
	}
	for _, q := range batch.QueuedQueries {
		q.SQL = in(q.SQL)
	}
	return batch.QueuedQueries, nil
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
	in := s.inline.Load()
	if in.all == nil && in.live != "" {
		return errNotKept(doing) // this program has not said what it keeps
	}
	var batch pgx.Batch
	batch.Queue(s.sql(sql), args...).Query(read)
	names := in.readBy(sql)
	if len(names) > 0 {
		// Asked behind the query: a program that takes over in between is noticed
		// then, and one that took over before is as well.
		batch.Queue(s.sql(expectRead), names)
	}
	err := s.db.pool.SendBatch(ctx, &batch).Close()
	if notKept(err) {
		return s.notLive(ctx, doing, names)
	}
	return translate(doing, err)
}

// expectRead fails unless each of the projections is live in the version.
const expectRead = `
	select {schema}.expect('projection', count(*), cardinality($1::text[]))
	from {schema}.projection where live and name || '@' || version = any($1::text[])`

// notLive says why one of the projections cannot be read. All of it passes: one
// that is being built will be live.
func (s *Store) notLive(ctx context.Context, doing string, names []string) error {
	var name, state string
	var live bool
	err := s.db.pool.QueryRow(ctx, s.sql(`
		select p.name, p.live, coalesce(g.state, '')
		from unnest($1::text[]) want(id)
		join {schema}.projection p on p.name = split_part(want.id, '@', 1)
		left join {schema}.generation g on g.projection = p.name and g.version = split_part(want.id, '@', 2)::int and g.state <> 'live'
		where not (p.live and p.name || '@' || p.version = want.id)
		order by g.n desc limit 1`), names).Scan(&name, &live, &state)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errNotKept(doing) // or it became live just now
	case err != nil:
		return translate(doing, err)
	case !live || state == stateBuilding || state == stateReady:
		return courante.Transient(fmt.Errorf("postgres: %s: projection %s is being built; see how far it is with: courante projection show %s %s",
			doing, name, s.name, name))
	}
	return errNotKept(doing)
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

// Keep builds the inline projections and has every unit change them from then
// on; see [courante.SQLStore].
func (s *Store) Keep(ctx context.Context, migrations fs.FS, projections []courante.Projection) error {
	if migrations != nil {
		if err := s.db.MigrateSchema(ctx, s.schema, migrations); err != nil {
			return err
		}
	}
	in := newInline(projections)
	for i := range in.all {
		if err := s.keep(ctx, &in.all[i]); err != nil {
			return translate(fmt.Sprintf("build projection %s of %s", in.all[i].Name, s.name), err)
		}
	}
	if err := s.forget(ctx, in); err != nil {
		return translate("forget old projections of "+s.name, err)
	}
	s.inline.Store(in)
	return nil
}
