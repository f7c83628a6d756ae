package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// buildEvents is how many events one transaction folds while a projection is
// built: enough that the commit costs little beside them, and few enough that
// not much is lost when it fails.
const buildEvents = 2000

// build makes the projection live: it folds the log up to its end, in the
// total order, and then every unit goes on with it.
//
// Each step is a transaction that begins by locking the projection's row, and
// moves the cursor in it. So a crash loses one step, a process that slept goes
// on where others are, and two that build at once take turns. Nobody waits for
// the long part; the last step locks the log while it folds what came
// meanwhile, so that no unit is left between the fold and the units that change
// the projection themselves.
func (s *Store) build(ctx context.Context, p *courante.Projection) error {
	live, err := s.beginBuild(ctx, p)
	for !live && err == nil {
		live, err = s.buildStep(ctx, p)
	}
	return err
}

// beginBuild takes the projection over at our version, and reports whether it
// is live as it is. A build of this version that somebody has begun goes on.
func (s *Store) beginBuild(ctx context.Context, p *courante.Projection) (live bool, err error) {
	err = pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		created, err := tx.Exec(ctx, s.sql(`
			insert into {schema}.projection (name, version, epoch, tick, position, hash, live)
			values ($1, $2, 0, 0, 0, 0, false) on conflict do nothing`), p.Name, p.Version)
		if err != nil {
			return err
		}
		var version int
		err = tx.QueryRow(ctx, s.sql("select version, live from {schema}.projection where name = $1 for update"), p.Name).Scan(&version, &live)
		if err != nil || version == p.Version && created.RowsAffected() == 0 {
			return err
		}
		if live {
			// Units that change the other version end before the tables are
			// emptied, and later ones find that they are not asked for.
			live = false
			if err := s.lockLog(ctx, tx); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, s.sql(`
			update {schema}.projection set version = $2, epoch = 0, tick = 0, position = 0, hash = 0, live = false, since = now()
			where name = $1`), p.Name, p.Version); err != nil {
			return err
		}
		tables := make([]string, len(p.Tables))
		for i, table := range p.Tables {
			tables[i] = pgx.Identifier{s.schema, table}.Sanitize()
		}
		_, err = tx.Exec(ctx, "truncate "+strings.Join(tables, ", "))
		return err
	})
	return live, err
}

// lockLog keeps units out, for as long as tx is open, once those under way
// have ended. It needs no lock of theirs for that: inserting takes one on the
// log's table anyway. If one is under way for long, it lets those pass who wait
// behind us and fails as transient.
func (s *Store) lockLog(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Conn().PgConn().Exec(ctx, fmt.Sprintf("set local lock_timeout = '%s'; lock table %s.event in share mode; set local lock_timeout = 0",
		milliseconds(partLockTimeout), s.quoted)).ReadAll()
	return err
}

// buildStep folds the next events into the projection, and makes it live when
// there are no more.
func (s *Store) buildStep(ctx context.Context, p *courante.Projection) (live bool, err error) {
	err = pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		var version int
		var at courante.Cursor
		var hash int64
		err := tx.QueryRow(ctx, s.sql("select version, live, epoch, tick, position, hash from {schema}.projection where name = $1 for update"), p.Name).
			Scan(&version, &live, &at.Epoch, &at.Tick, &at.Position, &hash)
		at.Hash = uint64(hash)
		switch {
		case errors.Is(err, pgx.ErrNoRows), err == nil && version != p.Version:
			return errors.New("another program, which was started later, keeps other projections of this log; start this one again if it is the one that shall go on")
		case err != nil || live:
			return err
		}
		events, next, err := s.ReadLog(ctx, at, buildEvents)
		if err != nil {
			return err
		}
		if len(events) > 0 {
			if err := s.fold(ctx, tx, p, events); err != nil {
				return err
			}
		} else if next, err = s.buildRest(ctx, tx, p, next); err != nil {
			return err
		} else {
			live = true
		}
		_, err = tx.Exec(ctx, s.sql(`
			update {schema}.projection set epoch = $2, tick = $3, position = $4, hash = $5, live = $6, since = now()
			where name = $1`), p.Name, next.Epoch, next.Tick, next.Position, int64(next.Hash), live)
		return err
	})
	return live && err == nil, err
}

// buildRest folds what is behind the cursor while nobody can add to it. A tick
// makes visible what was committed before the lock.
func (s *Store) buildRest(ctx context.Context, tx pgx.Tx, p *courante.Projection, at courante.Cursor) (courante.Cursor, error) {
	if err := s.lockLog(ctx, tx); err != nil {
		return at, err
	}
	if _, err := s.db.Tick(ctx); err != nil {
		return at, err
	}
	for {
		events, next, err := s.ReadLog(ctx, at, buildEvents)
		if err != nil || len(events) == 0 {
			return next, err
		}
		if err := s.fold(ctx, tx, p, events); err != nil {
			return at, err
		}
		at = next
	}
}

// fold changes the projection by events of the log.
func (s *Store) fold(ctx context.Context, tx pgx.Tx, p *courante.Projection, events []courante.Event) error {
	// As a unit has them: without what they got by being committed. Others may
	// have been given the same slice.
	events = slices.Clone(events)
	for i := range events {
		e := &events[i]
		e.Epoch, e.Tick, e.TickHash, e.Position, e.Xid = 0, 0, 0, 0, 0
	}
	batch, err := s.apply(p, events)
	if err == nil && batch.Len() > 0 {
		err = tx.SendBatch(ctx, batch).Close()
	}
	if err != nil {
		return fmt.Errorf("fold %s to %s: %w", events[0].ID(), events[len(events)-1].ID(), err)
	}
	return nil
}

// forget drops what was kept of projections that are not declared any more.
// Their tables stay as they are, for the migrations to drop.
func (s *Store) forget(ctx context.Context, in *inline) error {
	names := make([]string, len(in.list))
	for i, p := range in.list {
		names[i] = p.Name
	}
	var others int
	err := s.db.pool.QueryRow(ctx, s.sql("select count(*) from {schema}.projection where name <> all($1)"), names).Scan(&others)
	if err != nil || others == 0 {
		return err
	}
	return pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		if err := s.lockLog(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, s.sql("delete from {schema}.projection where name <> all($1)"), names)
		return err
	})
}
