package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

// sagaCoverage is how often simulated runs took what a saga declares.
type sagaCoverage struct {
	Saga     string               `json:"saga"` // "" for commands that belong to none
	Outcomes []courantetest.Taken `json:"outcomes"`
}

// simulate runs the simulation and says what it covered of the sagas.
func (c *sagaCheckCommand) simulate(ctx context.Context, p *Program) error {
	if c.Runs == 0 {
		return UsageError{errors.New("--runs must be at least 1")}
	}
	if p.app.Explore == nil {
		return errors.New("this program has no simulation to count in: its App has no Explore.\nWhat one looks like is in docs/testing.md, and in simulation.go of a project that \"courante new\" makes")
	}
	screen, began := p.Screen(), time.Now()
	covered, err := p.app.Explore(ctx, c.Seed, c.Runs, func(done uint64) {
		elapsed := time.Since(began)
		left := time.Duration(float64(elapsed) / float64(done) * float64(c.Runs-done))
		screen.Say(elapsed, false, fmt.Sprintf("%s of %s runs, %s left", Thousands(int(done)), Thousands(int(c.Runs)), left.Round(time.Second)))
	})
	screen.End()
	if broken := (*courantetest.BrokenError)(nil); errors.As(err, &broken) {
		return fmt.Errorf("%w\nAgain: courante saga check --coverage --runs 1 --seed %d", broken, broken.Run.Seed)
	}
	if err != nil {
		return err
	}
	sagas, err := p.coverageBySaga(covered)
	if err != nil {
		return err
	}
	never := covered.Never()
	if p.Globals.JSON {
		err := p.PrintJSON(struct {
			Runs  uint64               `json:"runs"`
			Seed  uint64               `json:"seed"`
			Sagas []sagaCoverage       `json:"sagas"`
			Never []courantetest.Taken `json:"never"`
		}{covered.Runs, c.Seed, sagas, slices.Concat([]courantetest.Taken{}, never)})
		if err != nil {
			return err
		}
	} else {
		printCoverage(p, sagas)
		fmt.Fprintf(p.Stdout, "%s runs from seed %d in %s, no promise broken; %d of %d outcomes taken\n", Thousands(int(covered.Runs)),
			c.Seed, Short(time.Since(began)), len(covered.Outcomes())-len(never), len(covered.Outcomes()))
	}
	if len(never) == 0 {
		return nil
	}
	p.Println("\nNever taken; if more --runs do not take them, they are impossible and should not be declared:")
	for _, t := range never {
		p.Println("  " + t.String())
	}
	return ErrReported
}

// coverageBySaga puts each outcome with the first saga that its step is part
// of, and what is part of none at the end.
func (p *Program) coverageBySaga(covered *courantetest.Coverage) ([]sagaCoverage, error) {
	graphs, err := courante.BuildSagas(p.app.Declare())
	if err != nil {
		return nil, err
	}
	rest := covered.Outcomes()
	var sagas []sagaCoverage
	for _, g := range graphs {
		s := sagaCoverage{Saga: g.Name}
		rest = slices.DeleteFunc(rest, func(t courantetest.Taken) bool {
			own := slices.ContainsFunc(g.Steps, func(st courante.SagaStep) bool { return st.Service == t.Service && st.Name == t.Step })
			if own {
				s.Outcomes = append(s.Outcomes, t)
			}
			return own
		})
		sagas = append(sagas, s)
	}
	if len(rest) > 0 {
		sagas = append(sagas, sagaCoverage{Outcomes: rest})
	}
	return sagas, nil
}

func printCoverage(p *Program, sagas []sagaCoverage) {
	for _, s := range sagas {
		title := "saga " + s.Saga
		if s.Saga == "" {
			title = "outside of sagas"
		}
		fmt.Fprintln(p.Stdout, title)
		t := NewTable("TAKEN", "SERVICE", "STEP", "OUTCOME")
		for _, o := range s.Outcomes {
			n := "never"
			if o.Taken > 0 {
				n = Thousands(o.Taken)
			}
			t.Row(n, o.Service, o.Step, o.Outcome)
		}
		t.Write(p.Stdout)
		fmt.Fprintln(p.Stdout)
	}
}
