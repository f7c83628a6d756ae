package main

import (
	"testing"

	"github.com/courante-dev/courante/courantetest"
)

// TestTown runs the whole library in many simulations full of crashes, lost
// answers and duplicates. Each outcome that is declared must happen in one.
func TestTown(t *testing.T) {
	t.Parallel()
	covered := courantetest.Simulate(t, newTown)
	for _, never := range covered.Never() {
		t.Errorf("never taken: %s", never)
	}
}
