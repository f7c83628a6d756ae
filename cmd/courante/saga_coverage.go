package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop/simulation"
)

// sagaCoverage is how often simulated runs took what a saga declares.
type sagaCoverage struct {
	Saga     string               `json:"saga"` // "" for commands that belong to none
	Outcomes []courantetest.Taken `json:"outcomes"`
}

// simulate runs the shop's simulation and says what it covered of the sagas.
func (c *sagaCheckCommand) simulate(ctx context.Context, p *program) error {
	if c.Runs == 0 {
		return usageError{errors.New("--runs must be at least 1")}
	}
	screen := newCoverageScreen(p, c.Runs)
	began := time.Now()
	covered, err := courantetest.Explore(ctx, c.Seed, c.Runs, simulation.New, screen.progress)
	screen.end()
	if broken := (*courantetest.BrokenError)(nil); errors.As(err, &broken) {
		return fmt.Errorf("%w\nAgain: courante saga check --coverage --runs 1 --seed %d", broken, broken.Run.Seed)
	}
	if err != nil {
		return err
	}
	sagas, err := coverageBySaga(covered)
	if err != nil {
		return err
	}
	never := covered.Never()
	if p.globals.JSON {
		err := p.printJSON(struct {
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
		fmt.Fprintf(p.stdout, "%s runs from seed %d in %s, no promise broken; %d of %d outcomes taken\n", thousands(int(covered.Runs)),
			c.Seed, short(time.Since(began)), len(covered.Outcomes())-len(never), len(covered.Outcomes()))
	}
	if len(never) == 0 {
		return nil
	}
	p.println("\nNever taken; if more --runs do not take them, they are impossible and should not be declared:")
	for _, t := range never {
		p.println("  " + t.String())
	}
	return errReported
}

// coverageBySaga puts each outcome with the first saga that its step is part
// of, and what is part of none at the end.
func coverageBySaga(covered *courantetest.Coverage) ([]sagaCoverage, error) {
	graphs, err := courante.BuildSagas(declaredShop())
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

func printCoverage(p *program, sagas []sagaCoverage) {
	for _, s := range sagas {
		title := "saga " + s.Saga
		if s.Saga == "" {
			title = "outside of sagas"
		}
		fmt.Fprintln(p.stdout, title)
		t := newTable("TAKEN", "SERVICE", "STEP", "OUTCOME")
		for _, o := range s.Outcomes {
			n := "never"
			if o.Taken > 0 {
				n = thousands(o.Taken)
			}
			t.row(n, o.Service, o.Step, o.Outcome)
		}
		t.write(p.stdout)
		fmt.Fprintln(p.stdout)
	}
}

// coverageScreen is the line that says how far the runs are.
type coverageScreen struct {
	*replayScreen
	runs  uint64
	began time.Time
}

func newCoverageScreen(p *program, runs uint64) *coverageScreen {
	return &coverageScreen{newReplayScreen(p), runs, time.Now()}
}

func (s *coverageScreen) progress(done uint64) {
	elapsed := time.Since(s.began)
	line := fmt.Sprintf("%s of %s runs, %s left", thousands(int(done)), thousands(int(s.runs)),
		(time.Duration(float64(elapsed) / float64(done) * float64(s.runs-done))).Round(time.Second))
	switch {
	case s.p.globals.JSON:
	case s.live:
		s.show(line)
	case elapsed >= s.next:
		s.next = elapsed + logEvery
		s.p.println(line)
	}
}
