package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DetachPart takes the sealed part n out of the log and returns the name of the
// table, with its schema, that it now is: to archive and to drop. Parts go in
// the order of their numbers. It refuses while a lane of a subscriber in this
// database is not past the part.
//
// The streams that are in the part go on: before it is detached a snapshot is
// written of every one whose state would not be known without it, which svc
// folds, the service whose log this is. As long as the table is there, a
// stream's old events are read from it; after that asking for them gives a
// *courante.ArchivedError. A reader of the log that begins before the part's
// end gets a *courante.LogBrokenError and not a log with a hole.
//
// Every program on the database must know of detached parts, which those before
// this function took a service do not.
func (s *Store) DetachPart(ctx context.Context, n int, svc *courante.Service) (table string, err error) {
	kept := false
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
		behind, err := s.lanesBehind(ctx, conn, parts[i].LastTick)
		if err != nil {
			return err
		}
		if len(behind) > 0 {
			return fmt.Errorf("it is needed up to tick %d by subscriber %s; one that has nothing to do records its place after a minute, an agenda after ten or when it stops",
				parts[i].LastTick, strings.Join(behind, "; by "))
		}
		if !kept {
			if err := s.keepStates(ctx, n, svc); err != nil {
				return err
			}
			kept = true // the part does not change, so it holds when this is tried again
		}
		if err := s.checkKept(ctx, conn, n); err != nil {
			return err
		}
		_, err = conn.Conn().PgConn().Exec(ctx, fmt.Sprintf(`
			begin;
			set local lock_timeout = '%[3]s';
			alter table %[1]s.event detach partition %[1]s.event_%[2]d;
			update %[1]s.part set detached = now() where n = %[2]d;
			commit`, s.quoted, n, milliseconds(partLockTimeout))).ReadAll()
		return err
	})
	return s.partTable(n), translate(fmt.Sprintf("detach part %d of log %s", n, s.name), err)
}

// AttachPart makes the detached part n one of the log again: to rebuild what
// begins at its start. Parts come back in the order of their numbers, the last
// first. A table that was dropped has to be restored before, as it was.
func (s *Store) AttachPart(ctx context.Context, n int) error {
	err := s.changeParts(ctx, func(conn *pgxpool.Conn, parts []Part) error {
		i := n - 1
		switch {
		case i < 0 || i >= len(parts):
			return courante.ErrNotFound
		case parts[i].Detached.IsZero():
			return nil
		case lastDetached(parts) != n:
			return fmt.Errorf("part %d comes first", lastDetached(parts))
		}
		there, err := s.db.hasTable(ctx, s.schema, fmt.Sprintf("event_%d", n))
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("its table %s is not there; restore it from where it was archived", s.partTable(n))
		}
		// The constraint that the part was sealed with spares this a scan.
		_, err = conn.Conn().PgConn().Exec(ctx, fmt.Sprintf(`
			begin;
			set local lock_timeout = '%[3]s';
			alter table %[1]s.event attach partition %[1]s.event_%[2]d for values in (%[2]d);
			update %[1]s.part set detached = null where n = %[2]d;
			commit`, s.quoted, n, milliseconds(partLockTimeout))).ReadAll()
		return err
	})
	return translate(fmt.Sprintf("attach part %d of log %s", n, s.name), err)
}

// lanesBehind lists the lanes of any subscriber in this database that have not
// the whole of the tick behind them. A lane begins where its epoch does. What
// lanes had not handled when their subscriber was retired, nobody needs;
// otherwise those of an older epoch go on up to where the next one begins.
func (s *Store) lanesBehind(ctx context.Context, q rowsQueryer, tick int64) ([]string, error) {
	logs, err := readLogs(ctx, q, s.db.schema)
	if err != nil {
		return nil, err
	}
	var behind []string
	for _, l := range logs {
		rows, err := q.Query(ctx, `
			select format(case when e.lanes = 0 then '%s, which has not run yet' else '%s, lane %s, at tick %s' end, e.subscriber, lane.k + 1, at.tick)
			from (
				select *, lead(tick) over w as end_tick, lead(position) over w as end_position, coalesce(bool_or(retired) over (w rows between 1 following and unbounded following), false) as dropped
				from `+l.schema+`.lane_epoch where log = $1
				window w as (partition by subscriber order by n)
			) e
			cross join lateral generate_series(0, greatest(e.lanes, 1) - 1) as lane(k)
			left join lateral (
				select tick, position from `+l.schema+`.progress p
				where p.subscriber = e.subscriber and p.log = e.log and p.lane_epoch = e.n and p.k = lane.k
				order by p.n desc limit 1
			) done on true
			cross join lateral (select coalesce(done.tick, e.tick) as tick, coalesce(done.position, e.position) as position) at
			where not e.retired and not e.dropped
			  and (e.end_tick is null or (at.tick, at.position) < (e.end_tick, e.end_position))
			  and (at.tick, at.position) < ($2, $3)
			order by e.subscriber, e.n, lane.k`, s.name, tick, int64(courante.MaxPosition))
		if err != nil {
			return nil, err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, err
		}
		behind = append(behind, found...)
	}
	return behind, nil
}

// checkKept fails if the version or the state of a stream would go with the
// part.
func (s *Store) checkKept(ctx context.Context, q queryer, n int) error {
	var stream string
	err := q.QueryRow(ctx, s.inSchema(`
		select e.stream
		from (select stream, max(version) as version from `+s.partTable(n)+` group by stream) e
		where not exists (select from {schema}.state t where t.stream = e.stream and t.version >= e.version)
		  and not exists (select from {schema}.snapshot t where t.stream = e.stream and t.version >= e.version)
		limit 1`)).Scan(&stream)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("stream %s has no snapshot that includes its events in it", stream)
}
