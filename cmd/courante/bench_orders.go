package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"github.com/courante-dev/courante/app"
)

type benchOrdersCommand struct {
	Seconds     int     `default:"60" help:"How long to measure, after the warm-up."`
	Warmup      int     `default:"5" help:"Seconds before it."`
	UnderWay    int     `default:"2000" help:"Orders under way at once: a customer places the next one when the last has ended and its mail is sent."`
	Rate        float64 `placeholder:"N" help:"Place N orders a second instead, however many are under way."`
	History     int     `default:"1000000" help:"Events of the past in the logs, in closed and sealed parts."`
	Keys        bool    `help:"Place each order with an idempotency key, whose answers are remembered."`
	Traces      float64 `default:"1" help:"Share of the orders that are traced; spans go to a sink on this machine. 0 makes no spans."`
	Outside     string  `enum:"memory,postgres" default:"memory" help:"Where the payment provider and the carrier, which are not part of the system, keep their books: memory or postgres."`
	Over        string  `enum:"log,rabbitmq" default:"log" help:"How events come from one service to another: log, which each reads, or rabbitmq, which is started for it."`
	Lanes       int     `help:"Lanes of each service; by default the runtime's own."`
	Foreign     bool    `name:"foreign-transaction" help:"Keep somebody else's transaction open all the time."`
	Limit       int     `default:"200000" help:"Orders of the bare SQL that is the limit; 0 leaves it out."`
	CPUProfile  string  `name:"cpuprofile" placeholder:"FILE" help:"Write a CPU profile of this program while it measures."`
	HeapProfile string  `name:"heapprofile" placeholder:"FILE" help:"Write a heap profile at the end of it."`
	Statements  bool    `help:"Count the statements too. It starts the server with pg_stat_statements, which costs a little."`
}

// Help teaches by example.
func (benchOrdersCommand) Help() string {
	return `Runs the whole shop in this process: orders of 1 to 5 lines out of 4,000 SKUs are placed, reserved, paid, shipped, confirmed and mailed, one in twenty is declined and compensated. Then looks at every order: it has ended as its card says, and stock, money and everything else add up as "courante verify" wants it.

CPU time is that of this program, which also plays the customers and the parties outside, of PostgreSQL, and of RabbitMQ if there is one. The limit is the same orders in bare SQL, 200 in a transaction for each of the five steps, with nothing that makes it safe.

It works in a database of its own, which it drops.

Examples:

  courante bench orders
  courante bench orders --history 10000000 --traces 0.01
  courante bench orders --rate 500                                   # how long does an order take
  courante bench orders --foreign-transaction --seconds 300
  courante bench orders --over rabbitmq`
}

func (c *benchOrdersCommand) check() error {
	switch {
	case c.Seconds < 1 || c.Warmup < 0:
		return errors.New("--seconds must be at least 1, and --warmup cannot be negative")
	case c.UnderWay < 1 || c.Rate < 0:
		return errors.New("--under-way must be at least 1, and --rate cannot be negative")
	case c.History < 0 || c.Limit < 0 || c.Lanes < 0:
		return errors.New("--history, --limit and --lanes cannot be negative")
	case c.Traces < 0 || c.Traces > 1:
		return errors.New("--traces is a share, from 0 to 1")
	}
	return nil
}

// Run measures the choreography and checks what came of it.
func (c *benchOrdersCommand) Run(ctx context.Context, p *app.Program) (err error) {
	if err := c.check(); err != nil {
		return app.UsageError{Err: err}
	}
	d, err := openOrdersDatabase(ctx, p, c.Statements)
	if err != nil {
		return err
	}
	defer d.close(ctx)
	r := ordersResult{Bench: "orders", Rate: c.Rate, History: c.History, Traces: c.Traces, Outside: c.Outside, Over: c.Over, Foreign: c.Foreign}
	if c.Limit > 0 {
		if r.Limit, err = d.ordersLimit(ctx, c.Limit); err != nil {
			return err
		}
		p.Progress("bare SQL: %s orders/s, %.3f CPU s per 1,000", app.Thousands(int(r.Limit.PerS)), r.Limit.CPUPer1000)
	}
	town, err := c.openTown(ctx, d)
	if err != nil {
		return err
	}
	defer town.close(ctx)
	if err := c.measure(ctx, town, &r); err != nil {
		return err
	}
	p.Progress("looking at every order")
	if err := town.check(ctx, &r); err != nil {
		return err
	}
	return printOrders(p, r)
}

// measure has orders placed. Rates are those of the time between warm-up and end.
// Costs are of all that was done from the first order to the last one's end,
// divided by all orders, so that no work is counted without its order.
func (c *benchOrdersCommand) measure(ctx context.Context, t *town, r *ordersResult) error {
	if c.Foreign {
		end, err := t.openForeign(ctx)
		if err != nil {
			return err
		}
		defer end()
	}
	t.db.p.Progress("placing orders for %d s, after %d s of warm-up", c.Seconds, c.Warmup)
	before, err := t.read(ctx)
	if err != nil {
		return err
	}
	placing := t.place(ctx, c.UnderWay, c.Rate, c.Keys)
	defer placing.stop()
	if err := placing.wait(ctx, time.Duration(c.Warmup)*time.Second); err != nil {
		return err
	}
	stopProfile, err := c.profile()
	if err != nil {
		return err
	}
	defer stopProfile()
	from := time.Now()
	for left := c.Seconds; left > 0; left -= progressEvery {
		if err := placing.wait(ctx, time.Duration(min(left, progressEvery))*time.Second); err != nil {
			return err
		}
		t.db.p.Progress("%s orders ended, %s under way", app.Thousands(t.customers.countEnded()), app.Thousands(t.customers.countUnderWay()))
	}
	to := time.Now()
	resident, err := residentMemory()
	if err != nil {
		return err
	}
	stopProfile()
	if err := c.heapProfile(); err != nil {
		return err
	}
	t.db.p.Progress("waiting for the last orders")
	if err := placing.finish(ctx); err != nil {
		return err
	}
	after, err := t.read(ctx)
	if err != nil {
		return err
	}
	r.rates(t.customers, from, to)
	r.costs(before, after, t.customers.countEnded())
	r.RSSMB = float64(resident) / 1e6
	return nil
}

// progressEvery is after how many seconds the bench says how far it is.
const progressEvery = 10

// profile begins the CPU profile, if one is wanted.
func (c *benchOrdersCommand) profile() (stop func(), err error) {
	if c.CPUProfile == "" {
		return func() {}, nil
	}
	f, err := os.Create(c.CPUProfile)
	if err != nil {
		return nil, fmt.Errorf("write the CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the CPU profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

func (c *benchOrdersCommand) heapProfile() error {
	if c.HeapProfile == "" {
		return nil
	}
	f, err := os.Create(c.HeapProfile)
	if err != nil {
		return fmt.Errorf("write the heap profile: %w", err)
	}
	defer f.Close()
	return pprof.Lookup("allocs").WriteTo(f, 0)
}
