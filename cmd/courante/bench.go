package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/postgres"
)

type benchCommand struct {
	Orders  benchOrdersCommand  `cmd:"" help:"Take orders through the whole shop, and look at every one of them."`
	Append  benchAppendCommand  `cmd:"" help:"Append events, each call waiting for its commit."`
	Relay   benchRelayCommand   `cmd:"" help:"Read events in their order, as every subscriber does."`
	Rebuild benchRebuildCommand `cmd:"" help:"Build read models from a long log."`
	HTTP    benchHTTPCommand    `cmd:"" name:"http" help:"Place and read orders over HTTP, with everything else at work behind."`
	Idle    benchIdleCommand    `cmd:"" help:"Count what the system costs while nothing happens."`
}

// Help teaches by example.
func (benchCommand) Help() string {
	return `Each number stands beside what the same server takes at most, measured in the same run: rates differ from machine to machine, ratios do not. Benches work in a schema of their own, which they drop, on the running system's server, on that of COURANTE_POSTGRES_URL, or on one that they start.

Examples:

  courante bench orders
  courante bench append
  courante bench relay --old-events 10000000 --old-ticks 1000000
  courante bench rebuild
  courante bench http
  courante bench idle --json | jq .cpu_percent`
}

// benchResult is what a bench prints with --json. It is the median round.
type benchResult struct {
	Bench         string  `json:"bench"`
	N             int     `json:"n"`
	Seconds       float64 `json:"seconds"`
	EventsPerS    float64 `json:"events_per_s"`
	LimitPerS     float64 `json:"limit_per_s"`
	Ratio         float64 `json:"ratio"`
	P50           float64 `json:"p50_ms"`
	P99           float64 `json:"p99_ms"`
	CPUPer1000    float64 `json:"cpu_s_per_1000"`
	Checks        string  `json:"checks"`
	WithoutPerS   float64 `json:"without_history_per_s,omitempty"`
	WithToWithout float64 `json:"with_to_without_history,omitempty"`
}

// benchDatabase is a schema of the bench's own on some server.
type benchDatabase struct {
	p          *app.Program
	db         *postgres.Database
	schema     string
	postmaster int
	stopServer func()
}

func openBench(ctx context.Context, p *app.Program) (_ *benchDatabase, err error) {
	b := &benchDatabase{p: p, schema: "bench_" + strings.ToLower(rand.Text()[:8])}
	url, stop, err := p.DatabaseForWork(ctx)
	if err != nil {
		return nil, err
	}
	b.stopServer = stop
	defer func() {
		if err != nil {
			b.close(ctx)
		}
	}()
	if b.db, err = postgres.Open(ctx, postgres.Config{URL: url, Schema: b.schema, Logger: p.Log}); err != nil {
		return nil, err
	}
	if b.postmaster, err = findPostmaster(ctx, b.db); err != nil {
		return nil, err
	}
	return b, nil
}

// fresh opens a store that nobody used before.
func (b *benchDatabase) fresh(ctx context.Context, name string) (*postgres.Store, error) {
	return b.db.Store(ctx, name+"_"+strings.ToLower(rand.Text()[:6]))
}

// close drops what the bench made, also after Ctrl-C.
func (b *benchDatabase) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if b.db != nil {
		if err := b.drop(ctx); err != nil {
			b.p.Log.Warn("the bench's schemas are still there", "prefix", b.schema, "error", err)
		}
		b.db.Close()
	}
	b.stopServer()
}

func (b *benchDatabase) drop(ctx context.Context) error {
	rows, err := b.db.Pool().Query(ctx, "select nspname::text from pg_namespace where nspname = $1 or starts_with(nspname, $1 || '_')", b.schema)
	if err != nil {
		return err
	}
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, schema := range schemas {
		if _, err := b.db.Pool().Exec(ctx, "drop schema "+pgx.Identifier{schema}.Sanitize()+" cascade"); err != nil {
			return err
		}
	}
	return nil
}

// benchRounds is how often each bench and its limit are measured, one after
// the other, so that what else the machine does falls on both.
const benchRounds = 3

// benchStreams is over how many streams events are spread.
const benchStreams = 10_000

// benchEvent is an event of usual size: some 500 bytes.
func benchEvent() courante.Event {
	return courante.Event{
		Type: "shop.order_created", Schema: 1, Time: time.Now(),
		Correlation: "order-0198c2f4", Causation: "create_order",
		Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Data:  json.RawMessage(`{"order":"0198c2f4","lines":[` + strings.Repeat(`{"sku":"A-1001","quantity":2},`, 8) + `{"sku":"B-7","quantity":1}]}`),
	}
}

// median is the middle one by rate.
func median(rounds []benchResult) benchResult {
	slices.SortFunc(rounds, func(a, b benchResult) int { return cmp.Compare(a.EventsPerS, b.EventsPerS) })
	return rounds[len(rounds)/2]
}

func medianOf(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// percentiles fills in how long the calls took.
func (r *benchResult) percentiles(took []time.Duration) {
	slices.Sort(took)
	at := func(share float64) float64 {
		return float64(took[int(share*float64(len(took)-1))].Microseconds()) / 1000
	}
	r.P50, r.P99 = at(0.50), at(0.99)
}

func printBench(p *app.Program, r benchResult) error {
	if p.Globals.JSON {
		return p.PrintJSON(r)
	}
	t := app.NewTable("bench "+r.Bench, "")
	t.Row("events/s", app.Thousands(int(r.EventsPerS)))
	t.Row("limit", app.Thousands(int(r.LimitPerS))+" events/s, measured between the rounds")
	t.Row("ratio", fmt.Sprintf("%.2f", r.Ratio))
	t.Row("p50, p99", fmt.Sprintf("%.2f ms, %.2f ms a call", r.P50, r.P99))
	t.Row("CPU", fmt.Sprintf("%.4f s per 1,000 events, program and server", r.CPUPer1000))
	if r.WithoutPerS > 0 {
		t.Row("without history", fmt.Sprintf("%s events/s; with it %.2f of that", app.Thousands(int(r.WithoutPerS)), r.WithToWithout))
	}
	t.Row("checks", r.Checks)
	t.Write(p.Stdout)
	if r.Checks != "ok" {
		return app.ErrReported
	}
	return nil
}
