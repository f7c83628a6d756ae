package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// An epoch is one incarnation of the cluster. Its system identifier changes
// with every initdb: dump and restore, a new major version. Its timeline
// changes with every promotion, and with a recovery to a point in time.
// Transaction ids compare only within an epoch, because a new cluster starts
// to count them again, and a promoted standby gives once more the ones that
// were lost.
type incarnation struct {
	system   int64
	timeline int32
}

// The timeline is the one that the server writes now: pg_control_checkpoint
// says another one until the first checkpoint after a promotion. The WAL
// functions fail on a standby, hence the case.
const incarnationQuery = `
	select s.system_identifier,
	       case when not pg_is_in_recovery()
	            then ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int
	            else 0 end
	from pg_control_system() s`

var errStandby = courante.Transient(errors.New("postgres: the server is a standby, where open transactions count as visible and nothing can be written; connect to the primary, for example with several hosts and target_session_attrs=read-write in the URL"))

// onStandby reports whether the statement failed because the server is a
// standby: it cannot write, or has no place in the WAL that it writes.
func onStandby(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && (server.Code == "25006" || server.Code == "55000")
}

// epochOf returns the epoch of the server at the other end of conn. A session
// lives and dies with its server's incarnation, so the answer is asked for once
// per connection, and a row or tick written with it over this connection can
// never carry the epoch of another cluster: a failover under a running program
// needs no further care. A proxy that moves a live session to another server
// breaks that; ticks check it again, appends do not.
func (db *Database) epochOf(ctx context.Context, conn *pgx.Conn) (int32, error) {
	data := conn.PgConn().CustomData()
	if n, ok := data[epochKey].(int32); ok {
		return n, nil
	}
	n, err := currentEpoch(ctx, conn, db.schema)
	if err != nil {
		return 0, err
	}
	data[epochKey] = n
	return n, nil
}

const epochKey = "courante.epoch"

// currentEpoch returns the number of the cluster's incarnation that conn is
// connected to. schema is the ticker's, quoted. The first to ask in a new
// incarnation records it, and closes the epoch before: in every log the
// committed events that no tick has seen become that epoch's last tick. Both
// are one transaction, so it happens once, and before any tick or event of the
// new epoch, which need its number. On a standby it fails.
func currentEpoch(ctx context.Context, conn *pgx.Conn, schema string) (int32, error) {
	const doing = "determine the epoch"
	var here incarnation
	if err := conn.QueryRow(ctx, incarnationQuery).Scan(&here.system, &here.timeline); err != nil {
		return 0, translate(doing, err)
	}
	if here.timeline == 0 {
		return 0, errStandby
	}
	n, err := findEpoch(ctx, conn, schema, here)
	if !errors.Is(err, courante.ErrNotFound) {
		return n, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Whoever comes second waits here, and finds the epoch recorded.
		if _, err := tx.Exec(ctx, "lock table "+schema+".epoch in exclusive mode"); err != nil {
			return err
		}
		n, err = findEpoch(ctx, tx, schema, here)
		if !errors.Is(err, courante.ErrNotFound) {
			return err
		}
		if err := closeEpochs(ctx, tx, schema); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			insert into `+schema+`.epoch (n, system_identifier, timeline)
			select coalesce(max(n), 0) + 1 + $1, $2, $3 from `+schema+`.epoch
			returning n`, here.spread(), here.system, here.timeline).Scan(&n)
	})
	return n, translate(doing, err)
}

// spread is what an epoch's number jumps beyond the next one. Numbers only have
// to ascend; but two clusters restored from one dump both follow the same last
// epoch, run through the same transaction ids, and could make equal ticks. A
// number that depends on the cluster keeps the hashes of their ticks apart, so
// that a cursor from the one is noticed in the other.
func (i incarnation) spread() int32 {
	h := fnv.New32a()
	var b [12]byte
	binary.BigEndian.PutUint64(b[:], uint64(i.system))
	binary.BigEndian.PutUint32(b[8:], uint32(i.timeline))
	h.Write(b[:])
	return int32(h.Sum32() % 9973)
}

type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func findEpoch(ctx context.Context, q queryer, schema string, here incarnation) (int32, error) {
	var n int32
	err := q.QueryRow(ctx, "select n from "+schema+".epoch where system_identifier = $1 and timeline = $2",
		here.system, here.timeline).Scan(&n)
	return n, translate("find the epoch", err)
}

// closeEpochs gives each log the last tick of the epoch that ended. Nothing of
// that epoch can be in flight any more: its transactions ended with its server.
func closeEpochs(ctx context.Context, tx pgx.Tx, schema string) error {
	logs, err := readLogs(ctx, tx, schema)
	if err != nil {
		return err
	}
	for _, l := range logs {
		if _, err := tx.Exec(ctx, closingTick(schema, l)); err != nil {
			return fmt.Errorf("close the epoch of log %s: %w", l.name, err)
		}
	}
	return nil
}

// closingTick inserts a tick that sees every committed event of an ended epoch
// that no tick has seen, if there is one. Its snapshot has nothing in progress
// and begins past the highest transaction id of these events, and not below
// the last tick's, so that snapshots only grow within an epoch.
//
// Events of the last tick's epoch need a tick when that tick does not see them,
// those of a later one always; earlier epochs were closed in their turn. Parts
// that are sealed have their ticks.
func closingTick(schema string, l registeredLog) string {
	return `
	with last as (
		select n, epoch, snapshot from ` + schema + `.tick where log = ` + literal(l.name) + ` order by n desc limit 1
	), late as (
		select e.epoch, max(e.xid)::text::numeric + 1 as beyond
		from ` + l.schema + `.event e left join last on true
		where e.part >= ` + firstUnsealed(l.schema) + `
		  and (last.n is null
		       or e.epoch > last.epoch
		       or e.epoch = last.epoch and not pg_visible_in_snapshot(e.xid, last.snapshot))
		group by e.epoch
	), ended as (
		select late.epoch, row_number() over (order by late.epoch) as k,
		       greatest(late.beyond, case when last.epoch = late.epoch then pg_snapshot_xmax(last.snapshot)::text::numeric end) as x
		from late left join last on true
	)
	insert into ` + schema + `.tick (log, n, epoch, high, snapshot)
	select ` + literal(l.name) + `, coalesce((select n from last), 0) + k, epoch,
	       (select last_value from ` + l.schema + `.event_position),
	       format('%s:%s:', x, x)::pg_snapshot
	from ended`
}
