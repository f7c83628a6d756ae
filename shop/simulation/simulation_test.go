package simulation_test

import (
	"testing"

	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop/simulation"
)

// TestSimulation also holds the declarations to be no more than what can
// happen: each declared outcome is taken in some run.
func TestSimulation(t *testing.T) {
	t.Parallel()
	covered := courantetest.Simulate(t, simulation.New)
	for _, line := range covered.Report() {
		t.Log(line)
	}
	if covered.Runs < 1000 {
		return // too few to have seen everything
	}
	for _, line := range covered.Never() {
		t.Errorf("never taken: %s", line)
	}
}

// As a fleet over a broker that loses queues and connections, the shop keeps
// the same promises.
func TestSimulationOfAFleet(t *testing.T) {
	t.Parallel()
	courantetest.Simulate(t, func() courantetest.Simulation[*simulation.InProcess] {
		s := simulation.New()
		s.Fleet = true
		return s
	})
}

func TestSimulationIsReplayable(t *testing.T) {
	t.Parallel()
	courantetest.SameTwice(t, 20, simulation.New)
}
