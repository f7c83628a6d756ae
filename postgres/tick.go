package postgres

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// ticker keeps the statement that ticks all logs. It is only text: what the
// next tick is, is read from the table each time.
type ticker struct {
	mu   sync.Mutex
	logs int    // how many logs the statement covers
	sql  string // "" before the first tick
}

// Tick records, for every log of the database that has newly visible events,
// the snapshot that ends its next tick, in one statement, and returns the logs
// that moved. When it returns, everything that was committed before the call
// has its tick. Several processes may tick at once: of two that made the same
// tick the primary key keeps one, and the other looks whether that one saw all
// that it saw. On a standby it fails.
func (db *Database) Tick(ctx context.Context) ([]string, error) {
	const doing = "tick"
	conn, err := db.log.pool.Acquire(ctx)
	if err != nil {
		return nil, translate(doing, err)
	}
	defer conn.Release()
	var moved []string
	// The first round is the last one unless something happened meanwhile:
	// another ticker was first, a log was registered, or a proxy moved the
	// session to another server.
	for {
		epoch, err := db.epochOf(ctx, conn.Conn())
		if err != nil {
			return moved, err
		}
		sql, logs, err := db.tickStatement(ctx, conn.Conn())
		if err != nil {
			return moved, err
		}
		found, err := runTick(ctx, conn.Conn(), sql, epoch)
		if err != nil {
			if onStandby(err) {
				err = errStandby
			}
			return moved, translate(doing, err)
		}
		if len(found.moved) > 0 {
			db.log.notifier.wake()
			for _, log := range found.moved {
				if !slices.Contains(moved, log) {
					moved = append(moved, log)
				}
			}
		}
		if found.logs != logs {
			db.forgetTickStatement()
		}
		if !found.inEpoch {
			delete(conn.Conn().PgConn().CustomData(), epochKey)
		}
		if found.logs == logs && found.inEpoch && found.tried == len(found.moved) {
			return moved, nil
		}
	}
}

type tickResult struct {
	moved   []string
	tried   int  // ticks that were due; those not in moved somebody else made
	logs    int  // registered now
	inEpoch bool // the server is still of the epoch that was asked for
}

func runTick(ctx context.Context, conn *pgx.Conn, sql string, epoch int32) (tickResult, error) {
	var found tickResult
	rows, err := conn.Query(ctx, sql, epoch)
	if err != nil {
		return found, err
	}
	var log *string
	_, err = pgx.ForEachRow(rows, []any{&log, &found.tried, &found.logs, &found.inEpoch}, func() error {
		if log != nil {
			found.moved = append(found.moved, *log)
		}
		return nil
	})
	return found, err
}

func (db *Database) forgetTickStatement() {
	db.log.ticker.mu.Lock()
	defer db.log.ticker.mu.Unlock()
	db.log.ticker.sql = ""
}

func (db *Database) tickStatement(ctx context.Context, conn *pgx.Conn) (sql string, logs int, err error) {
	t := &db.log.ticker
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sql == "" {
		list, err := readLogs(ctx, conn, db.schema)
		if err != nil {
			return "", 0, err
		}
		t.sql, t.logs = tickSQL(db.schema, list), len(list)
	}
	return t.sql, t.logs, nil
}

// tickSQL is the one statement that ticks all logs. Everything in it happens
// under one snapshot, which is also the one that it records; what makes the
// order right follows from that:
//
//   - The last tick is read under the snapshot that becomes the next one. So
//     the next snapshot sees the last tick's own transaction and was taken
//     after it: snapshots only grow with n.
//   - Two tickers that read the same last tick insert the same key, and "on
//     conflict do nothing" keeps the one that was first, log by log. A ticker
//     that slept since it took its snapshot finds its n taken as well.
//   - Under read committed, PostgreSQL's default, a statement has one snapshot
//     from its start to its end; the statement must run by itself and not in a
//     transaction that reads more.
//
// A log gets a tick if it has an event that this snapshot sees and the last
// tick's did not: one of a transaction from the last xmax on, or of one that
// was in progress then and is not now. Asking whether the snapshot changed
// would tick for ever, because the tick's own transaction changes it. Asking
// from the last xmin on would be right, but an open transaction holds xmin
// back, and each tick would read everything since again.
//
// In a new epoch transaction ids start anew: the last tick of another epoch
// counts as none, and all events of this epoch are new.
//
// The last row is always there: it counts the ticks that were due, and the
// registered logs, so that one that another process registered is noticed, and
// says whether the server is still the one whose epoch was given.
func tickSQL(schema string, logs []registeredLog) string {
	var each strings.Builder
	for i, l := range logs {
		if i > 0 {
			each.WriteString("\n\t\tunion all\n")
		}
		each.WriteString(tickOneSQL(schema, l))
	}
	if len(logs) == 0 {
		each.WriteString("select null, null, null where false")
	}
	return `
	with here as materialized (
		select pg_current_snapshot() as cur, e.n as epoch
		from (` + incarnationQuery + `) as i(system, timeline)
		join ` + schema + `.epoch e on e.system_identifier = i.system and e.timeline = i.timeline
		where e.n = $1::int
	), due as materialized (
		select l.log, l.n, here.epoch, l.high, here.cur
		from here cross join lateral (` + each.String() + `
		) as l(log, n, high)
	), moved as (
		insert into ` + schema + `.tick (log, n, epoch, high, snapshot)
		select log, n, epoch, high, cur from due
		on conflict do nothing
		returning log
	)
	select log, 0, 0, true from moved
	union all
	select null, (select count(*)::int from due), (select count(*)::int from ` + schema + `.log), exists (select from here)`
}

func tickOneSQL(schema string, l registeredLog) string {
	event := l.schema + ".event"
	part := "e.part >= " + firstUnsealed(l.schema)
	return `
		select ` + literal(l.name) + `, coalesce(last.n, 0) + 1, (select last_value from ` + l.schema + `.event_position)
		from (select) as one
		left join lateral (
			select n, case when epoch = here.epoch then snapshot else '1:1:'::pg_snapshot end as snapshot
			from ` + schema + `.tick where log = ` + literal(l.name) + ` order by n desc limit 1
		) last on true
		where exists (
			select from ` + event + ` e
			where ` + part + ` and e.epoch = here.epoch
			  and e.xid >= coalesce(pg_snapshot_xmax(last.snapshot), '1'::xid8)
			  and e.xid < pg_snapshot_xmax(here.cur)
			  and pg_visible_in_snapshot(e.xid, here.cur)
		) or exists (
			select from pg_snapshot_xip(last.snapshot) as x
			cross join lateral (
				select from ` + event + ` e where ` + part + ` and e.epoch = here.epoch and e.xid = x limit 1
			) as its
			where pg_visible_in_snapshot(x, here.cur)
		)`
}

// Committed is signalled after commits that may need a tick.
func (db *Database) Committed() <-chan struct{} { return db.committed }

// Ticked is signalled when another process has ticked. Asked for the first
// time it starts to listen, over a connection of its own.
func (db *Database) Ticked() <-chan struct{} {
	db.log.notifier.listen()
	return db.ticked
}
