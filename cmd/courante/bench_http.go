package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/courante-dev/courante/app"
)

type benchHTTPCommand struct {
	Connections int           `default:"64" help:"Keep-alive connections of each load."`
	Duration    time.Duration `default:"15s" help:"How long each load lasts."`
	Lines       int           `default:"2" help:"Lines of an order."`
	GetRate     float64       `default:"5000" placeholder:"N" help:"Orders read a second, by default ${default}."`
	OrderRate   float64       `default:"500" placeholder:"N" help:"Orders placed a second meanwhile, by default ${default}."`
	URL         string        `name:"url" placeholder:"URL" help:"Load the system that answers there and runs on --data, which keeps the orders; by default one is started on a folder of its own."`
	Profiles    string        `placeholder:"DIR" help:"Write CPU profiles of the program under each load to this folder."`
}

// Help teaches by example.
func (benchHTTPCommand) Help() string {
	return `Three things, while the rest of the system works on the orders behind them:

  reading  GET /v1/orders/{id} at a constant rate, while orders are placed at another. How long one takes counts from when it was due.
  placing  POST /v1/orders on all connections, each sending the next when the last is answered: what the system accepts, durably.
  looking  some reads a second while orders are placed as fast as they are accepted.

In the same run, what the machine does at most: bare appends, and an HTTP server that answers the same bytes and does nothing. At the end every accepted order is looked for in the log.

Examples:

  courante bench http
  courante bench http --duration 5s --profiles /tmp/profiles
  courante bench http --json | jq .post.per_s`
}

// httpResult is what the bench prints with --json. The first fields are of the
// orders placed, as in the other benches.
type httpResult struct {
	Bench      string  `json:"bench"`
	N          int     `json:"n"`
	Seconds    float64 `json:"seconds"`
	OrdersPerS float64 `json:"orders_per_s"` // accepted
	LimitPerS  float64 `json:"limit_per_s"`  // bare appends
	Ratio      float64 `json:"ratio"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	CPUPer1000 float64 `json:"cpu_s_per_1000"` // program and PostgreSQL, with what they did behind
	Checks     string  `json:"checks"`

	Get       httpPhase `json:"get"`        // with orders at their rate
	GetOrders httpPhase `json:"get_orders"` // those orders
	Post      httpPhase `json:"post"`       // as fast as they are accepted
	PostGet   httpPhase `json:"post_reads"` // reads meanwhile
	BarePosts float64   `json:"bare_posts_per_s"`
	BareGets  float64   `json:"bare_gets_per_s"`
	PeakMB    float64   `json:"program_peak_mb"`
}

// httpPhase is one load and what it cost. Loads that ran side by side share
// one cost.
type httpPhase struct {
	measured
	CPU       processes `json:"cpu_s_per_1000"` // requests of all loads of the phase
	Confirmed float64   `json:"confirmed_per_s"`
}

// lookRate is how many reads a second look how the system feels while orders
// are placed: too few to take much from them.
const lookRate = 100

// Run loads the system and looks at what it did.
func (c *benchHTTPCommand) Run(ctx context.Context, p *app.Program) (err error) {
	if c.Connections < 1 || c.Duration < time.Second || c.Lines < 1 || c.Lines > 100 || c.GetRate <= 0 || c.OrderRate <= 0 {
		return app.UsageError{Err: errors.New("--connections must be at least 1, --duration 1s, --lines 1 to 100, and rates more than nothing")}
	}
	if c.Profiles != "" {
		if err := os.MkdirAll(c.Profiles, 0o755); err != nil {
			return fmt.Errorf("make the folder of profiles: %w", err)
		}
	}
	t, err := c.target(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close(ctx)) }()
	r := httpResult{Bench: "http"}
	o := newOrders(c.Lines)
	p.Progress("receiving stock of %d SKUs", benchSKUs)
	if err := stock(ctx, t.address); err != nil {
		return err
	}
	if err := c.limits(ctx, t, o, &r); err != nil {
		return err
	}
	if err := c.reading(ctx, t, o, &r); err != nil {
		return err
	}
	if err := c.placing(ctx, t, o, &r); err != nil {
		return err
	}
	if r.PeakMB, err = t.peak(); err != nil {
		return err
	}
	if r.Checks, err = o.checkLog(ctx, t.db); err != nil {
		return err
	}
	r.sum()
	return r.print(p, c)
}

// limits measures what the machine does at most, before anything is left to do
// behind.
func (c *benchHTTPCommand) limits(ctx context.Context, t *httpTarget, o *orders, r *httpResult) error {
	t.p.Progress("limits: bare HTTP and bare appends")
	post, get := o.posts(t.address, c.Connections), o.gets(t.address, c.Connections)
	for _, one := range []struct {
		load *load
		rate *float64
	}{{post, &r.BarePosts}, {get, &r.BareGets}} { // in this order: what is read was placed
		body, err := sample(ctx, one.load)
		if err != nil {
			return err
		}
		if *one.rate, err = bareHTTP(ctx, *one.load, body, c.Duration/5); err != nil {
			return err
		}
	}
	var err error
	r.LimitPerS, err = t.bareAppends(ctx, c.Connections)
	return err
}

// reading reads at one rate and places orders at another.
func (c *benchHTTPCommand) reading(ctx context.Context, t *httpTarget, o *orders, r *httpResult) error {
	t.p.Progress("reading %.0f orders a second, placing %.0f, for %s", c.GetRate, c.OrderRate, c.Duration)
	cost, err := t.phase(ctx, c.Duration, c.profile("get"), func(ctx context.Context) error {
		return both(
			func() (err error) {
				r.GetOrders.measured, err = o.posts(t.address, c.Connections).open(ctx, c.OrderRate)
				return err
			},
			func() (err error) {
				r.Get.measured, err = o.gets(t.address, c.Connections).open(ctx, c.GetRate)
				return err
			})
	})
	cost.share(&r.Get, &r.GetOrders)
	return err
}

// placing places orders as fast as they are accepted.
func (c *benchHTTPCommand) placing(ctx context.Context, t *httpTarget, o *orders, r *httpResult) error {
	t.p.Progress("placing orders on %d connections for %s", c.Connections, c.Duration)
	cost, err := t.phase(ctx, c.Duration, c.profile("post"), func(ctx context.Context) error {
		return both(
			func() (err error) {
				r.Post.measured, err = o.posts(t.address, c.Connections).closed(ctx)
				return err
			},
			func() (err error) {
				r.PostGet.measured, err = o.gets(t.address, 4).open(ctx, lookRate)
				return err
			})
	})
	cost.share(&r.Post, &r.PostGet)
	return err
}

func both(one, other func() error) error {
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { errs[0] = one() })
	wg.Go(func() { errs[1] = other() })
	wg.Wait()
	return errors.Join(errs[:]...)
}

func (c *benchHTTPCommand) profile(name string) string {
	if c.Profiles == "" {
		return ""
	}
	return filepath.Join(c.Profiles, name+".pprof")
}

// sum fills in what all benches say.
func (r *httpResult) sum() {
	r.N, r.Seconds = r.Post.Status["201"], r.Post.Seconds
	r.OrdersPerS = float64(r.N) / r.Seconds
	r.Ratio = r.OrdersPerS / r.LimitPerS
	r.P50, r.P99 = r.Post.P50, r.Post.P99
	r.CPUPer1000 = r.Post.CPU.Program + r.Post.CPU.PostgreSQL
	for _, phase := range []httpPhase{r.Get, r.GetOrders, r.Post, r.PostGet} {
		if phase.Wrong != "" && r.Checks == "ok" {
			r.Checks = phase.Wrong
		}
	}
}

func (r *httpResult) print(p *app.Program, c *benchHTTPCommand) error {
	if p.Globals.JSON {
		return p.PrintJSON(r)
	}
	t := app.NewTable("LOAD", "A SECOND", "p50", "p95", "p99", "p99.9", "WORST", "ANSWERS")
	for _, row := range []struct {
		name  string
		phase *httpPhase
	}{
		{"GET, at " + app.Thousands(int(c.GetRate)) + "/s", &r.Get}, {"  with POST", &r.GetOrders},
		{fmt.Sprintf("POST, %d connections", c.Connections), &r.Post}, {"  with GET", &r.PostGet},
	} {
		m := &row.phase.measured
		var answers []string
		for _, status := range m.statuses() {
			answers = append(answers, status+": "+app.Thousands(m.Status[status]))
		}
		t.Row(row.name, app.Thousands(int(m.PerS)), ms(m.P50), ms(m.P95), ms(m.P99), ms(m.P999), ms(m.Max), strings.Join(answers, ", "))
	}
	t.Write(p.Stdout)
	fmt.Fprintln(p.Stdout)
	t = app.NewTable("CPU s PER 1,000 REQUESTS", "CLIENT", "PROGRAM", "POSTGRESQL", "ORDERS CONFIRMED A SECOND")
	for _, row := range []struct {
		name  string
		phase *httpPhase
	}{{"reading", &r.Get}, {"placing", &r.Post}} {
		cpu := row.phase.CPU
		t.Row(row.name, fmt.Sprintf("%.3f", cpu.Client), fmt.Sprintf("%.3f", cpu.Program), fmt.Sprintf("%.3f", cpu.PostgreSQL), app.Thousands(int(row.phase.Confirmed)))
	}
	t.Write(p.Stdout)
	fmt.Fprintln(p.Stdout)
	t = app.NewTable("LIMITS", "A SECOND")
	t.Row("bare POST, the same bytes", app.Thousands(int(r.BarePosts)))
	t.Row("bare GET, the same bytes", app.Thousands(int(r.BareGets)))
	t.Row("bare appends", app.Thousands(int(r.LimitPerS)))
	t.Write(p.Stdout)
	fmt.Fprintf(p.Stdout, "\nprogram's memory, at most: %.0f MB\nchecks: %s\n", r.PeakMB, r.Checks)
	if r.Checks != "ok" {
		return app.ErrReported
	}
	return nil
}

func ms(v float64) string { return fmt.Sprintf("%.2f ms", v) }
