package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

type projectionRebuildCommand struct {
	projectionArgs
	NoSwitch         bool `help:"Leave it beside the live one; courante projection switch makes it live."`
	AcceptDifference bool `help:"Switch although the comparison found a difference."`
	operator
}

// Help teaches by example.
func (projectionRebuildCommand) Help() string {
	return `Folds the whole log into new tables, while queries and commands go on with the live ones. Then it compares: of the same version all rows of both at the same place of the log, of a new version a part of the log folded twice. Only if nothing differs it switches, which takes a moment. What was live is kept: "projection back" makes it live again, "projection discard" drops it.

Interrupted, it goes on where it was when it is called again. No reaction, effect or mail is repeated: only tables are filled. A materialized view is refreshed.

Examples:

  courante projection rebuild {projection}
  courante projection rebuild {projection} --no-switch
  courante projection rebuild {projection} --accept-difference`
}

// rebuilt is what came of a rebuild or a switch, as --json prints it.
type rebuilt struct {
	Service    string               `json:"service"`
	Projection string               `json:"projection"`
	Generation int64                `json:"generation"`
	Events     int64                `json:"events,omitempty"`
	Seconds    float64              `json:"seconds,omitempty"`
	Comparison *postgres.Comparison `json:"comparison,omitempty"`
	Same       bool                 `json:"same"`
	Live       bool                 `json:"live"`
}

// Run builds, compares and switches.
func (c *projectionRebuildCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	store, status, err := c.find(ctx, v)
	if err != nil {
		return err
	}
	w, err := c.work(ctx, v, store)
	if err != nil {
		return err
	}
	op := c.operation("projection rebuild", c.target())
	done := rebuilt{Service: c.Service, Projection: c.Projection}
	op.Detail = map[string]any{"no_switch": c.NoSwitch, "accept_difference": c.AcceptDifference}
	err = record(ctx, v.db, op, func() error {
		if err := c.build(ctx, p, store, w, &done); err != nil || status.Kind == courante.View || c.NoSwitch {
			return err
		}
		return c.swap(ctx, p, store, w, &done, c.AcceptDifference)
	})
	if err != nil {
		return err
	}
	if p.Globals.JSON {
		return p.PrintJSON(done)
	}
	switch {
	case status.Kind == courante.View:
		fmt.Fprintf(p.Stdout, "The materialized view %s was refreshed in %s.\n", c.Projection, seconds(done.Seconds))
	case c.NoSwitch:
		fmt.Fprintf(p.Stdout, "Generation %d stands beside the live one, of %s events, after %s. Make it live with: %s switch %s\n",
			done.Generation, Thousands(done.Events), seconds(done.Seconds), p.projections(), c.words())
	default:
		done.print(p, c.words())
	}
	return nil
}

func (p *Program) projections() string { return p.app.Name + " projection" }

func seconds(s float64) string { return Short(time.Duration(s * float64(time.Second))) }

func (c *projectionRebuildCommand) build(ctx context.Context, p *Program, store *postgres.Store, w *postgres.ProjectionWork, done *rebuilt) error {
	screen, start := p.Screen(), time.Now()
	first := int64(-1) // events that were folded before this run
	err := patiently(ctx, p, store, c.Projection, func() (err error) {
		done.Generation, err = w.Build(ctx, func(at postgres.BuildProgress) {
			if first < 0 {
				first = at.Done
			}
			done.Events = at.Done
			screen.Say(time.Since(start), false, buildLine(at, first, time.Since(start)))
		})
		return err
	})
	screen.End()
	done.Seconds = time.Since(start).Seconds()
	return err
}

// buildLine is one line of how far a build is.
func buildLine(at postgres.BuildProgress, first int64, elapsed time.Duration) string {
	const width = 24
	share := 1.0
	if at.Total > 0 {
		share = float64(at.Done) / float64(at.Total)
	}
	bar := strings.Repeat("#", int(share*width)) + strings.Repeat(".", width-int(share*width))
	line := fmt.Sprintf("  generation %d [%s] %3.0f%%  %s of about %s events", at.Generation, bar, 100*share, Thousands(at.Done), Thousands(at.Total))
	if rate := float64(at.Done-first) / elapsed.Seconds(); rate > 0 {
		left := time.Duration(float64(at.Total-at.Done) / rate * float64(time.Second))
		line += fmt.Sprintf(", %s/s, %s to go", Thousands(int64(rate)), Short(left.Round(time.Second)))
	}
	return line
}

// swap compares the generation and makes it live.
func (a *projectionArgs) swap(ctx context.Context, p *Program, store *postgres.Store, w *postgres.ProjectionWork, done *rebuilt, accept bool) error {
	err := patiently(ctx, p, store, a.Projection, func() (err error) {
		done.Comparison, err = w.Compare(ctx, done.Generation)
		return err
	})
	if err != nil {
		return err
	}
	if done.Same = done.Comparison.Same(); !done.Same && !accept {
		if p.Globals.JSON {
			_ = p.PrintJSON(done)
		}
		return fmt.Errorf("the comparison found a difference, so nothing was switched. Compared were %s\nIf the new rows (+) are right, switch all the same: courante projection switch %s %d --accept-difference.\nIf not, drop them: courante projection discard %s %d",
			done.Comparison, a.words(), done.Generation, a.words(), done.Generation)
	}
	err = patiently(ctx, p, store, a.Projection, func() error { return w.Switch(ctx, done.Generation) })
	done.Live = err == nil
	return err
}

func (r *rebuilt) print(p *Program, words string) {
	if r.Events > 0 {
		fmt.Fprintf(p.Stdout, "Built generation %d of %s events in %s.\n", r.Generation, Thousands(r.Events), seconds(r.Seconds))
	}
	if r.Comparison != nil {
		fmt.Fprintf(p.Stdout, "Compared %s.\n", r.Comparison)
		for _, t := range r.Comparison.Tables {
			fmt.Fprintf(p.Stdout, "  %s: %s rows, checksum %s\n", t.Table, Thousands(t.NewRows), t.NewSum)
		}
	}
	fmt.Fprintf(p.Stdout, "Generation %d is live. The one before is kept: %[2]s back %[3]s makes it live again, %[2]s discard %[3]s drops it.\n", r.Generation, p.projections(), words)
}

type projectionSwitchCommand struct {
	projectionArgs
	Generation       int64 `arg:"" optional:"" help:"Which one; by default the newest that is ready."`
	AcceptDifference bool  `help:"Switch although the comparison found a difference."`
	operator
}

// Help teaches by example.
func (projectionSwitchCommand) Help() string {
	return "Compares the two as rebuild does, folds what has happened since, and swaps the tables in one short transaction. When somebody reads the live tables for long it waits for him, and lets others pass.\n\nExamples:\n\n  courante projection switch {projection}"
}

// Run compares and switches.
func (c *projectionSwitchCommand) Run(ctx context.Context, p *Program) error {
	return c.change(ctx, p, c.operation("projection switch", c.target()), c.Generation, "ready", func(v *visitor, store *postgres.Store, g postgres.GenerationStatus) error {
		w, err := c.work(ctx, v, store)
		if err != nil {
			return err
		}
		done := rebuilt{Service: c.Service, Projection: c.Projection, Generation: g.N}
		if err := c.swap(ctx, p, store, w, &done, c.AcceptDifference); err != nil {
			return err
		}
		if p.Globals.JSON {
			return p.PrintJSON(done)
		}
		done.print(p, c.words())
		return nil
	})
}

type projectionBackCommand struct {
	projectionArgs
	operator
}

// Help teaches by example.
func (projectionBackCommand) Help() string {
	return `Folds what has happened since into the generation that was live before, and swaps the two. It is not compared. Of another version only the program of that version can do it, because only it has the code; running programs of the version that was live then fail until they are started anew in the other.

Examples:

  courante projection back {projection}`
}

// Run switches to what was kept.
func (c *projectionBackCommand) Run(ctx context.Context, p *Program) error {
	return c.change(ctx, p, c.operation("projection back", c.target()), 0, "kept", func(v *visitor, store *postgres.Store, g postgres.GenerationStatus) error {
		w, err := c.work(ctx, v, store)
		if err != nil {
			return err
		}
		if err := patiently(ctx, p, store, c.Projection, func() error { return w.Switch(ctx, g.N) }); err != nil {
			return err
		}
		done := rebuilt{Service: c.Service, Projection: c.Projection, Generation: g.N, Live: true}
		if p.Globals.JSON {
			return p.PrintJSON(done)
		}
		done.print(p, c.words())
		return nil
	})
}

type projectionDiscardCommand struct {
	projectionArgs
	Generation int64 `arg:"" optional:"" help:"Which one; by default the only one that is not live."`
	operator
}

// Help teaches by example.
func (projectionDiscardCommand) Help() string {
	return "The live one cannot be discarded. What was discarded can only be built anew.\n\nExamples:\n\n  courante projection discard {projection}"
}

// Run drops a generation.
func (c *projectionDiscardCommand) Run(ctx context.Context, p *Program) error {
	return c.change(ctx, p, c.operation("projection discard", c.target()), c.Generation, "", func(_ *visitor, store *postgres.Store, g postgres.GenerationStatus) error {
		err := patiently(ctx, p, store, c.Projection, func() error { return store.DiscardGeneration(ctx, c.Projection, g.N) })
		if err != nil {
			return err
		}
		if p.Globals.JSON {
			return p.PrintJSON(map[string]any{"service": c.Service, "projection": c.Projection, "generation": g.N, "discarded": true})
		}
		_, err = fmt.Fprintf(p.Stdout, "Generation %d of projection %s was dropped.\n", g.N, c.Projection)
		return err
	})
}

// change does something, on record, to the generation with the number, or to the
// only one that can be meant: in the state, or, without one, that is not live.
func (a *projectionArgs) change(ctx context.Context, p *Program, op postgres.Operation, n int64, state string, do func(*visitor, *postgres.Store, postgres.GenerationStatus) error) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	store, status, err := a.find(ctx, v)
	if err != nil {
		return err
	}
	var found []postgres.GenerationStatus
	for _, g := range status.Generations {
		if g.N == n || n == 0 && (g.State == state || state == "" && g.State != "live") {
			found = append(found, g)
		}
	}
	switch {
	case len(found) == 0 && n != 0:
		return UsageError{fmt.Errorf("projection %s has no generation %d; see: courante projection show %s", a.Projection, n, a.words())}
	case len(found) == 0:
		return UsageError{fmt.Errorf("projection %s has no generation %s; see: courante projection show %s", a.Projection, map[string]string{
			"ready": "that is ready to be made live", "kept": "that was live before and is kept", "": "beside the live one"}[state], a.words())}
	case len(found) > 1 && state == "":
		return UsageError{fmt.Errorf("projection %s has several generations beside the live one; say which: courante projection show %s", a.Projection, a.words())}
	}
	g := found[len(found)-1]
	op.Detail = map[string]int64{"generation": g.N}
	return record(ctx, v.db, op, func() error { return do(v, store, g) })
}

type projectionPauseCommand struct {
	projectionArgs
	operator
}

// Help teaches by example.
func (projectionPauseCommand) Help() string {
	return `All programs stop folding it within a second or two, and it stays so when they are started anew. Queries answer with what it has; a reader with a token of a later command is refused. No part of the log is dropped that it still needs. An inline projection cannot be paused.

Examples:

  courante projection pause ordering daily_sales
  courante projection resume ordering daily_sales`
}

// Run pauses it.
func (c *projectionPauseCommand) Run(ctx context.Context, p *Program) error {
	return c.pause(ctx, p, c.operator, true)
}

type projectionResumeCommand struct {
	projectionArgs
	operator
}

// Help teaches by example.
func (projectionResumeCommand) Help() string {
	return "It goes on where it was, and catches up.\n\nExamples:\n\n  courante projection resume ordering daily_sales"
}

// Run resumes it.
func (c *projectionResumeCommand) Run(ctx context.Context, p *Program) error {
	return c.pause(ctx, p, c.operator, false)
}

func (a *projectionArgs) pause(ctx context.Context, p *Program, o operator, pause bool) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	store, _, err := a.find(ctx, v)
	if err != nil {
		return err
	}
	command, text := "projection resume", "Projection %s of %s goes on.\n"
	if pause {
		command, text = "projection pause", "Projection %s of %s is paused. Have it go on with: "+p.projections()+" resume "+a.words()+"\n"
	}
	err = record(ctx, v.db, o.operation(command, a.target()), func() error {
		if pause {
			by := o.By
			if by == "" {
				by = whoami()
			}
			return store.PauseProjection(ctx, a.Projection, by)
		}
		return store.ResumeProjection(ctx, a.Projection)
	})
	if errors.Is(err, courante.ErrNotFound) {
		return UsageError{err}
	}
	if err != nil {
		return err
	}
	if p.Globals.JSON {
		return p.PrintJSON(map[string]any{"service": a.Service, "projection": a.Projection, "paused": pause})
	}
	_, err = fmt.Fprintf(p.Stdout, text, a.Projection, a.Service)
	return err
}
