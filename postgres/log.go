package postgres

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// logSide is what ticking and reading the logs of a database needs beside the
// Database's pool.
type logSide struct {
	pool     *pgxpool.Pool // see openLogPool
	ticker   ticker
	notifier *notifier
}

func (db *Database) openLog(ctx context.Context) error {
	pool, err := openLogPool(ctx, db.pool.Config())
	if err != nil {
		return err
	}
	db.log.pool = pool
	db.log.notifier = newNotifier(pool, db.config.Schema, db.config.Logger, db.ticked)
	return nil
}

func (l *logSide) close() {
	if l.pool == nil {
		return
	}
	l.notifier.close()
	l.pool.Close()
}

// openLogPool gives the ticker and the log's readers connections of their own.
//
// Their statements run for ever with plans that were made when the log was
// empty, or a thousand times smaller, and every one of them is right with an
// index and nested loops and wrong with anything else: a sequential scan looks
// cheapest on a log of ten rows, stays in the prepared statement, and reads
// millions an hour later. So the planner is left no other choice, once per
// connection, and the statements themselves stay plain.
func openLogPool(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	params := config.ConnConfig.RuntimeParams
	for _, method := range []string{"seqscan", "bitmapscan", "hashjoin", "mergejoin", "material"} {
		params["enable_"+method] = "off"
	}
	params["plan_cache_mode"] = "force_generic_plan"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	return pool, translate("connect the log's readers", err)
}

// registeredLog is a log that the ticker ticks; schema is quoted.
type registeredLog struct {
	name, schema string
}

type rowsQueryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// readLogs returns the registered logs by name. All tickers go through them in
// this order, so that two that clash wait for each other and never deadlock.
func readLogs(ctx context.Context, q rowsQueryer, schema string) ([]registeredLog, error) {
	rows, err := q.Query(ctx, "select name, schema_name from "+schema+".log")
	if err != nil {
		return nil, translate("read the registered logs", err)
	}
	logs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (registeredLog, error) {
		var l registeredLog
		var schema string
		err := row.Scan(&l.name, &schema)
		l.schema = pgx.Identifier{schema}.Sanitize()
		return l, err
	})
	if err != nil {
		return nil, translate("read the registered logs", err)
	}
	slices.SortFunc(logs, func(a, b registeredLog) int { return strings.Compare(a.name, b.name) })
	return logs, nil
}

// firstUnsealed is SQL for a part below which every event is sealed, and so
// has its tick. The planner prunes the parts below it when a statement starts.
func firstUnsealed(schema string) string {
	return "(select coalesce(max(n), 1) from " + schema + ".part where sealed is not null)"
}

// literal quotes a name for use as a string in SQL; names of logs are checked
// to be plain.
func literal(name string) string {
	return "'" + strings.ReplaceAll(name, "'", "''") + "'"
}
