package courantetest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/courante-dev/courante/courantetest"
)

func TestSimulation(t *testing.T) {
	t.Parallel()
	covered := courantetest.Simulate(t, func() courantetest.Simulation[*market] { return shopping(flaws{}) })
	for _, line := range covered.Report() {
		t.Log(line)
	}
	if covered.Runs < 100 {
		return // too few to have seen everything
	}
	for _, line := range covered.Never() {
		t.Errorf("never taken: %s", line)
	}
}

// As a fleet the same domain keeps the same promises.
func TestSimulationOfAFleet(t *testing.T) {
	t.Parallel()
	covered := courantetest.Simulate(t, func() courantetest.Simulation[*market] { return fleetOf(shopping(flaws{})) })
	if covered.Runs < 100 {
		return // too few to have seen everything
	}
	for _, line := range covered.Never() {
		t.Errorf("never taken: %s", line)
	}
}

func fleetOf(s courantetest.Simulation[*market]) courantetest.Simulation[*market] {
	s.Fleet = true
	return s
}

func TestSimulationIsReplayable(t *testing.T) {
	t.Parallel()
	courantetest.SameTwice(t, 20, func() courantetest.Simulation[*market] { return shopping(flaws{}) })
	courantetest.SameTwice(t, 20, func() courantetest.Simulation[*market] { return fleetOf(shopping(flaws{})) })
}

// A client sees its own broken promise at the step at which it happens.
func TestSimulationSaysWhatAClientSaw(t *testing.T) {
	t.Parallel()
	s := shopping(flaws{})
	s.Clients = append(s.Clients, func(c *courantetest.Client[*market]) { c.Errorf("no %s", "apples") })
	run := s.Run(1)
	if run.Err == nil || run.Err.Error() != "client 7: no apples" {
		t.Errorf("the run ends with %v, want what the client saw", run.Err)
	}
}

// However many runs go on at once, the first bad seed is what is told.
func TestExploreStopsAtTheFirstBadSeed(t *testing.T) {
	t.Parallel()
	build := func() courantetest.Simulation[*market] { return shopping(flaws{forgetVoid: true}) }
	const first, count = 5, 1000
	want := uint64(first)
	for build().Run(want).Err == nil {
		want++
	}
	told := uint64(0)
	covered, err := courantetest.Explore(t.Context(), first, count, build, func(done uint64) { told = done })
	var broken *courantetest.BrokenError
	if !errors.As(err, &broken) || broken.Run.Seed != want || !errors.Is(err, broken.Run.Err) {
		t.Errorf("got %v, want that of seed %d", err, want)
	}
	if covered.Runs < want-first+1 || covered.Runs == count || told != covered.Runs {
		t.Errorf("%d of %d runs, and %d were told of; want it to stop soon after seed %d", covered.Runs, count, told, want)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if covered, err := courantetest.Explore(stopped, 1, count, build, nil); !errors.Is(err, context.Canceled) || covered.Runs != 0 {
		t.Errorf("stopped before it began: %d runs, %v", covered.Runs, err)
	}
}

func TestSimulationEndsThoughNothingComesToRest(t *testing.T) {
	t.Parallel()
	s := shopping(flaws{})
	s.Steps = 200
	if run := s.Run(1); run.Err == nil || run.Steps > 201 {
		t.Errorf("a run of %d steps ends with %v, want it to give up after 200", run.Steps, run.Err)
	}
}

func ExampleSimulation() {
	run := courantetest.Simulation[*teller]{
		Start: newTeller,
		Clients: []func(*courantetest.Client[*teller]){func(c *courantetest.Client[*teller]) {
			key := c.NewID() // the same at each attempt, so that repeating is safe
			_ = c.Insist(func(t *teller) error { return t.Deposit(context.Background(), key, 5) }, isRejection)
		}},
		Check: func(ctx context.Context, t *teller) error {
			sum, _, err := t.accounts.Get(ctx, "joint")
			if sum != 5 {
				err = errors.Join(err, fmt.Errorf("the account holds %d, want 5", sum))
			}
			return err
		},
	}.Run(7)
	fmt.Println(run.Err)
	// Output: <nil>
}
