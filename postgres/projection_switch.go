package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// switchTo makes the folder's generation live, in one transaction that is short:
// it keeps units and followers out, folds what came meanwhile, and swaps the
// tables between the schemas. What was live is kept beside, and the one that
// was kept before goes.
//
// When somebody reads the tables for longer than a moment it lets those pass
// who wait behind it and fails as transient. Who began to write before it is
// waited for, and who comes after finds the tables that are live then: names are
// looked up after the locks are had.
func (s *Store) switchTo(ctx context.Context, f *folder) error {
	doing := fmt.Sprintf("switch projection %s of %s to generation %d", f.p.Name, s.name, f.g.N)
	if err := f.open(ctx); err != nil {
		return translate(doing, err)
	}
	defer func() { f.lanes = nil }() // whatever came of it, the places are others now
	err := pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		if err := s.declare(ctx, tx, f.p); err != nil {
			return err
		}
		list, err := s.generations(ctx, tx, f.p.Name)
		if err != nil {
			return err
		}
		g, live := list.number(f.g.N), list.live()
		switch {
		case g == nil:
			return errMoved
		case g.State == stateLive:
			return nil // somebody else did it
		case g.Beside != (live != nil):
			return errMoved
		}
		return s.swap(ctx, tx, f, g, live)
	})
	if err != nil {
		return translateCommit(doing, err)
	}
	if err := s.dropOldKept(ctx, f.p.Name); err != nil {
		s.db.config.Logger.Warn("an older generation of a projection could not be dropped; the next switch tries again", "log", s.name, "projection", f.p.Name, "error", err)
	}
	return nil
}

// swap is the transaction of switchTo; live is nil when nothing is.
func (s *Store) swap(ctx context.Context, tx pgx.Tx, f *folder, g, live *generation) error {
	inline := f.p.Kind() == courante.Inline
	if inline {
		if err := s.lockLog(ctx, tx); err != nil {
			return err
		}
	}
	var moving []string // tables of the context that are to make room
	if live != nil {
		var err error
		if moving, err = s.tablesIn(ctx, tx, s.schema, slices.Concat(live.Tables, g.Tables)); err != nil {
			return err
		}
		locks := slices.Concat(s.qualified(s.schema, moving), s.qualified(s.besideSchema(g), g.Tables))
		if err := s.lockTables(ctx, tx, "access exclusive", locks...); err != nil {
			return err
		}
	}
	end, err := f.rest(ctx, tx, inline)
	if err != nil {
		return err
	}
	if inline {
		if err := s.endLanes(ctx, tx, g); err != nil {
			return err
		}
	}
	if live != nil {
		if err := s.exchange(ctx, tx, live, g, moving); err != nil {
			return err
		}
		if inline {
			if err := s.beginLane(ctx, tx, live, s.name, f.p.Types, end); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, s.sql("update {schema}.generation set state = 'kept', beside = true, tables = $2 where n = $1"), live.N, moving); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, s.sql(`
		update {schema}.generation set state = 'live', beside = false, built = coalesce(built, now()), switched = now() where n = $1`), g.N)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, s.sql("update {schema}.projection set version = $2, live = true, since = now(), failure = '' where name = $1"), f.p.Name, g.Version)
	return err
}

// rest folds, within tx, what is behind the folder's place, and returns the end
// of the service's log. When units are kept out, a tick makes visible what was
// committed before.
func (f *folder) rest(ctx context.Context, tx pgx.Tx, inline bool) (end courante.Cursor, err error) {
	if inline {
		if _, err := f.store.db.Tick(ctx); err != nil {
			return end, err
		}
	}
	for log, lane := range f.lanes {
		place := *lane
		for {
			b := f.read(ctx, log, place.Cursor)
			if b.err != nil {
				return end, b.err
			}
			if b.to == place.Cursor {
				break
			}
			if len(b.statements) > 0 {
				if err := tx.SendBatch(ctx, &pgx.Batch{QueuedQueries: b.statements}).Close(); err != nil {
					return end, foldError(b.events, err)
				}
			}
			place = place.advance(b)
			place.N = lane.N + 1
		}
		end = place.Cursor
		if place.N == lane.N || inline {
			continue
		}
		if err := f.store.appendProgress(ctx, tx, &place); err != nil {
			return end, err
		}
	}
	return end, nil
}

func (s *Store) appendProgress(ctx context.Context, tx pgx.Tx, l *foldLane) error {
	_, err := tx.Exec(ctx, s.sql(`
		insert into {schema}.progress (n, epoch, lane_epoch, k, tick, position, hash, subscriber, log, note)
		values ($1, $2, $3, 0, $4, $5, $6, $7, $8, json_build_object('events', $9::bigint, 'position', $10::bigint))`),
		l.N, l.Cursor.Epoch, l.Epoch, l.Cursor.Tick, l.Cursor.Position, int64(l.Cursor.Hash), l.Subscriber, l.Log, l.Events, l.foldNote.Position)
	return err
}

// tablesIn returns those of the tables that are in a schema.
func (s *Store) tablesIn(ctx context.Context, tx pgx.Tx, schema string, tables []string) ([]string, error) {
	rows, err := tx.Query(ctx, `
		select relname::text from pg_class
		where relnamespace = to_regnamespace($1) and relkind = 'r' and ($2::text[] is null or relname = any($2)) order by relname`,
		pgx.Identifier{schema}.Sanitize(), tables)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// exchange moves the tables of the context beside, and those of g to their
// place. Rights that were granted on the old ones are granted on the new, and
// views that read the old read the new.
func (s *Store) exchange(ctx context.Context, tx pgx.Tx, live, g *generation, moving []string) error {
	coming, err := s.tablesIn(ctx, tx, s.besideSchema(g), nil)
	if err != nil {
		return err
	}
	follow, err := s.followUp(ctx, tx, moving, coming)
	if err != nil {
		return err
	}
	here, aside, from := pgx.Identifier{s.schema}.Sanitize(), pgx.Identifier{s.besideSchema(live)}.Sanitize(), pgx.Identifier{s.besideSchema(g)}.Sanitize()
	statements := []string{"create schema if not exists " + aside}
	for _, table := range s.qualified(s.schema, moving) {
		statements = append(statements, "alter table "+table+" set schema "+aside)
	}
	for _, table := range s.qualified(s.besideSchema(g), coming) {
		statements = append(statements, "alter table "+table+" set schema "+here)
	}
	statements = append(append(statements, "drop schema "+from), follow...)
	_, err = tx.Conn().PgConn().Exec(ctx, strings.Join(statements, ";\n")).ReadAll()
	return err
}

// followUp returns statements that give the coming tables the rights that the
// moving ones have, and have the views of these read those. It is made before
// the tables move, because a view follows its table.
func (s *Store) followUp(ctx context.Context, tx pgx.Tx, moving, coming []string) ([]string, error) {
	if _, err := tx.Exec(ctx, "set local search_path = ''"); err != nil { // so that all names are written with their schemas
		return nil, err
	}
	rows, err := tx.Query(ctx, `
		with t as (
			select oid, relname, relacl, relowner from pg_class
			where relnamespace = $1::text::regnamespace and relname = any($2) and relname = any($3)
		)
		select format('grant %s on %s.%I to %s%s', privilege_type, $1::text, relname,
			case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
			case when is_grantable then ' with grant option' else '' end)
		from t cross join lateral aclexplode(relacl) where grantee <> relowner
		union all
		select distinct format('create or replace view %s%s as %s', v.oid::regclass,
			case when v.reloptions is null then '' else ' with (' || array_to_string(v.reloptions, ', ') || ')' end, rtrim(pg_get_viewdef(v.oid), ';'))
		from t join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid and d.classid = 'pg_rewrite'::regclass
		join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class and v.relkind = 'v'`,
		pgx.Identifier{s.schema}.Sanitize(), moving, coming)
	if err != nil {
		return nil, err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	var view string
	err = tx.QueryRow(ctx, `
		select coalesce(min(v.oid::regclass::text), '') from pg_depend d
		join pg_class t on t.oid = d.refobjid and t.relnamespace = $1::text::regnamespace and t.relname = any($2)
		join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class and v.relkind = 'm'
		where d.refclassid = 'pg_class'::regclass and d.classid = 'pg_rewrite'::regclass`,
		pgx.Identifier{s.schema}.Sanitize(), moving).Scan(&view)
	if err == nil && view != "" {
		err = fmt.Errorf("the materialized view %s reads a table of the projection, and would go on reading the old one; make it a plain view, or drop it and create it again after the switch", view)
	}
	return statements, err
}

// dropOldKept drops all but the newest generation that is kept.
func (s *Store) dropOldKept(ctx context.Context, projection string) error {
	list, err := s.generations(ctx, s.db.pool, projection)
	if err != nil {
		return err
	}
	var kept []*generation
	for i := range list {
		if list[i].State == stateKept {
			kept = append(kept, &list[i])
		}
	}
	slices.SortFunc(kept, func(a, b *generation) int { return b.Switched.Compare(a.Switched) })
	for _, g := range kept[min(1, len(kept)):] {
		if err := s.discard(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// discard drops a generation that is beside.
func (s *Store) discard(ctx context.Context, g *generation) error {
	return pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('lock_timeout', $1, true)", milliseconds(10*partLockTimeout)); err != nil {
			return err
		}
		// The row first, as a fold does it: two orders would be a deadlock.
		var beside bool
		if err := tx.QueryRow(ctx, s.sql("select beside from {schema}.generation where n = $1 for update"), g.N).Scan(&beside); err != nil {
			return err
		}
		if !beside {
			return errMoved
		}
		return s.deleteGeneration(ctx, tx, g)
	})
}
