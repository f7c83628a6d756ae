package courantetest_test

import (
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

func TestSimulationIsReplayable(t *testing.T) {
	t.Parallel()
	courantetest.SameTwice(t, 20, func() courantetest.Simulation[*market] { return shopping(flaws{}) })
}
