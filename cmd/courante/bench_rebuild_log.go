package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/postgres"
)

const (
	// longTick is how many events a tick of the long log has: a busy system's.
	longTick = 400
	// longOrders is how many orders are under way at once in the long log.
	longOrders = 1500
)

// longLog fills the log with n events of orders, and the ticks that they would
// have had over a month: each order has its five events, between those of the
// others that are under way.
func (b *benchDatabase) longLog(ctx context.Context, store *postgres.Store, n int, sealed bool) error {
	e := benchEvent()
	_, err := b.db.Pool().Exec(ctx, `
		insert into `+store.Schema()+`.event (xid, version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		select (i + 1000)::text::xid8, step + 1, now() - interval '30 days' * (1 - i / $1::float8), 1, $2, 1, 'order:' || number, ($3::text[])[step + 1],
		       'order-' || number, $4, '', $5, $6
		from generate_series(1, $1::bigint) i
		cross join lateral (select (i - 1) / ($7::bigint * $8) as block, (i - 1) % ($7::bigint * $8) as place) b
		cross join lateral (select place / $7 as step, block * $7 + place % $7 as number) o`,
		n, oldEpoch, benchSteps, e.Causation, e.Trace, e.Data, longOrders, len(benchSteps))
	if err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	if err := b.oldTicks(ctx, store, n, longTick); err != nil {
		return err
	}
	if sealed {
		part, err := store.ClosePart(ctx)
		if err != nil {
			return err
		}
		if err := store.SealPart(ctx, part); err != nil {
			return err
		}
	}
	// In place of the time that the server has otherwise.
	_, err = b.db.Pool().Exec(ctx, "vacuum analyze "+store.Schema()+".event")
	return err
}

// send is how long the server takes to send the log's n events in any order.
func (b *benchDatabase) send(ctx context.Context, store *postgres.Store, n int) (seconds float64, err error) {
	start := time.Now()
	sent, err := b.sendRows(ctx, store, oldEpoch, 0)
	if err == nil && sent != n {
		err = fmt.Errorf("the limit's scan found %d rows, want %d", sent, n)
	}
	return time.Since(start).Seconds(), err
}

// copyTable is how long the server takes to write the table's rows into an
// empty one that is like it, as little as that can be: by COPY, in one
// transaction.
func (b *benchDatabase) copyTable(ctx context.Context, table string) (rows int, seconds float64, err error) {
	conn, err := b.db.Pool().Acquire(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Release()
	c := conn.Conn().PgConn()
	var data bytes.Buffer
	if _, err := c.CopyTo(ctx, &data, "copy "+table+" to stdout (format binary)"); err != nil {
		return 0, 0, err
	}
	beside := pgx.Identifier{b.schema, "copied"}.Sanitize()
	if _, err := conn.Exec(ctx, "create table "+beside+" (like "+table+" including all)"); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	tag, err := c.CopyFrom(ctx, &data, "copy "+beside+" from stdin (format binary)")
	seconds = time.Since(start).Seconds()
	if err != nil {
		return 0, 0, err
	}
	_, err = conn.Exec(ctx, "drop table "+beside)
	return int(tag.RowsAffected()), seconds, err
}

// cpu is the CPU time of this program and of the server.
func (b *benchDatabase) cpu() (program, server time.Duration, err error) {
	own, err := readStat(os.Getpid())
	if err != nil {
		return 0, 0, err
	}
	server, err = cpuOfServer(b.postmaster)
	return own.own, server, err
}
