package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// beginView makes a materialized view known as the live generation: it answers
// as soon as its migration has made it.
func (s *Store) beginView(ctx context.Context, p *courante.Projection) error {
	return pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		if err := s.declare(ctx, tx, p); err != nil {
			return err
		}
		list, err := s.generations(ctx, tx, p.Name)
		if err != nil {
			return err
		}
		live := list.live()
		if live != nil && live.Version == p.Version {
			return nil
		}
		if live != nil {
			if err := s.deleteGeneration(ctx, tx, live); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, s.sql(`
			insert into {schema}.generation (version, beside, state, built, switched, projection, tables)
			values ($1, false, 'live', now(), now(), $2, $3)`), p.Version, p.Name, p.Tables)
		if err == nil {
			_, err = tx.Exec(ctx, s.sql("update {schema}.projection set version = $2, live = true, since = now() where name = $1"), p.Name, p.Version)
		}
		return err
	})
}

// refresh computes a view anew if there are events that it wants, and enough
// time has passed.
func (f *logFollower) refresh(ctx context.Context, g *followed) (bool, error) {
	due := false
	for log := range f.logs {
		for {
			b := batch{log: log}
			at := g.lanes[log].Cursor
			if b.events, b.to, b.err = f.logs[log](ctx, at, foldEvents); b.err != nil {
				return false, b.err
			}
			if b.to == at {
				break
			}
			for i := range b.events {
				due = due || f.p.Wants(b.events[i].Type)
			}
			if due {
				break
			}
			if err := g.commit(ctx, b); err != nil { // nothing that it wants: only the place moves
				return false, err
			}
		}
	}
	f.publish(g)
	if !due {
		return false, nil
	}
	if next := g.recorded.Add(max(f.p.RefreshEvery, g.ran)); time.Now().Before(next) {
		f.wake(next)
		return false, nil
	}
	start := time.Now()
	if err := g.refreshView(ctx); err != nil {
		return false, err
	}
	g.recorded, g.ran = time.Now(), time.Since(start)
	f.publish(g)
	return true, nil
}

// refreshView computes the view anew, and moves the places to what it has seen:
// the ends of the logs before it began.
func (f *folder) refreshView(ctx context.Context) error {
	s := f.store
	doing := fmt.Sprintf("refresh the materialized view %s of %s", f.p.Name, s.name)
	if err := f.open(ctx); err != nil {
		return err
	}
	next := make(map[string]foldLane)
	for log, lane := range f.lanes {
		source, err := s.db.Store(ctx, log)
		if err != nil {
			return err
		}
		end, err := source.Head(ctx)
		if err != nil {
			return err
		}
		l := lane.advance(batch{to: lane.Cursor})
		if lane.Cursor.Before(end) {
			l.Cursor = end
		}
		next[log] = l
	}
	err := pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		for _, l := range next {
			if err := s.appendProgress(ctx, tx, &l); err != nil {
				if hasCode(err, "23505") {
					return courante.ErrFenced // another process has just refreshed it
				}
				return err
			}
		}
		how, err := s.howToRefresh(ctx, tx, f.p.Tables[0])
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, how)
		return err
	})
	if err != nil {
		f.lanes = nil
		return translateCommit(doing, err)
	}
	for log, l := range next {
		*f.lanes[log] = l
	}
	return nil
}

// howToRefresh is the statement for a view: concurrently where PostgreSQL can.
func (s *Store) howToRefresh(ctx context.Context, tx pgx.Tx, view string) (string, error) {
	var concurrently bool
	err := tx.QueryRow(ctx, `
		select c.relispopulated and exists (
			select from pg_index i where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null)
		from pg_class c where c.relnamespace = $1::text::regnamespace and c.relname = $2 and c.relkind = 'm'`,
		pgx.Identifier{s.schema}.Sanitize(), view).Scan(&concurrently)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("there is no materialized view %s; create it in a migration of the service, or do not set RefreshEvery", view)
	}
	name := pgx.Identifier{s.schema, view}.Sanitize()
	if concurrently {
		return "refresh materialized view concurrently " + name, err
	}
	return "refresh materialized view " + name, err
}
