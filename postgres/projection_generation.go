package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// The states of a generation of a projection's tables.
const (
	stateBuilding = "building" // it has not come to the end of the logs yet
	stateReady    = "ready"    // it has, and can be made live
	stateLive     = "live"     // queries read it
	stateKept     = "kept"     // it was live before, and is the way back
)

// generation is one set of a projection's tables. Live, or built where no other
// was, it is in the context's schema; otherwise it is beside that, in a schema
// of its own. See 005_generation.sql.
type generation struct {
	N          int64
	Version    int
	Beside     bool
	State      string
	Began      time.Time
	Built      time.Time
	Switched   time.Time
	Projection string
	Tables     []string
}

// lane is the subscriber under which the generation follows logs.
func (g *generation) lane() string { return fmt.Sprintf("projection %s/%d", g.Projection, g.N) }

// besideSchema is the schema of the generation's tables when they are beside.
func (s *Store) besideSchema(g *generation) string {
	return fmt.Sprintf("%s_%s_%d", s.schema, g.Projection, g.N)
}

func (s *Store) schemaOf(g *generation) string {
	if g.Beside {
		return s.besideSchema(g)
	}
	return s.schema
}

// tableName is an SQL text's mention of a table of the service.
var tableName = regexp.MustCompile(`\{schema\}\.("?)(\w+)("?)`)

// inGeneration leads the mentions of the projection's tables to those of the
// generation; {schema} stands for the context's schema everywhere else.
func (s *Store) inGeneration(g *generation, tables []string) func(text string) string {
	if !g.Beside {
		return s.sql
	}
	return s.inTables(s.besideSchema(g), tables)
}

func (s *Store) inTables(schema string, tables []string) func(text string) string {
	beside := pgx.Identifier{schema}.Sanitize()
	return func(text string) string {
		return s.inSchema(tableName.ReplaceAllStringFunc(text, func(mention string) string {
			rest := strings.TrimPrefix(mention, "{schema}.")
			if contains(tables, strings.Trim(rest, `"`)) {
				return beside + "." + rest
			}
			return mention
		}))
	}
}

func contains(list []string, s string) bool {
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}

const selectGenerations = `
	select n, version, beside, state, began, coalesce(built, '0001-01-01 00:00Z'), coalesce(switched, '0001-01-01 00:00Z'), projection, tables
	from {schema}.generation where projection = $1 order by n`

// generations returns those of a projection, the oldest first.
func (s *Store) generations(ctx context.Context, q rowsQueryer, projection string) (generations, error) {
	rows, err := q.Query(ctx, s.sql(selectGenerations), projection)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[generation])
}

type generations []generation

func (list generations) find(matches func(g *generation) bool) *generation {
	for i := len(list) - 1; i >= 0; i-- {
		if matches(&list[i]) {
			return &list[i]
		}
	}
	return nil
}

func (list generations) number(n int64) *generation {
	return list.find(func(g *generation) bool { return g.N == n })
}

func (list generations) live() *generation {
	return list.find(func(g *generation) bool { return g.State == stateLive })
}

// next is what is to become live of a version: of what is there, the newest
// that was not left for another.
func (list generations) next(version int) *generation {
	return list.find(func(g *generation) bool {
		return g.Version == version && (g.State == stateBuilding || g.State == stateReady)
	})
}

// declare makes the projection known, or changes its kind, and locks it until tx
// ends: all that changes its generations goes one after the other.
func (s *Store) declare(ctx context.Context, tx pgx.Tx, p *courante.Projection) error {
	_, err := tx.Exec(ctx, s.sql(`
		insert into {schema}.projection (version, live, kind, name) values (0, false, $2, $1)
		on conflict (name) do update set name = excluded.name`), p.Name, string(p.Kind()))
	return err
}

// begin returns the generation that is to become live at the projection's
// version: one that somebody began and did not finish, or a new one. Where no
// generation is live the tables of the context are it, emptied; otherwise its
// tables are made beside them, of the same form.
func (s *Store) begin(ctx context.Context, p *courante.Projection, anew bool) (g *generation, err error) {
	err = pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		if err := s.declare(ctx, tx, p); err != nil {
			return err
		}
		list, err := s.generations(ctx, tx, p.Name)
		if err != nil {
			return err
		}
		live := list.live()
		if g = list.next(p.Version); g != nil && g.Beside == (live != nil) {
			return nil
		}
		g = nil
		if !anew {
			g = list.find(func(g *generation) bool { return g.Version == p.Version && g.State == stateKept })
		}
		if g != nil {
			return nil
		}
		g = &generation{Version: p.Version, Beside: live != nil, State: stateBuilding, Projection: p.Name, Tables: p.Tables}
		if live == nil {
			if old := list.find(func(g *generation) bool { return !g.Beside }); old != nil {
				if err := s.deleteGeneration(ctx, tx, old); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, "truncate "+strings.Join(s.qualified(s.schema, p.Tables), ", ")); err != nil {
				return err
			}
		}
		err = tx.QueryRow(ctx, s.sql(`
			insert into {schema}.generation (version, beside, state, projection, tables)
			values ($1, $2, $3, $4, $5) returning n, began`), g.Version, g.Beside, g.State, g.Projection, g.Tables).Scan(&g.N, &g.Began)
		if err != nil || !g.Beside {
			return err
		}
		return s.makeBeside(ctx, tx, g)
	})
	return g, err
}

func (s *Store) qualified(schema string, tables []string) []string {
	names := make([]string, len(tables))
	for i, table := range tables {
		names[i] = pgx.Identifier{schema, table}.Sanitize()
	}
	return names
}

// makeBeside makes the generation's schema, with empty tables that are like the
// live ones.
func (s *Store) makeBeside(ctx context.Context, tx pgx.Tx, g *generation) error {
	beside := s.besideSchema(g)
	if len(beside) > 63 { // PostgreSQL would cut it, and it might meet another
		return fmt.Errorf("the schema %s would be longer than the 63 characters that PostgreSQL takes; give the projection a shorter name", beside)
	}
	if err := s.checkCopied(ctx, tx, g); err != nil {
		return err
	}
	statements := []string{"create schema " + pgx.Identifier{beside}.Sanitize()}
	for i, table := range s.qualified(beside, g.Tables) {
		statements = append(statements, fmt.Sprintf("create table %s (like %s including all)", table, s.qualified(s.schema, g.Tables)[i]))
	}
	_, err := tx.Conn().PgConn().Exec(ctx, strings.Join(statements, "; ")).ReadAll()
	return err
}

// checkCopied refuses tables with what a table that is made like them would
// lack, or share with them.
func (s *Store) checkCopied(ctx context.Context, tx pgx.Tx, g *generation) error {
	var problem string
	err := tx.QueryRow(ctx, `
		with t as (
			select c.oid, c.relname, c.relkind from pg_class c
			where c.relnamespace = $1::text::regnamespace and c.relname = any($2)
		)
		select format('table %s is partitioned', relname) from t where relkind = 'p'
		union all
		select format('table %s has the trigger %s; let Apply do what it does', t.relname, tgname)
		from t join pg_trigger on tgrelid = t.oid where not tgisinternal
		union all
		select format('%s has the foreign key %s; a read model has none, because its log was checked before', conrelid::regclass, conname)
		from t join pg_constraint on contype = 'f' and t.oid in (conrelid, confrelid)
		union all
		select format('table %s owns the sequence %s; make the column generated always as identity', t.relname, d.objid::regclass)
		from t join pg_depend d on d.refobjid = t.oid and d.refclassid = 'pg_class'::regclass and d.classid = 'pg_class'::regclass and d.deptype = 'a'
		join pg_class q on q.oid = d.objid and q.relkind = 'S'
		limit 1`, pgx.Identifier{s.schema}.Sanitize(), g.Tables).Scan(&problem)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("projection %s cannot be built beside the live one: %s", g.Projection, problem)
}

// deleteGeneration forgets a generation, with its place in the logs, and drops
// its tables if they are beside.
func (s *Store) deleteGeneration(ctx context.Context, tx pgx.Tx, g *generation) error {
	if g.Beside {
		if _, err := tx.Exec(ctx, "drop schema if exists "+pgx.Identifier{s.besideSchema(g)}.Sanitize()+" cascade"); err != nil {
			return err
		}
	}
	for _, sql := range []string{
		"delete from {schema}.lane_epoch where subscriber = $1",
		"delete from {schema}.progress where subscriber = $1",
	} {
		if _, err := tx.Exec(ctx, s.sql(sql), g.lane()); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, s.sql("delete from {schema}.generation where n = $1"), g.N)
	return err
}

// forget drops what was kept of projections that are not declared any more.
// Their tables in the context's schema stay as they are, for the migrations to
// drop.
func (s *Store) forget(ctx context.Context, in *inline) error {
	names := make([]string, len(in.all))
	for i, p := range in.all {
		names[i] = p.Name
	}
	var others []string
	err := s.db.pool.QueryRow(ctx, s.sql("select coalesce(array_agg(name), '{}') from {schema}.projection where name <> all($1)"), names).Scan(&others)
	if err != nil || len(others) == 0 {
		return err
	}
	return pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		if err := s.lockLog(ctx, tx); err != nil {
			return err
		}
		for _, name := range others {
			list, err := s.generations(ctx, tx, name)
			if err != nil {
				return err
			}
			for i := range list {
				if err := s.deleteGeneration(ctx, tx, &list[i]); err != nil {
					return err
				}
			}
		}
		_, err := tx.Exec(ctx, s.sql("delete from {schema}.projection where name = any($1)"), others)
		return err
	})
}
