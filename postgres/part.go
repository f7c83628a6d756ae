package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/courante-dev/courante"
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
	doing := "close the part of log " + s.name
	err = s.changeParts(ctx, func(conn *pgxpool.Conn, parts []Part) error {
		closed = parts[len(parts)-1].N
		next := closed + 1
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
			commit`, s.quoted, closed, next, milliseconds(partLockTimeout))).ReadAll()
		return err
	})
	return closed, translate(doing, err)
}

// changeParts runs change alone among all processes, with the parts as they
// are, and again when it failed because something was locked. change must
// begin and end its own transactions, and may be run again after any of them.
func (s *Store) changeParts(ctx context.Context, change func(conn *pgxpool.Conn, parts []Part) error) error {
	conn, err := s.db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	// A lock of the session, not of a transaction: sealing takes many.
	key := "courante.part." + s.schema
	if _, err := conn.Exec(ctx, "select pg_advisory_lock(hashtextextended($1, 0))", key); err != nil {
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
	for {
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
		case <-time.After(partLockTimeout + rand.N(partLockTimeout)): // let those pass who waited behind us
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

// DetachPart takes the sealed part n out of the log and returns the name of the
// table, with its schema, that it now is: to archive and to drop. Parts go
// in the order of their numbers. It refuses while somebody needs the part:
//
//   - a lane of a subscriber in this database is not past it,
//   - a stream has its last event in it: without it the next version would be
//     refused and version 1 could be taken again,
//   - a stream needs it to be loaded: it has neither a stored state nor a
//     snapshot that includes its events in the part.
//
// A reader that begins before the part's end afterwards gets a
// *courante.LogBrokenError and not a log with a hole.
func (s *Store) DetachPart(ctx context.Context, n int) (table string, err error) {
	err = s.changeParts(ctx, func(conn *pgxpool.Conn, parts []Part) error {
		i := n - 1
		switch {
		case i < 0 || i >= len(parts):
			return courante.ErrNotFound
		case !parts[i].Detached.IsZero():
			return nil
		case parts[i].Sealed.IsZero():
			return errors.New("it is not sealed")
		case i > 0 && parts[i-1].Detached.IsZero():
			return fmt.Errorf("part %d comes first", n-1)
		}
		if err := s.checkPast(ctx, conn, parts[i].LastTick); err != nil {
			return err
		}
		if err := s.checkStreams(ctx, conn, n); err != nil {
			return err
		}
		_, err := conn.Conn().PgConn().Exec(ctx, fmt.Sprintf(`
			begin;
			set local lock_timeout = '%[3]s';
			alter table %[1]s.event detach partition %[1]s.event_%[2]d;
			update %[1]s.part set detached = now() where n = %[2]d;
			commit`, s.quoted, n, milliseconds(partLockTimeout))).ReadAll()
		return err
	})
	return s.partTable(n), translate(fmt.Sprintf("detach part %d of log %s", n, s.name), err)
}

// checkPast fails if a lane of the last epoch of any subscriber in this
// database has not the whole of the tick behind it. A lane begins where its
// epoch does; earlier epochs were drained before.
func (s *Store) checkPast(ctx context.Context, conn *pgxpool.Conn, tick int64) error {
	logs, err := readLogs(ctx, conn, s.db.schema)
	if err != nil {
		return err
	}
	for _, l := range logs {
		var lane string
		err := conn.QueryRow(ctx, `
			select format('%s, lane %s, at tick %s', e.subscriber, lane.k, at.tick)
			from (select distinct on (subscriber) * from `+l.schema+`.lane_epoch where log = $1 order by subscriber, n desc) e
			cross join lateral generate_series(0, e.lanes - 1) as lane(k)
			left join lateral (
				select tick, position from `+l.schema+`.progress p
				where p.subscriber = e.subscriber and p.log = e.log and p.lane_epoch = e.n and p.k = lane.k
				order by p.n desc limit 1
			) done on true
			cross join lateral (select coalesce(done.tick, e.tick) as tick, coalesce(done.position, e.position) as position) at
			where at.tick < $2 or at.tick = $2 and at.position < $3
			limit 1`, s.name, tick, int64(courante.MaxPosition)).Scan(&lane)
		if err == nil {
			return fmt.Errorf("subscriber %s, is not past it; it ends with tick %d", lane, tick)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
	}
	return nil
}

func (s *Store) checkStreams(ctx context.Context, conn *pgxpool.Conn, n int) error {
	var stream, why string
	err := conn.QueryRow(ctx, `
		select e.stream,
		       case when not exists (select from `+s.quoted+`.event l where l.stream = e.stream and l.part > $1)
		            then 'has its last event in it' else 'has no snapshot that includes its events' end
		from (select stream, max(version) as version from `+s.partTable(n)+` group by stream) e
		where not exists (select from `+s.quoted+`.event l where l.stream = e.stream and l.part > $1)
		   or not exists (select from `+s.quoted+`.state t where t.stream = e.stream)
		      and not exists (select from `+s.quoted+`.snapshot t where t.stream = e.stream and t.version >= e.version)
		limit 1`, n).Scan(&stream, &why)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("stream %s %s", stream, why)
}
