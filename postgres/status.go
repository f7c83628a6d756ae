package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// Status is how a database and the logs in it stand, as the database alone
// tells: it needs no program to run.
type Status struct {
	At            time.Time
	Logs          []LogStatus
	Subscriptions []SubscriptionStatus
	Parked        []ParkedStatus // of subscribers with messages that are set aside
	Server        ServerStatus
}

// LogStatus is how a log stands.
type LogStatus struct {
	Log      string
	Position int64     // given out so far: grows by one with each event, and with some that were rolled back
	Ticked   time.Time // last tick, zero if there is none
}

// SubscriptionStatus is how far a subscriber is in a log.
type SubscriptionStatus struct {
	Subscriber string
	Log        string
	Pending    int64     // events that it has not handled; about so many if there are more than [CountedPending] in a lane
	Oldest     time.Time // of the first of them; zero if there is none
}

// ParkedStatus counts the messages of a subscriber that are set aside.
type ParkedStatus struct {
	Subscriber string
	Waiting    int64     // for a person
	Retried    int64     // by themselves, in a moment
	Behind     int64     // another of their key
	Since      time.Time // when the oldest was set aside
}

// ServerStatus is what a database server can run out of.
type ServerStatus struct {
	Connections, MaxConnections int
	WAL                         int64 // bytes written since ever
	Size                        int64 // bytes of the database
	OldestTransaction           OpenTransaction
	CPU                         time.Duration // of all its processes; 0 if it runs on another machine
}

// OpenTransaction is the one that holds back vacuum most: nothing that was
// deleted or replaced since it began can be cleaned up.
type OpenTransaction struct {
	PID         int
	Application string
	Age         time.Duration
}

// CountedPending bounds how many events of a lane are counted.
const CountedPending = 1000

// Status looks at the database. It reads little and locks nothing, so it may be
// asked every second.
func (db *Database) Status(ctx context.Context) (Status, error) {
	s := Status{At: time.Now()}
	tx, err := db.pool.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return s, translate("look at the database", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // nothing was written
	err = db.status(ctx, tx, &s)
	return s, translate("look at the database", err)
}

func (db *Database) status(ctx context.Context, tx pgx.Tx, s *Status) error {
	logs, err := readLogs(ctx, tx.Conn(), db.schema)
	if err != nil {
		return err
	}
	schemas := map[string]string{}
	for _, l := range logs {
		schemas[l.name] = l.schema
		at := LogStatus{Log: l.name}
		var ticked *time.Time
		if err := tx.QueryRow(ctx, "select last_value, (select at from "+db.schema+".tick where log = $1 order by n desc limit 1) from "+l.schema+".event_position",
			l.name).Scan(&at.Position, &ticked); err != nil {
			return err
		}
		if ticked != nil {
			at.Ticked = *ticked
		}
		s.Logs = append(s.Logs, at)
	}
	for _, l := range logs {
		if err := parkedStatus(ctx, tx, l, s); err != nil {
			return err
		}
		lanes, err := subscribedLanes(ctx, tx, l)
		if err != nil {
			return err
		}
		for _, lane := range lanes {
			if schemas[lane.log] == "" {
				continue // of another database
			}
			pending, oldest, err := db.pendingOf(ctx, tx, schemas[lane.log], lane)
			if err != nil {
				return fmt.Errorf("%s in log %s: %w", lane.subscriber, lane.log, err)
			}
			s.addPending(lane, pending, oldest)
		}
	}
	return db.serverStatus(ctx, tx, &s.Server)
}

func parkedStatus(ctx context.Context, tx pgx.Tx, l registeredLog, s *Status) error {
	rows, err := tx.Query(ctx, `
		select subscriber, count(*) filter (where cause <> '' and retry_at is null),
			count(*) filter (where cause <> '' and retry_at is not null), count(*) filter (where cause = ''), min(at)
		from `+l.schema+`.parked where resolved is null group by subscriber`)
	if err != nil {
		return err
	}
	var p ParkedStatus
	_, err = pgx.ForEachRow(rows, []any{&p.Subscriber, &p.Waiting, &p.Retried, &p.Behind, &p.Since}, func() error {
		s.Parked = append(s.Parked, p)
		return nil
	})
	return err
}

// laneAt is where a lane of a subscriber's newest epoch on a log is.
type laneAt struct {
	subscriber, log string
	k, lanes        int
	types           []string // none: all
	epoch           int32
	tick, position  int64
}

// subscribedLanes returns the lanes of the subscribers whose progress is kept in
// the schema. What an agenda has not recorded tells nothing, and neither do
// generations of projections that nobody reads.
func subscribedLanes(ctx context.Context, tx pgx.Tx, l registeredLog) ([]laneAt, error) {
	rows, err := tx.Query(ctx, strings.ReplaceAll(`
		select e.subscriber, e.log, lane.k, e.lanes, e.types, coalesce(p.epoch, e.epoch), coalesce(p.tick, e.tick), coalesce(p.position, e.position)
		from (select distinct on (subscriber, log) * from {schema}.lane_epoch order by subscriber, log, n desc) e
		cross join lateral generate_series(0, e.lanes - 1) lane(k)
		left join lateral (
			select epoch, tick, position from {schema}.progress p
			where p.subscriber = e.subscriber and p.log = e.log and p.lane_epoch = e.n and p.k = lane.k
			order by n desc limit 1
		) p on true
		where not e.retired and e.subscriber not like '%/agenda' and (e.subscriber not like 'projection %' or exists (
			select from {schema}.generation g join {schema}.projection r on r.name = g.projection
			where g.state = 'live' and r.kind = 'async' and e.subscriber = 'projection ' || g.projection || '/' || g.n))
		order by 1, 2, 3`, "{schema}", l.schema))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (laneAt, error) {
		var a laneAt
		err := row.Scan(&a.subscriber, &a.log, &a.k, &a.lanes, &a.types, &a.epoch, &a.tick, &a.position)
		return a, err
	})
}

// pendingOf counts the visible events that a lane has not handled. Those are the
// events that the snapshot of the lane's tick does not see; of a tick that it is
// in the midst of, those behind its position. It looks them up by transaction,
// as the ticker does, and not from the snapshot's xmin on, which an open
// transaction may hold back for hours.
func (db *Database) pendingOf(ctx context.Context, tx pgx.Tx, schema string, a laneAt) (int64, time.Time, error) {
	var high int64
	err := tx.QueryRow(ctx, "select high from "+db.schema+".tick where log = $1 and n = $2", a.log, a.tick).Scan(&high)
	sealed := errors.Is(err, pgx.ErrNoRows) // or at the start of the log
	if err != nil && !sealed {
		return 0, time.Time{}, err
	}
	const wanted = " and (cardinality($1::text[]) = 0 or e.type = any($1))"
	var rows pgx.Rows
	if sealed {
		rows, err = tx.Query(ctx, "select e.stream, e.at from "+schema+".event e where coalesce(e.tick > $2 or e.tick = $2 and e.position > $3, true)"+
			wanted+" limit $4", a.types, a.tick, a.position, CountedPending)
	} else {
		before := a.tick
		if a.position != courante.MaxPosition {
			before--
		}
		rows, err = tx.Query(ctx, `
			with c as materialized (
				select t.snapshot as seen, coalesce((select b.snapshot from `+db.schema+`.tick b where b.log = $5 and b.n = $6 and b.epoch = t.epoch), '1:1:') as before
				from `+db.schema+`.tick t where t.log = $5 and t.n = $2
			)
			select e.stream, e.at from c cross join lateral (
				select * from `+schema+`.event e where e.epoch = $7 and e.xid >= pg_snapshot_xmax(c.before)`+wanted+`
				union all
				select e.* from pg_snapshot_xip(c.before) x join `+schema+`.event e on e.epoch = $7 and e.xid = x`+wanted+`
			) e
			where not (pg_visible_in_snapshot(e.xid, c.seen) and e.position <= $3)
			order by e.xid limit $4`, a.types, a.tick, a.position, CountedPending, a.log, before, a.epoch)
	}
	if err != nil {
		return 0, time.Time{}, err
	}
	var pending, read int64
	var oldest, at time.Time
	var stream string
	_, err = pgx.ForEachRow(rows, []any{&stream, &at}, func() error {
		read++
		e := courante.Event{Stream: stream}
		if courante.LaneOf(e.Key(), a.lanes) != a.k {
			return nil
		}
		if pending++; oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
		return nil
	})
	if err == nil && read == CountedPending {
		// Positions count events of all types and lanes; it is the best that is
		// cheap, and nobody acts on the last digit of such a number.
		var last int64
		err = tx.QueryRow(ctx, "select last_value from "+schema+".event_position").Scan(&last)
		pending = max(pending, (last-high)/int64(a.lanes))
	}
	return pending, oldest, err
}

// addPending adds a lane to its subscription.
func (s *Status) addPending(a laneAt, pending int64, oldest time.Time) {
	subscriber := a.subscriber
	if strings.HasPrefix(subscriber, "projection ") {
		subscriber = subscriber[:strings.LastIndex(subscriber, "/")] // without the number of its generation
	}
	n := len(s.Subscriptions)
	if n == 0 || s.Subscriptions[n-1].Subscriber != subscriber || s.Subscriptions[n-1].Log != a.log {
		s.Subscriptions = append(s.Subscriptions, SubscriptionStatus{Subscriber: subscriber, Log: a.log})
		n++
	}
	at := &s.Subscriptions[n-1]
	at.Pending += pending
	if !oldest.IsZero() && (at.Oldest.IsZero() || oldest.Before(at.Oldest)) {
		at.Oldest = oldest
	}
}

func (db *Database) serverStatus(ctx context.Context, tx pgx.Tx, s *ServerStatus) error {
	var pid int
	var age *float64
	var backend int
	if err := tx.QueryRow(ctx, `
		select pg_backend_pid(),
			(select count(*) from pg_stat_activity where backend_type = 'client backend'),
			current_setting('max_connections')::int,
			case when pg_is_in_recovery() then 0 else pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint end,
			pg_database_size(current_database()),
			coalesce(o.pid, 0), coalesce(o.name, ''), o.age
		from (select) one left join (
			select pid, application_name as name, extract(epoch from clock_timestamp() - xact_start)::float8 as age
			from pg_stat_activity
			where xact_start is not null and pid <> pg_backend_pid() and datname = current_database()
				and (backend_xmin is not null or backend_xid is not null)
			union all
			select 0, 'prepared transaction ' || gid, extract(epoch from clock_timestamp() - prepared)::float8
			from pg_prepared_xacts where database = current_database()
			order by age desc limit 1
		) o on true`).Scan(&backend, &s.Connections, &s.MaxConnections, &s.WAL, &s.Size, &pid, &s.OldestTransaction.Application, &age); err != nil {
		return err
	}
	s.OldestTransaction.PID = pid
	if age != nil {
		s.OldestTransaction.Age = max(0, time.Duration(*age*float64(time.Second)))
	}
	s.CPU = serverCPU(backend)
	return nil
}
