package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Part is one piece of a log, a table of its own: events are added to the last
// part only. A time that has not come is zero.
type Part struct {
	N        int
	Began    time.Time
	Closed   time.Time // nothing is added to it any more
	Sealed   time.Time // its order is written into it, and its ticks are gone
	Detached time.Time // it is no part of the log any more

	// Ticks of the first and the last event, once it is sealed. The last may
	// go on in the next part.
	FirstTick, LastTick int64
}

// partLockTimeout bounds how long a change of the parts makes appends and
// readers wait: the lock it needs stands in their way from when it is asked
// for. When transactions in flight take longer, it gives up and tries again.
const partLockTimeout = 100 * time.Millisecond

// maxPartPause is the most that it waits before it tries again: a backup has
// locks on all parts for hours, and each try holds up those who append or read.
const maxPartPause = 10 * time.Second

// Parts lists the parts of the log, the detached ones included.
func (s *Store) Parts(ctx context.Context) ([]Part, error) {
	parts, err := s.readParts(ctx, s.db.pool)
	return parts, translate("list the parts of log "+s.name, err)
}

func (s *Store) readParts(ctx context.Context, q rowsQueryer) ([]Part, error) {
	rows, err := q.Query(ctx, `select n, began, coalesce(closed, '0001-01-01 00:00Z'), coalesce(sealed, '0001-01-01 00:00Z'),
		coalesce(detached, '0001-01-01 00:00Z'), coalesce(first_tick, 0), coalesce(last_tick, 0)
		from `+s.quoted+`.part order by n`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Part])
}

// ClosePart starts a new part of the log and returns the number of the one that
// it closed. It waits for the writers in flight, so that every event of the
// new part is appended, and becomes visible, after all of the old one: a
// writer that sees the new part sees all versions in the old one. Appends that
// run into the closed part fail on its constraint and are repeated in the new
// one. When the writers take longer than about 100 ms, it lets them pass and
// tries again, until ctx ends.
func (s *Store) ClosePart(ctx context.Context) (closed int, err error) {
	err = s.changeParts(ctx, func(conn *pgxpool.Conn, parts []Part) error {
		closed = parts[len(parts)-1].N
		return s.closePart(ctx, conn, closed)
	})
	return closed, translate("close the part of log "+s.name, err)
}

func (s *Store) closePart(ctx context.Context, conn *pgxpool.Conn, n int) error {
	next := n + 1
	// The next part is made ahead, because attaching it does not stand in
	// the way of appends, while creating it as a partition would. Nobody
	// adds to it before the last statement below is committed. It may be
	// there from an attempt that had to give up.
	var made bool
	if err := conn.QueryRow(ctx, "select to_regclass($1) is not null", s.partTable(next)).Scan(&made); err != nil {
		return err
	}
	if !made {
		_, err := conn.Conn().PgConn().Exec(ctx, fmt.Sprintf(`
			begin;
			set local lock_timeout = '%[3]s';
			create table %[1]s.event_%[2]d (like %[1]s.event including defaults including indexes);
			alter table %[1]s.event attach partition %[1]s.event_%[2]d for values in (%[2]d);
			commit`, s.quoted, next, milliseconds(partLockTimeout))).ReadAll()
		if err != nil {
			return err
		}
	}
	// The exclusive lock is taken at once. A transaction that has read the
	// part and now appends to it is let through by PostgreSQL, because it
	// holds a lock already; with a weaker lock first the two would wait
	// for each other.
	_, err := conn.Conn().PgConn().Exec(ctx, fmt.Sprintf(`
		begin;
		set local lock_timeout = '%[4]s';
		lock table %[1]s.event_%[2]d in access exclusive mode;
		alter table %[1]s.event_%[2]d add constraint closed check (false) not valid;
		update %[1]s.part set closed = now() where n = %[2]d;
		insert into %[1]s.part (n) values (%[3]d);
		commit`, s.quoted, n, next, milliseconds(partLockTimeout))).ReadAll()
	return err
}

// changeParts runs change alone among all processes, with the parts as they
// are, and again when it failed because something was locked. change must
// begin and end its own transactions, and may be run again after any of them.
func (s *Store) changeParts(ctx context.Context, change func(conn *pgxpool.Conn, parts []Part) error) error {
	return s.underLock(ctx, "select pg_advisory_lock(hashtextextended($1, 0)) is not null", change)
}

// tryParts is changeParts that leaves it to another process if one is at it.
func (s *Store) tryParts(ctx context.Context, change func(conn *pgxpool.Conn, parts []Part) error) error {
	return s.underLock(ctx, "select pg_try_advisory_lock(hashtextextended($1, 0))", change)
}

func (s *Store) underLock(ctx context.Context, lock string, change func(conn *pgxpool.Conn, parts []Part) error) error {
	conn, err := s.db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	// A lock of the session, not of a transaction: sealing takes many.
	key := "courante.part." + s.schema
	var ours bool
	if err := conn.QueryRow(ctx, lock, key).Scan(&ours); err != nil || !ours {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if _, err := conn.Exec(ctx, "select pg_advisory_unlock(hashtextextended($1, 0))", key); err != nil {
			conn.Conn().Close(ctx) // and the lock goes with the session
		}
	}()
	return s.retryLocked(ctx, conn, func() error {
		parts, err := s.readParts(ctx, conn)
		if err != nil {
			return err
		}
		return change(conn, parts)
	})
}

// retryLocked runs change, and again when it failed because something was
// locked, until ctx ends. It ends a transaction that change left open.
func (s *Store) retryLocked(ctx context.Context, conn *pgxpool.Conn, change func() error) error {
	for pause := partLockTimeout; ; pause = min(2*pause, maxPartPause) {
		err := change()
		if conn.Conn().PgConn().TxStatus() != 'I' {
			if _, rollbackErr := conn.Exec(ctx, "rollback"); rollbackErr != nil {
				return errors.Join(err, rollbackErr)
			}
		}
		if !locked(err) {
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)): // let those pass who waited behind us
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// locked reports whether the statement failed on a lock that somebody holds:
// it timed out, or would have been a deadlock.
func locked(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && (server.Code == "55P03" || server.Code == "40P01")
}
