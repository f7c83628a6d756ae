package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/app"
)

// limitResult is what bare SQL takes.
type limitResult struct {
	PerS       float64
	CPUPer1000 float64
}

const (
	limitOrders  = 200 // orders a transaction; more save next to nothing
	limitWorkers = 4
)

// ordersLimit is how many orders a second the server takes when nothing is done
// that makes it safe: each of the five steps of 200 orders is a transaction, of
// a row for each order and, where goods are concerned, the stock. No relay, no
// reactions, no saga: whoever comes close to it gives all of that away.
func (d *ordersDatabase) ordersLimit(ctx context.Context, n int) (r limitResult, err error) {
	d.p.Progress("bare SQL: %s orders", app.Thousands(n))
	_, err = d.pool.Exec(ctx, `
		create schema bare;
		create table bare.step (order_id text, step int, at timestamptz not null default now(), data json not null, primary key (order_id, step));
		create table bare.stock (sku text primary key, on_hand bigint not null, reserved bigint not null) with (fillfactor = 70)`)
	if err != nil {
		return r, err
	}
	if _, err := d.pool.Exec(ctx, "insert into bare.stock select 'SKU-' || lpad(i::text, 4, '0'), 1000000000, 0 from generate_series(0, $1::int - 1) i", skus); err != nil {
		return r, err
	}
	cpu, err := startCPU(d.postmaster)
	if err != nil {
		return r, err
	}
	start := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, limitWorkers)
	for i := range limitWorkers {
		wg.Go(func() { errs[i] = d.limitWorker(ctx, int64(n), &next) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return r, fmt.Errorf("bare SQL: %w", err)
	}
	r.PerS = float64(n) / time.Since(start).Seconds()
	used, err := cpu.used()
	r.CPUPer1000 = used.Seconds() / float64(n) * 1000
	if err != nil {
		return r, err
	}
	_, err = d.pool.Exec(ctx, "drop schema bare cascade")
	return r, err
}

func (d *ordersDatabase) limitWorker(ctx context.Context, n int64, next *atomic.Int64) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for {
		last := next.Add(limitOrders)
		if last-limitOrders >= n {
			return nil
		}
		if err := bareOrders(ctx, conn.Conn(), last-limitOrders+1, min(last, n)); err != nil {
			return err
		}
	}
}

// bareOrders takes orders through their five steps. The declined ones are
// released at the fourth.
func bareOrders(ctx context.Context, conn *pgx.Conn, first, last int64) error {
	var ids, good, data []string
	want, ship, release := map[string]int64{}, map[string]int64{}, map[string]int64{}
	for n := first; n <= last; n++ {
		ids = append(ids, orderID(n))
		end := ship
		if declined(n) {
			end = release
		} else {
			good = append(good, orderID(n))
		}
		text := `{"lines":[`
		for i, l := range orderLines(n) {
			if i > 0 {
				text += ","
			}
			text += fmt.Sprintf(`{"sku":%q,"quantity":%d,"unit_price":%d}`, l.SKU, l.Quantity, l.UnitPrice)
			want[l.SKU] += l.Quantity
			end[l.SKU] += l.Quantity
		}
		data = append(data, text+"]}")
	}
	small := slices.Repeat([]string{`{"ok":true}`}, len(ids))
	for step := 1; step <= 5; step++ {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			batch := &pgx.Batch{}
			switch step {
			case 1:
				batch.Queue(bareStep, step, ids, data)
			case 2:
				bareStock(batch, want, 0, 1)
				batch.Queue(bareStep, step, ids, small)
			case 3:
				batch.Queue(bareStep, step, ids, small)
			case 4:
				bareStock(batch, release, 0, -1)
				batch.Queue(bareStep, step, ids, small)
			case 5:
				bareStock(batch, ship, -1, -1)
				batch.Queue(bareStep, step, good, small[:len(good)])
			}
			return tx.SendBatch(ctx, batch).Close()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const bareStep = "insert into bare.step (order_id, step, data) select id, $1::int, data::json from unnest($2::text[], $3::text[]) a(id, data)"

// bareStock changes the stock, whose rows it locks in one order first.
func bareStock(batch *pgx.Batch, quantities map[string]int64, onHand, reserved int) {
	names := slices.Sorted(maps.Keys(quantities))
	counts := make([]int64, len(names))
	for i, sku := range names {
		counts[i] = quantities[sku]
	}
	batch.Queue("select on_hand, reserved from bare.stock where sku = any($1) order by sku for update", names)
	batch.Queue(`update bare.stock s set on_hand = s.on_hand + a.n * $3::int, reserved = s.reserved + a.n * $4::int
		from unnest($1::text[], $2::bigint[]) a(sku, n) where s.sku = a.sku`, names, counts, onHand, reserved)
}
