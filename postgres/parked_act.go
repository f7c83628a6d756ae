package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Requeue has those of the parked messages taken up again, once, that failed and
// are not resolved; the others it leaves alone: those that only wait behind
// another go on with it. The owner of their lane, in whatever process, notices
// within about a second. It returns the messages that it requeued as they were,
// in the order of their ids, and records the operation in the same transaction,
// if there are any.
func (s *Store) Requeue(ctx context.Context, ids []int64, op Operation) ([]Requeued, error) {
	var list []Requeued
	err := s.act(ctx, op, func(tx pgx.Tx) (any, error) {
		// It is due at the time at which it failed, which is past on the clock
		// of every program.
		rows, err := tx.Query(ctx, s.sql(`
			update {schema}.parked p set retry_at = coalesce(p.last_failed, p.at)
			from (select id from {schema}.parked where id = any($1) and resolved is null and cause <> '' order by id for update) own
			where p.id = own.id returning p.id, p.attempts`), ids)
		if err != nil {
			return nil, err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Requeued])
		if err != nil || len(list) == 0 {
			return nil, err
		}
		slices.SortFunc(list, func(a, b Requeued) int { return int(a.ID - b.ID) })
		taken := make([]int64, len(list))
		for i := range list {
			taken[i] = list[i].ID
		}
		return map[string]any{"messages": taken}, nil
	})
	return list, translate(fmt.Sprintf("requeue %d messages of %s", len(ids), s.name), err)
}

// Requeued is a message that was requeued.
type Requeued struct {
	ID       int64
	Attempts int // that failed before: when there are more, it has failed again
}

// Discard resolves parked messages without handling them; reason says why, for
// the record, and they are kept. What waits behind them goes on. It returns the
// ids of those that it discarded: the others were resolved already. It records
// the operation in the same transaction, if there are any.
func (s *Store) Discard(ctx context.Context, ids []int64, reason string, op Operation) ([]int64, error) {
	var discarded []int64
	err := s.act(ctx, op, func(tx pgx.Tx) (any, error) {
		rows, err := tx.Query(ctx, s.sql(`
			update {schema}.parked p set resolved = now(), discarded = $2
			from (select id from {schema}.parked where id = any($1) and resolved is null order by id for update) own
			where p.id = own.id returning p.id`), ids, clean(reason))
		if err != nil {
			return nil, err
		}
		discarded, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		slices.Sort(discarded)
		if err != nil || len(discarded) == 0 {
			return nil, err
		}
		return map[string]any{"messages": discarded, "reason": clean(reason)}, nil
	})
	return discarded, translate(fmt.Sprintf("discard %d messages of %s", len(ids), s.name), err)
}

// ForgetParked deletes the messages that were handled or discarded before then,
// and returns how many. What an operator did to them stays on record; see
// [Database.Operations]. It waits for nobody: a message that somebody else
// deletes at this moment is left to them.
func (s *Store) ForgetParked(ctx context.Context, before time.Time) (int64, error) {
	const most = 1000 // in one statement, so that nobody's commit waits behind it
	for forgotten := int64(0); ; {
		done, err := s.db.pool.Exec(ctx, s.sql(`
			delete from {schema}.parked where id in (
				select id from {schema}.parked where resolved < $1 order by resolved limit $2 for update skip locked
			)`), before, most)
		if forgotten += done.RowsAffected(); err != nil || done.RowsAffected() < most {
			return forgotten, translate("forget resolved messages of "+s.name, err)
		}
	}
}

// act changes parked messages in one transaction with its record and with what
// tells the owners of the lanes. A change that has nothing to say of itself
// found nothing to do.
func (s *Store) act(ctx context.Context, op Operation, change func(pgx.Tx) (detail any, err error)) error {
	return pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		detail, err := change(tx)
		if err != nil || detail == nil {
			return err
		}
		op.Detail, op.Outcome = detail, OperationDone
		if _, err := s.db.recordOperation(ctx, tx, op); err != nil {
			return err
		}
		// Locked last, so that operators wait for each other only briefly. In
		// the order of their commits it counts up.
		_, err = tx.Exec(ctx, s.sql(`
			insert into {schema}.parked_revision (subscriber, n) values ($1, 1)
			on conflict (subscriber) do update set n = {schema}.parked_revision.n + 1`), s.name)
		return err
	})
}
