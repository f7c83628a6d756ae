package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/postgres"
)

type benchRelayCommand struct {
	N         int    `short:"n" default:"200000" help:"Events a round."`
	To        string `default:"reader" enum:"reader,rabbitmq" help:"Where they go: reader, or rabbitmq, which is started for it."`
	OldEvents int    `default:"0" help:"Measure once more behind so many old events."`
	OldTicks  int    `default:"0" help:"Ticks that the old events are spread over; by default one for ten."`
}

// Help teaches by example.
func (benchRelayCommand) Help() string {
	return `Reads what was appended, in the log's order and without loss, as the relay and every subscriber do. The limit is how fast the server sends the same rows in any order, without anybody decoding them. What is in the log already must not matter; --old-events proves it, and takes its time and some 500 bytes an event.

With --to rabbitmq the events are sent over a RabbitMQ and taken on the other side. The limit is its bare client, which sends and takes the same messages, made before, just as durably.

Examples:

  courante bench relay
  courante bench relay --to rabbitmq
  courante bench relay --old-events 10000000 --old-ticks 1000000`
}

// Run measures reading and its limit in turns.
func (c *benchRelayCommand) Run(ctx context.Context, p *app.Program) error {
	if c.OldEvents > 0 && c.OldTicks == 0 {
		c.OldTicks = max(c.OldEvents/10, 1)
	}
	if c.N < 1 || c.OldEvents < 0 || c.OldTicks < 0 || c.OldTicks > c.OldEvents {
		return app.UsageError{Err: errors.New("-n must be at least 1, and there cannot be more old ticks than old events")}
	}
	if c.To == "rabbitmq" && c.OldEvents > 0 {
		return app.UsageError{Err: errors.New("--old-events is about reading: leave out --to")}
	}
	b, err := openBench(ctx, p)
	if err != nil {
		return err
	}
	defer b.close(ctx)
	if c.To == "rabbitmq" {
		return c.toRabbitMQ(ctx, p, b)
	}
	plain, err := b.fresh(ctx, "plain")
	if err != nil {
		return err
	}
	stores := []*postgres.Store{plain}
	if c.OldEvents > 0 {
		old, err := b.fresh(ctx, "old")
		if err != nil {
			return err
		}
		p.Progress("writing %s old events over %s ticks", app.Thousands(c.OldEvents), app.Thousands(c.OldTicks))
		if err := b.history(ctx, old, c.OldEvents, c.OldTicks); err != nil {
			return err
		}
		stores = append(stores, old)
	}
	rounds := make([][]benchResult, len(stores))
	var limits []float64
	for round := range benchRounds {
		for i, store := range stores {
			r, limit, err := c.round(ctx, b, store)
			if err != nil {
				return err
			}
			rounds[i], limits = append(rounds[i], r), append(limits, limit)
			p.Progress("round %d of %d%s: %s events/s; at most %s", round+1, benchRounds, []string{"", " behind old events"}[i],
				app.Thousands(int(r.EventsPerS)), app.Thousands(int(limit)))
		}
	}
	without := median(rounds[0])
	r := without
	if c.OldEvents > 0 {
		r = median(rounds[1])
		r.WithoutPerS, r.WithToWithout = without.EventsPerS, r.EventsPerS/without.EventsPerS
	}
	r.LimitPerS = medianOf(limits)
	r.Ratio = r.EventsPerS / r.LimitPerS
	return printBench(p, r)
}

// relayRead is how many events one call asks for, as a runtime's tail does.
const relayRead = 4096

// round appends events, ticks as a running system does, and reads them.
func (c *benchRelayCommand) round(ctx context.Context, b *benchDatabase, store *postgres.Store) (r benchResult, limit float64, err error) {
	r = benchResult{Bench: "relay", N: c.N, Checks: "ok"}
	if _, err := b.db.Tick(ctx); err != nil {
		return r, 0, err
	}
	at, err := store.Head(ctx)
	if err != nil {
		return r, 0, err
	}
	from, err := c.write(ctx, b, store)
	if err != nil {
		return r, 0, err
	}
	cpu, err := startCPU(b.postmaster)
	if err != nil {
		return r, 0, err
	}
	var took []time.Duration
	read := 0
	seen := map[string]int64{}
	start := time.Now()
	for {
		call := time.Now()
		events, to, err := store.ReadLog(ctx, at, relayRead)
		if err != nil {
			return r, 0, err
		}
		took = append(took, time.Since(call))
		for i := range events {
			if e := &events[i]; e.Version != seen[e.Stream]+1 {
				r.Checks = fmt.Sprintf("%s came after version %d", e.ID(), seen[e.Stream])
			}
			seen[events[i].Stream] = events[i].Version
		}
		read += len(events)
		if to == at {
			break
		}
		at = to
	}
	elapsed := time.Since(start)
	used, err := cpu.used()
	if err != nil {
		return r, 0, err
	}
	if read != c.N {
		r.Checks = fmt.Sprintf("%d events were read, want %d", read, c.N)
	}
	r.Seconds = elapsed.Seconds()
	r.EventsPerS = float64(read) / r.Seconds
	r.CPUPer1000 = used.Seconds() / float64(read) * 1000
	r.percentiles(took)
	limit, err = c.scan(ctx, b, store, from)
	return r, limit, err
}

// write appends the events of a round, in streams that no round used before,
// while the database is ticked, and returns the transaction of the first.
func (c *benchRelayCommand) write(ctx context.Context, b *benchDatabase, store *postgres.Store) (first uint64, err error) {
	prefix := time.Now().UnixNano()
	const group = 100
	event := benchEvent()
	events := make([]courante.Event, 0, group)
	for n := 0; n < c.N; n += group {
		events = events[:0]
		for range min(group, c.N-n) {
			events = append(events, event)
		}
		receipt, err := store.Append(ctx, fmt.Sprintf("order:%d-%d", prefix, n), 0, events...)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			first = receipt.Token.Xid
		}
		if n%(4*group) == 0 { // about what a busy system's tick holds
			if _, err := b.db.Tick(ctx); err != nil {
				return 0, err
			}
		}
	}
	_, err = b.db.Tick(ctx)
	return first, err
}

// scan is the limit: the same rows as the server sends them, in any order and
// not decoded.
func (c *benchRelayCommand) scan(ctx context.Context, b *benchDatabase, store *postgres.Store, from uint64) (float64, error) {
	start := time.Now()
	n, err := b.sendRows(ctx, store, b.db.Epoch(), from)
	if err != nil {
		return 0, err
	}
	if n != c.N {
		return 0, fmt.Errorf("the limit's scan found %d rows, want %d", n, c.N)
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// sendRows has the server send the events of an epoch, from a transaction on,
// in any order, and decodes nothing.
func (b *benchDatabase) sendRows(ctx context.Context, store *postgres.Store, epoch int32, from uint64) (n int, err error) {
	rows, err := b.db.Pool().Query(ctx, `select position, xid, version, at, epoch, schema, stream, type, correlation, causation, subject, trace, data
		from `+store.Schema()+`.event where epoch = $1 and xid >= $2::text::xid8`, epoch, fmt.Sprint(from))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

// oldEpoch is the number of the epoch that the history is of. A new database's
// own is higher, so a history looks like that of the cluster before.
const oldEpoch = 0

// history fills the log with events and the ticks that they would have had: a
// log as it is after months, without the months.
func (b *benchDatabase) history(ctx context.Context, store *postgres.Store, events, ticks int) error {
	perTick := max(events/ticks, 1)
	e := benchEvent()
	_, err := b.db.Pool().Exec(ctx, `
		insert into `+store.Schema()+`.event (xid, version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		select (i + 1000)::text::xid8, 1, now(), 1, $1, 1, 'order:old-' || i, $2, 'order-' || i, $3, '', $4, $5
		from generate_series(1, $6::bigint) i`, oldEpoch, e.Type, e.Causation, e.Trace, e.Data, events)
	if err != nil {
		return fmt.Errorf("write the old events: %w", err)
	}
	if err := b.oldTicks(ctx, store, events, perTick); err != nil {
		return err
	}
	_, err = b.db.Pool().Exec(ctx, "analyze "+store.Schema()+".event")
	return err
}

// oldTicks writes the ticks of the old events that were just written.
func (b *benchDatabase) oldTicks(ctx context.Context, store *postgres.Store, events, perTick int) error {
	_, err := b.db.Pool().Exec(ctx, `
		insert into `+pgx.Identifier{b.schema}.Sanitize()+`.tick (log, n, epoch, high, snapshot)
		select $1, n, $2, (select last_value from `+store.Schema()+`.event_position) - $3::bigint + n * $4::bigint,
		       format('%s:%s:', n * $4::bigint + 1001, n * $4::bigint + 1001)::pg_snapshot
		from generate_series(1, ($3::bigint + $4::bigint - 1) / $4::bigint) n`, store.Log(), oldEpoch, events, perTick)
	if err != nil {
		return fmt.Errorf("write the old ticks: %w", err)
	}
	return nil
}
