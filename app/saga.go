package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
)

type sagaCommand struct {
	Check sagaCheckCommand `cmd:"" help:"Explore every way that the sagas can take, without running anything."`
	Draw  sagaDrawCommand  `cmd:"" help:"Draw the sagas from the declarations."`
	Show  sagaShowCommand  `cmd:"" help:"Show where the sagas about something stand."`
}

// Help teaches by example.
func (sagaCommand) Help() string {
	return `A saga is what several services do about one thing, such as an order. Nobody conducts it; it is put together from what each service declares.

Examples:

  courante saga check
  courante saga draw --format mermaid > saga.mmd
  courante saga show first`
}

type sagaCheckCommand struct {
	States   int    `default:"300000" help:"How many states to explore at most."`
	Coverage bool   `help:"Run the simulation instead, and count how often each declared outcome is taken."`
	Runs     uint64 `placeholder:"N" default:"1000" help:"With --coverage: how many simulated runs, by default ${default}."`
	Seed     uint64 `placeholder:"S" default:"1" help:"With --coverage: seed of the first run, by default ${default}; the others count on from it."`
}

// Help teaches by example.
func (sagaCheckCommand) Help() string {
	return `Explores arrival orders, duplicates, late deadlines and silent partners. Exits 1 if some way does not end, is not compensated, or waits without a deadline.

With --coverage, many runs in a simulation show that each outcome that a step declares can be taken: processes crash and freeze, requests and answers are lost. Each run is repeated by its seed. Exits 1 if an outcome is never taken, or a run breaks a promise. Needs no running system.

Examples:

  courante saga check
  courante saga check --json | jq .problems
  courante saga check --coverage --runs 200`
}

// Run checks all sagas, or counts what simulated runs take of them.
func (c *sagaCheckCommand) Run(ctx context.Context, p *Program) error {
	if c.Coverage {
		return c.simulate(ctx, p)
	}
	reports, err := courante.CheckSagas(p.app.Declare(), c.States)
	if reports == nil && err != nil {
		return err
	}
	for _, r := range reports {
		if p.Globals.JSON {
			if err := p.PrintJSON(r); err != nil {
				return err
			}
			continue
		}
		printReport(p, r)
	}
	if err != nil {
		return ErrReported
	}
	return nil
}

func printReport(p *Program, r *courante.SagaReport) {
	verdict := "ok"
	if err := r.Err(); err != nil {
		verdict = "PROBLEMS"
	}
	reach := "all of them"
	if !r.Complete {
		reach = "the bound was hit, what lies beyond is unknown; raise --states"
	}
	fmt.Fprintf(p.Stdout, "saga %s: %s (%s states, %s)\n", r.Saga, verdict, Thousands(r.States), reach)
	for _, problem := range r.Problems {
		fmt.Fprintf(p.Stdout, "\n[%s] %s\n", problem.Rule, problem)
	}
}

type sagaDrawCommand struct {
	Format string `enum:"text,mermaid" default:"text" help:"text for a terminal, mermaid for a page."`
}

// Help teaches by example.
func (sagaDrawCommand) Help() string {
	return "Examples:\n\n  courante saga draw\n  courante saga draw --format mermaid > saga.mmd"
}

// Run draws all sagas.
func (c *sagaDrawCommand) Run(p *Program) error {
	graphs, err := courante.BuildSagas(p.app.Declare())
	if err != nil {
		return err
	}
	for _, g := range graphs {
		switch {
		case p.Globals.JSON:
			err = p.PrintJSON(g)
		case c.Format == "mermaid":
			_, err = fmt.Fprint(p.Stdout, g.Mermaid())
		default:
			_, err = fmt.Fprint(p.Stdout, g.Text())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type sagaShowCommand struct {
	ID string `arg:"" help:"Id of what it is about, the correlation id of its events."`
}

// Help teaches by example.
func (sagaShowCommand) Help() string {
	return `Rebuilt from the logs of the running system, by correlation and causation.

Examples:

  courante saga show first
  courante saga show first --json | jq .waiting`
}

// Run shows the saga of that id and those that name it as what they are about.
func (c *sagaShowCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	graphs, err := courante.BuildSagas(v.declared)
	if err != nil {
		return err
	}
	now := time.Now()
	sagas, err := courante.ReadSagas(ctx, graphs, v.mounts, c.ID, now)
	if errors.Is(err, courante.ErrNotFound) {
		return fmt.Errorf("no saga is about %q.\nSee what there is with: courante events tail --from start", c.ID)
	}
	if err != nil {
		return err
	}
	for i, s := range sagas {
		if p.Globals.JSON {
			if err := p.PrintJSON(sagaLineOf(s)); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(p.Stdout)
		}
		printSaga(p, s, now)
	}
	return nil
}

// printSaga prints a line a step: when, how long after the step before, what.
func printSaga(p *Program, s courante.SagaStatus, now time.Time) {
	fmt.Fprintf(p.Stdout, "saga %s %s: %s", s.Saga, s.ID, s.State)
	if n := len(s.Steps); n > 0 {
		until := "so far"
		if s.State == courante.SagaCompleted || s.State == courante.SagaCompensated {
			until = "in all"
		}
		fmt.Fprintf(p.Stdout, ", begun %s, %s %s", s.Steps[0].At.Local().Format(time.DateTime), Short(s.Steps[n-1].At.Sub(s.Steps[0].At)), until)
	}
	fmt.Fprintln(p.Stdout)
	if s.Cause != "" {
		fmt.Fprintf(p.Stdout, "stuck because %s\n", s.Cause)
	}
	fmt.Fprintln(p.Stdout)
	t := NewTable("TIME", "AFTER", "SERVICE", "STEP", "STATE", "EMITTED")
	traces := map[string]bool{}
	for i, st := range s.Steps {
		after := ""
		if i > 0 {
			after = "+" + Short(st.At.Sub(s.Steps[i-1].At))
		}
		t.Row(st.At.Local().Format("15:04:05.000"), after, st.Service, st.Name, st.State, joined(st.Events))
		if st.TraceID != "" {
			traces[st.TraceID] = true
		}
	}
	t.Write(p.Stdout)
	for _, id := range names(traces) {
		fmt.Fprintf(p.Stdout, "\ntrace %s", id)
	}
	if len(traces) > 0 {
		fmt.Fprintln(p.Stdout)
	}
	if w := s.Waiting; w != nil {
		fmt.Fprintf(p.Stdout, "\nwaits for %s", w.For)
		if w.Until != nil {
			fmt.Fprintf(p.Stdout, " until %s (%s)", w.Until.Local().Format(time.TimeOnly), left(*w.Until, now))
		}
		fmt.Fprintln(p.Stdout)
	}
}

func left(until, now time.Time) string {
	if d := until.Sub(now); d > 0 {
		return Short(d) + " left"
	}
	return Short(now.Sub(until)) + " ago"
}

func joined(types []string) string {
	text := ""
	for i, typ := range types {
		if i > 0 {
			text += ", "
		}
		text += typ
	}
	return text
}

// sagaLine is a saga as --json prints it.
type sagaLine struct {
	Saga    string       `json:"saga"`
	ID      string       `json:"id"`
	State   string       `json:"state"` // running, completed, compensated or stuck
	Steps   []sagaStep   `json:"steps"`
	Waiting *sagaWaiting `json:"waiting"`
	Cause   string       `json:"cause,omitempty"` // why it is stuck
}

type sagaStep struct {
	Name    string    `json:"name"`
	Service string    `json:"service"`
	State   string    `json:"state"` // done, failed, undone or waiting
	At      time.Time `json:"at"`
	TraceID string    `json:"trace_id,omitempty"`
}

type sagaWaiting struct {
	For   string     `json:"for"`
	Until *time.Time `json:"until"`
}

func sagaLineOf(s courante.SagaStatus) sagaLine {
	line := sagaLine{Saga: s.Saga, ID: s.ID, State: s.State, Cause: s.Cause, Steps: []sagaStep{}}
	for _, st := range s.Steps {
		line.Steps = append(line.Steps, sagaStep{st.Name, st.Service, st.State, st.At, st.TraceID})
	}
	if s.Waiting != nil {
		line.Waiting = &sagaWaiting{s.Waiting.For, s.Waiting.Until}
	}
	return line
}
