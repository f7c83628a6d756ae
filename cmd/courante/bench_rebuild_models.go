package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

//go:embed bench_models/*.sql
var benchModels embed.FS

// benchSteps are what happens to each order of the long log, in its order.
var benchSteps = []string{"shop.order_created", "shop.stock_reserved", "shop.payment_captured", "shop.order_shipped", "shop.order_confirmed"}

// rebuildModels are the read models that are built.
func rebuildModels() []courante.Projection {
	return []courante.Projection{
		{Name: "counts", Version: 1, Async: true, Tables: []string{"count_by_day"}, Apply: countByDay},
		{Name: "orders", Version: 1, Async: true, Tables: []string{"order_row"}, Apply: listOrders},
	}
}

func countByDay(b *pgx.Batch, events []courante.Event) error {
	type key struct {
		day int64 // since 1970
		typ string
	}
	const day = 24 * 60 * 60
	counts := make(map[key]int64)
	for i := range events {
		counts[key{events[i].Time.Unix() / day, events[i].Type}]++
	}
	var days []time.Time
	var types []string
	var more []int64
	for k, n := range counts {
		days, types, more = append(days, time.Unix(k.day*day, 0).UTC()), append(types, k.typ), append(more, n)
	}
	b.Queue(`insert into {schema}.count_by_day as c (events, day, type) select * from unnest($1::bigint[], $2::date[], $3::text[])
		on conflict (day, type) do update set events = c.events + excluded.events`, more, days, types)
	return nil
}

// benchOrder is the part of benchEvent's data that the list decodes.
type benchOrder struct {
	Order string     `json:"order"`
	Lines []struct{} `json:"lines"`
}

// EventType is that of an order's first event.
func (benchOrder) EventType() string { return benchSteps[0] }

type orderRow struct {
	version int64
	status  string
}

func listOrders(b *pgx.Batch, events []courante.Event) error {
	var order []string // as they come, so that equal logs give equal statements
	rows := make(map[string]*orderRow)
	var created struct {
		ids   []string
		times []time.Time
		lines []int
	}
	for i := range events {
		e := &events[i]
		row := rows[e.Stream]
		if row == nil {
			row = &orderRow{}
			rows[e.Stream], order = row, append(order, e.Stream)
		}
		row.version, row.status = e.Version, e.Type
		if e.Version == 1 {
			placed, err := courante.Decode[benchOrder](e)
			if err != nil {
				return err
			}
			created.ids, created.times = append(created.ids, e.Stream), append(created.times, e.Time)
			created.lines = append(created.lines, len(placed.Lines))
		}
	}
	if len(created.ids) > 0 {
		versions, statuses := make([]int64, len(created.ids)), make([]string, len(created.ids))
		for i, id := range created.ids {
			versions[i], statuses[i] = rows[id].version, rows[id].status
			delete(rows, id)
		}
		b.Queue(`insert into {schema}.order_row (version, created_at, lines, order_id, status)
			select * from unnest($1::bigint[], $2::timestamptz[], $3::int[], $4::text[], $5::text[])`,
			versions, created.times, created.lines, created.ids, statuses)
	}
	order = slices.DeleteFunc(order, func(id string) bool { return rows[id] == nil })
	if len(order) == 0 {
		return nil
	}
	versions, statuses := make([]int64, len(order)), make([]string, len(order))
	for i, id := range order {
		versions[i], statuses[i] = rows[id].version, rows[id].status
	}
	b.Queue(`with changed as (
			update {schema}.order_row o set version = a.version, status = a.status
			from unnest($1::text[], $2::bigint[], $3::text[]) a(order_id, version, status) where o.order_id = a.order_id returning 1
		) select {schema}.expect('order_row', count(*), $4::bigint) from changed`, order, versions, statuses, int64(len(order)))
	return nil
}

// beginLive makes the models live while the log is empty, so that all others
// are built beside them.
func beginLive(ctx context.Context, store *postgres.Store, models []courante.Projection) error {
	files, err := fs.Sub(benchModels, "bench_models")
	if err != nil {
		return err
	}
	if err := store.Keep(ctx, files, models); err != nil {
		return err
	}
	for _, model := range models {
		w, err := store.ProjectionWork(ctx, model, []string{store.Log()})
		if err != nil {
			return err
		}
		n, err := w.Build(ctx, nil)
		if err != nil {
			return err
		}
		if err := w.Switch(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// wrongModelError says that a model does not have what the log has.
type wrongModelError string

func (e wrongModelError) Error() string { return string(e) }

// checkModel looks at a model of n events without the code that built it.
func checkModel(ctx context.Context, b *benchDatabase, model, table string, n int) error {
	events := "sum(events)"
	if model == "orders" {
		steps := make([]string, len(benchSteps))
		for i, step := range benchSteps {
			steps[i] = fmt.Sprintf("(%d, '%s')", i+1, step)
		}
		// Of a row that is not as its last event has left it, no event counts.
		events = "sum(version) filter (where lines = 9 and (version, status) in (" + strings.Join(steps, ", ") + "))"
	}
	var have int
	err := b.db.Pool().QueryRow(ctx, "select coalesce("+events+", 0)::bigint from "+table).Scan(&have)
	if err == nil && have != n {
		return wrongModelError(fmt.Sprintf("%s: %d events are in the model, want %d", model, have, n))
	}
	return err
}
