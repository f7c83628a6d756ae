package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/postgres"
)

type benchAppendCommand struct {
	N       int `short:"n" default:"200000" help:"Events a round."`
	Callers int `default:"64" help:"Callers that append at once, each to streams of its own."`
}

// Help teaches by example.
func (benchAppendCommand) Help() string {
	return `Every call appends one event at the version that it expects, and waits until it is durable. The limit is what the server takes of such rows in inserts of 200 on 4 connections, without any check.

Examples:

  courante bench append
  courante bench append --callers 1 -n 5000`
}

// Run measures appends and their limit in turns.
func (c *benchAppendCommand) Run(ctx context.Context, p *app.Program) error {
	if c.N < c.Callers || c.Callers < 1 {
		return app.UsageError{Err: errors.New("-n must be at least the number of callers, and there must be one")}
	}
	b, err := openBench(ctx, p)
	if err != nil {
		return err
	}
	defer b.close(ctx)
	var rounds []benchResult
	var limits []float64
	for round := range benchRounds {
		r, err := c.round(ctx, b)
		if err != nil {
			return err
		}
		limit, err := b.insertLimit(ctx, c.N)
		if err != nil {
			return err
		}
		rounds, limits = append(rounds, r), append(limits, limit)
		p.Progress("round %d of %d: %s events/s of at most %s", round+1, benchRounds, app.Thousands(int(r.EventsPerS)), app.Thousands(int(limit)))
	}
	r := median(rounds)
	r.LimitPerS = medianOf(limits)
	r.Ratio = r.EventsPerS / r.LimitPerS
	return printBench(p, r)
}

func (c *benchAppendCommand) round(ctx context.Context, b *benchDatabase) (benchResult, error) {
	r := benchResult{Bench: "append", N: c.N}
	store, err := b.fresh(ctx, "orders")
	if err != nil {
		return r, err
	}
	cpu, err := startCPU(b.postmaster)
	if err != nil {
		return r, err
	}
	start := time.Now()
	took, err := appendMany(ctx, store, c.N, c.Callers)
	if err != nil {
		return r, err
	}
	elapsed := time.Since(start)
	used, err := cpu.used()
	if err != nil {
		return r, err
	}
	r.Seconds = elapsed.Seconds()
	r.EventsPerS = float64(c.N) / r.Seconds
	r.CPUPer1000 = used.Seconds() / float64(c.N) * 1000
	r.percentiles(took)
	r.Checks, err = checkStreams(ctx, b, store, c.N)
	return r, err
}

// appendMany appends n events and returns how long each call took.
func appendMany(ctx context.Context, store *postgres.Store, n, callers int) ([]time.Duration, error) {
	event := benchEvent()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, callers)
	times := make([][]time.Duration, callers)
	for caller := range callers {
		wg.Go(func() {
			var streams []string // of its own, so that nothing conflicts
			for i := caller; i < max(benchStreams, callers); i += callers {
				streams = append(streams, fmt.Sprintf("order:%05d", i))
			}
			for i := 0; next.Add(1) <= int64(n); i++ {
				start := time.Now()
				if _, err := store.Append(ctx, streams[i%len(streams)], int64(i/len(streams)), event); err != nil {
					errs[caller] = err
					return
				}
				times[caller] = append(times[caller], time.Since(start))
			}
		})
	}
	wg.Wait()
	var all []time.Duration
	for _, list := range times {
		all = append(all, list...)
	}
	return all, errors.Join(errs...)
}

// checkStreams wants all events there, and every stream without a gap.
func checkStreams(ctx context.Context, b *benchDatabase, store *postgres.Store, n int) (string, error) {
	var count, gaps int
	err := b.db.Pool().QueryRow(ctx, `
		select coalesce(sum(events), 0), count(*) filter (where events <> last)
		from (select count(*) as events, max(version) as last from `+store.Schema()+`.event group by stream) s`).Scan(&count, &gaps)
	switch {
	case err != nil:
		return "", err
	case count != n:
		return fmt.Sprintf("%d events were stored, want %d", count, n), nil
	case gaps > 0:
		return fmt.Sprintf("%d streams have gaps", gaps), nil
	}
	return "ok", nil
}
