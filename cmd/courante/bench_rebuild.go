package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/postgres"
)

type benchRebuildCommand struct {
	N      int  `short:"n" default:"500000" help:"Events in the log."`
	Sealed bool `help:"Seal the log first, as old parts of a log are."`
}

// Help teaches by example.
func (benchRebuildCommand) Help() string {
	return `Builds two read models from a long log, as "courante projection rebuild" does: one counts events by day and type, the other has a row for each stream, like a list of orders. Each is looked at afterwards. The limit is the slower of two things that have to be done: the same events, as fast as the server sends them in any order with nobody folding them, and the same rows, written by COPY into an empty table with the same indexes.

The CPU time says what two idle processors would do at most, however busy this machine is.

Examples:

  courante bench rebuild
  courante bench rebuild -n 5000000 --sealed`
}

// rebuildResult is what the bench prints with --json.
type rebuildResult struct {
	Bench  string         `json:"bench"`
	N      int            `json:"n"`
	Sealed bool           `json:"sealed"`
	Models []rebuildModel `json:"models"`
	Checks string         `json:"checks"`
}

// rebuildModel is the median round of one read model.
type rebuildModel struct {
	Model        string  `json:"model"`
	Rows         int     `json:"rows"`
	Seconds      float64 `json:"seconds"`
	EventsPerS   float64 `json:"events_per_s"`
	LimitPerS    float64 `json:"limit_per_s"`
	SendPerS     float64 `json:"send_per_s"`      // events that the server sends
	CopyRowsPerS float64 `json:"copy_rows_per_s"` // rows of the model that it takes
	Ratio        float64 `json:"ratio"`
	ProgramPerM  float64 `json:"program_cpu_s_per_1000000"`
	ServerPerM   float64 `json:"postgresql_cpu_s_per_1000000"`
	CPUPerS      float64 `json:"cpu_events_per_s"` // what the processors would do if only this ran on them

	sent, copied float64 // seconds
}

// Run measures each model and its limits in turns.
func (c *benchRebuildCommand) Run(ctx context.Context, p *app.Program) error {
	if c.N < 1 {
		return app.UsageError{Err: errors.New("-n must be at least 1")}
	}
	b, err := openBench(ctx, p)
	if err != nil {
		return err
	}
	defer b.close(ctx)
	store, err := b.fresh(ctx, "long")
	if err != nil {
		return err
	}
	models := rebuildModels()
	if err := beginLive(ctx, store, models); err != nil {
		return err
	}
	p.Progress("writing %s events", app.Thousands(c.N))
	if err := b.longLog(ctx, store, c.N, c.Sealed); err != nil {
		return err
	}
	result := rebuildResult{Bench: "rebuild", N: c.N, Sealed: c.Sealed, Checks: "ok"}
	rounds := make([][]rebuildModel, len(models))
	for round := range benchRounds {
		for i, model := range models {
			r, err := c.round(ctx, b, store, model)
			var wrong wrongModelError
			if errors.As(err, &wrong) {
				result.Checks = wrong.Error()
			} else if err != nil {
				return err
			}
			rounds[i] = append(rounds[i], r)
			p.Progress("round %d of %d, %s: %s events/s; sent %s/s, %s rows copied in %.2f s", round+1, benchRounds, r.Model,
				app.Thousands(int(r.EventsPerS)), app.Thousands(int(r.SendPerS)), app.Thousands(r.Rows), r.copied)
		}
	}
	for _, list := range rounds {
		result.Models = append(result.Models, medianModel(list, c.N))
	}
	return result.print(p)
}

// round builds a model beside the live one, looks at it, measures the limits,
// and drops it.
func (c *benchRebuildCommand) round(ctx context.Context, b *benchDatabase, store *postgres.Store, model courante.Projection) (r rebuildModel, err error) {
	r.Model = model.Name
	w, err := store.ProjectionWork(ctx, model, []string{store.Log()})
	if err != nil {
		return r, err
	}
	runtime.GC() // what the round before left is not this one's
	own, server, err := b.cpu()
	if err != nil {
		return r, err
	}
	start := time.Now()
	n, err := w.Build(ctx, nil)
	if err != nil {
		return r, err
	}
	r.Seconds = time.Since(start).Seconds()
	ownAfter, serverAfter, err := b.cpu()
	if err != nil {
		return r, err
	}
	perM := 1e6 / float64(c.N)
	r.EventsPerS = float64(c.N) / r.Seconds
	r.ProgramPerM, r.ServerPerM = (ownAfter-own).Seconds()*perM, (serverAfter-server).Seconds()*perM
	if r.sent, err = b.send(ctx, store, c.N); err != nil {
		return r, err
	}
	table, err := tableOf(ctx, store, model.Name, n)
	if err != nil {
		return r, err
	}
	if r.Rows, r.copied, err = b.copyTable(ctx, table); err != nil {
		return r, err
	}
	r.SendPerS, r.CopyRowsPerS = float64(c.N)/r.sent, float64(r.Rows)/r.copied
	return r, errors.Join(checkModel(ctx, b, model.Name, table, c.N), store.DiscardGeneration(ctx, model.Name, n))
}

// tableOf is the one table of a generation, in its schema.
func tableOf(ctx context.Context, store *postgres.Store, projection string, n int64) (string, error) {
	list, err := store.Projections(ctx)
	if err != nil {
		return "", err
	}
	for _, p := range list {
		for _, g := range p.Generations {
			if p.Name == projection && g.N == n {
				return pgx.Identifier{g.Schema, g.Tables[0]}.Sanitize(), nil
			}
		}
	}
	return "", fmt.Errorf("generation %d of %s is not there: %w", n, projection, courante.ErrNotFound)
}

// medianModel is the median of the rounds, with the medians of the limits.
func medianModel(rounds []rebuildModel, n int) rebuildModel {
	var sent, copied []float64
	for _, r := range rounds {
		sent, copied = append(sent, r.sent), append(copied, r.copied)
	}
	slices.SortFunc(rounds, func(a, b rebuildModel) int { return cmp.Compare(a.EventsPerS, b.EventsPerS) })
	m := rounds[len(rounds)/2]
	m.sent, m.copied = medianOf(sent), medianOf(copied)
	m.SendPerS, m.CopyRowsPerS = float64(n)/m.sent, float64(m.Rows)/m.copied
	m.LimitPerS = float64(n) / max(m.sent, m.copied)
	m.Ratio = m.EventsPerS / m.LimitPerS
	m.CPUPerS = float64(runtime.NumCPU()) * 1e6 / (m.ProgramPerM + m.ServerPerM)
	return m
}

func (r *rebuildResult) print(p *app.Program) error {
	if p.Globals.JSON {
		return p.PrintJSON(r)
	}
	t := app.NewTable("bench rebuild", "rows", "events/s", "limit", "ratio", "CPU s per 1,000,000 events", fmt.Sprintf("%d idle processors at most", runtime.NumCPU()))
	for _, m := range r.Models {
		t.Row(m.Model, app.Thousands(m.Rows), app.Thousands(int(m.EventsPerS)), app.Thousands(int(m.LimitPerS)), fmt.Sprintf("%.2f", m.Ratio),
			fmt.Sprintf("%.2f: program %.2f, server %.2f", m.ProgramPerM+m.ServerPerM, m.ProgramPerM, m.ServerPerM), app.Thousands(int(m.CPUPerS))+" events/s")
	}
	t.Row("checks", r.Checks)
	t.Write(p.Stdout)
	if r.Checks != "ok" {
		return app.ErrReported
	}
	return nil
}
