package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// keep makes the projection known and, if it is inline, live at its version. The
// others are built by whoever follows the logs for them.
func (s *Store) keep(ctx context.Context, p *courante.Projection) error {
	if err := s.settleKind(ctx, p); err != nil {
		return err
	}
	for p.Kind() == courante.Inline {
		list, err := s.generations(ctx, s.db.pool, p.Name)
		if err != nil {
			return err
		}
		if live := list.live(); live != nil && live.Version == p.Version {
			return nil
		}
		_, err = s.buildAndSwitch(ctx, p)
		if err := s.again(ctx, err); err != nil {
			return err
		}
	}
	return nil
}

// buildAndSwitch makes the projection live at its version: built beside what is
// live, compared, and switched to; or, where nothing is live, in place.
func (s *Store) buildAndSwitch(ctx context.Context, p *courante.Projection) (*generation, error) {
	g, err := s.begin(ctx, p, false)
	if err != nil {
		return nil, err
	}
	f := s.newFolder(p, g, map[string]courante.ReadLog{s.name: s.ReadLog})
	return g, s.finish(ctx, f)
}

// finish folds a generation to the end of its logs, makes it ready, and live
// unless it does not stand the comparison.
func (s *Store) finish(ctx context.Context, f *folder) error {
	// Before a program runs, nobody may have made visible what there is.
	if _, err := s.db.Tick(ctx); err != nil {
		return err
	}
	if err := f.catchUp(ctx, 0, nil); err != nil {
		return err
	}
	if f.g.State == stateBuilding && f.g.Beside {
		c, err := s.foldTwice(ctx, f)
		if err != nil {
			return err
		}
		if !c.Same() {
			return &DifferenceError{f.p.Name, f.g.N, c}
		}
	}
	if err := s.ready(ctx, &f.g); err != nil {
		return err
	}
	return s.switchTo(ctx, f)
}

// again says whether work on a generation is to go on after an error: somebody
// else folds it as well, or has moved it. It waits a moment then, so that one of
// the two gets ahead. Other errors it returns.
func (s *Store) again(ctx context.Context, err error) error {
	if err == nil || !errors.Is(err, courante.ErrFenced) && !errors.Is(err, errMoved) {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(50*time.Millisecond + rand.N(200*time.Millisecond)):
		return nil
	}
}

// ready records that a generation has come to the end of the logs.
func (s *Store) ready(ctx context.Context, g *generation) error {
	_, err := s.db.pool.Exec(ctx, s.sql("update {schema}.generation set state = 'ready', built = now() where n = $1 and state = 'building'"), g.N)
	if err == nil && g.State == stateBuilding {
		g.State = stateReady
	}
	return err
}

// settleKind makes the projection known, in the kind that it is declared in. An
// inline one that is to follow the log does so from the end on; one that is to
// be inline from now on is live again when it has caught up.
func (s *Store) settleKind(ctx context.Context, p *courante.Projection) error {
	return pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		if err := s.declare(ctx, tx, p); err != nil {
			return err
		}
		var kind courante.ProjectionKind
		if err := tx.QueryRow(ctx, s.sql("select kind from {schema}.projection where name = $1"), p.Name).Scan(&kind); err != nil {
			return err
		}
		list, err := s.generations(ctx, tx, p.Name)
		if err != nil {
			return err
		}
		live := list.live()
		if live != nil && live.Version == p.Version && len(live.Tables) == 0 {
			if _, err := tx.Exec(ctx, s.sql("update {schema}.generation set tables = $2 where n = $1"), live.N, p.Tables); err != nil {
				return err
			}
		}
		if kind == p.Kind() {
			return nil
		}
		switch {
		case live == nil:
		case kind == courante.Inline && p.Kind() == courante.Async:
			err = s.beginAtEnd(ctx, tx, live, p.Types)
		case kind == courante.Async && p.Kind() == courante.Inline:
			_, err = tx.Exec(ctx, s.sql("update {schema}.generation set state = 'ready' where n = $1"), live.N)
		default: // a view has other tables than the others
			err = s.deleteGeneration(ctx, tx, live)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, s.sql(`
			update {schema}.projection set kind = $2, paused = null, paused_by = '', failure = '',
				live = live and exists (select from {schema}.generation where projection = $1 and state = 'live')
			where name = $1`), p.Name, string(p.Kind()))
		return err
	})
}

// beginAtEnd has the inline generation follow the log from its end on, which
// nobody can move while tx is open.
func (s *Store) beginAtEnd(ctx context.Context, tx pgx.Tx, g *generation, types []string) error {
	if err := s.lockLog(ctx, tx); err != nil {
		return err
	}
	if _, err := s.db.Tick(ctx); err != nil {
		return err
	}
	end, err := s.Head(ctx)
	if err != nil {
		return err
	}
	return s.beginLane(ctx, tx, g, s.name, types, end)
}

// beginLane has a generation follow a log from a place on.
func (s *Store) beginLane(ctx context.Context, tx pgx.Tx, g *generation, log string, types []string, from courante.Cursor) error {
	if types == nil {
		types = []string{}
	}
	first, _, err := s.progressRange(ctx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, s.sql(`
		with added as (
			insert into {schema}.lane_epoch (n, lanes, epoch, tick, position, hash, subscriber, log, types)
			values (1, 1, $3, $4, $5, $6, $1, $2, $7)
			returning *
		)
		insert into {schema}.progress (n, epoch, lane_epoch, k, tick, position, hash, subscriber, log)
		select $8, epoch, n, 0, tick, position, hash, subscriber, log from added`),
		g.lane(), log, from.Epoch, from.Tick, from.Position, int64(from.Hash), types, first)
	return err
}

// endLanes forgets where a generation is, because units change it now.
func (s *Store) endLanes(ctx context.Context, tx pgx.Tx, g *generation) error {
	for _, table := range []string{"lane_epoch", "progress"} {
		if _, err := tx.Exec(ctx, s.sql("delete from {schema}."+table+" where subscriber = $1"), g.lane()); err != nil {
			return err
		}
	}
	return nil
}

// DifferenceError says that a generation does not have the rows that it should
// have, and so was not made live.
type DifferenceError struct {
	Projection string
	Generation int64
	Comparison *Comparison
}

func (e *DifferenceError) Error() string {
	return fmt.Sprintf("projection %s, generation %d: %s", e.Projection, e.Generation, e.Comparison)
}
