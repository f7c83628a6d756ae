package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Operation is one act of an operator, as the audit log of the database keeps
// it.
type Operation struct {
	ID      int64
	At      time.Time // given by the database
	Ended   time.Time // zero: it is under way, or was interrupted
	Who     string    // user@host of who ran the command
	By      string    // in whose name, "" if they said nothing
	Command string    // such as "subscriber retire"
	Target  string    // what it was done to, such as "payment"
	Detail  any       // what else there is to know; any JSON value
	Outcome string    // OperationDone, or why not; "" as long as it has not ended
}

// OperationDone is the outcome of an operation that did what it was to do.
const OperationDone = "done"

// RecordOperation writes an operation to the audit log and returns its id. One
// with an ID is there already: it gets its outcome and detail, once; a second
// outcome fails with ErrNotFound. An act that is one transaction records itself
// in it; any other is recorded before it begins, and again when it ends, so that
// nothing is done without a record, however it ends.
func (db *Database) RecordOperation(ctx context.Context, op Operation) (int64, error) {
	return db.recordOperation(ctx, db.pool, op)
}

func (db *Database) recordOperation(ctx context.Context, q queryer, op Operation) (id int64, err error) {
	doing := "record the operation " + op.Command
	detail, err := json.Marshal(op.Detail)
	if err != nil {
		return 0, fmt.Errorf("postgres: %s: %w", doing, err)
	}
	const ended = "case when $1 = '' then null else clock_timestamp() end"
	outcome := clean(op.Outcome)
	var row pgx.Row
	if op.ID == 0 {
		row = q.QueryRow(ctx, "insert into "+db.schema+".operation (ended, outcome, who, by_name, command, target, detail) values ("+ended+", $1, $2, $3, $4, $5, $6) returning id",
			outcome, clean(op.Who), clean(op.By), op.Command, clean(op.Target), detail)
	} else {
		row = q.QueryRow(ctx, "update "+db.schema+".operation set ended = "+ended+", outcome = $1, detail = $2 where id = $3 and ended is null returning id",
			outcome, detail, op.ID)
	}
	err = row.Scan(&id)
	return id, translate(doing, err)
}

// Operations returns what operators did from a moment on, the newest first, at
// most max.
func (db *Database) Operations(ctx context.Context, since time.Time, max int) ([]Operation, error) {
	const doing = "read the operations"
	rows, err := db.pool.Query(ctx, `
		select id, at, coalesce(ended, '0001-01-01 00:00Z'), who, by_name, command, target, outcome, detail
		from `+db.schema+`.operation where at >= $1 order by at desc, id desc limit $2`, since, max)
	if err != nil {
		return nil, translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Operation, error) {
		var op Operation
		var detail json.RawMessage
		err := row.Scan(&op.ID, &op.At, &op.Ended, &op.Who, &op.By, &op.Command, &op.Target, &op.Outcome, &detail)
		op.At, op.Ended, op.Detail = op.At.UTC(), op.Ended.UTC(), detail
		return op, err
	})
	return list, translate(doing, err)
}

// clean makes text storable that may be anything, such as an error's.
func clean(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
}
