package courantetest

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

var (
	oneSeed   = flags.Uint64("courante.seed", 0, "simulations: run this seed alone")
	traceFile = flags.String("courante.trace", "", "simulations: with -courante.seed, write the whole trace to this file")
	seedCount = flags.Uint64("courante.seeds", 1000, "simulations: how many seeds to run; a tenth of it with -short")
)

// flags are the command line of a test. A program that runs a simulation has a
// command line of its own, on which they must not appear.
var flags = func() *flag.FlagSet {
	if testing.Testing() {
		return flag.CommandLine
	}
	return flag.NewFlagSet("simulations", flag.ContinueOnError)
}()

// Simulate runs the simulation that build makes for many seeds, and fails with
// the first bad one, how it came about, and the command that repeats it. It
// returns what the runs have covered. Fleets, whose runs take longer, get a
// quarter of the seeds.
func Simulate[D any](t *testing.T, build func() Simulation[D]) *Coverage {
	t.Helper()
	if *oneSeed != 0 {
		return simulateOne(t, build)
	}
	seeds := Seeds()
	if build().Fleet {
		seeds = max(seeds/4, 1)
	}
	covered, err := Explore(t.Context(), 1, seeds, build, nil)
	if broken := (*BrokenError)(nil); errors.As(err, &broken) {
		t.Error(broken.failure(t.Name()))
	} else if err != nil {
		t.Error(err)
	}
	return covered
}

func simulateOne[D any](t *testing.T, build func() Simulation[D]) *Coverage {
	t.Helper()
	var out io.Writer
	if *traceFile != "" {
		f, err := os.Create(*traceFile)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w := bufio.NewWriter(f)
		defer w.Flush()
		out = w
	}
	run := build().run(*oneSeed, out)
	if run.Err != nil {
		t.Error((&BrokenError{run}).failure(t.Name()))
	}
	t.Logf("%s", run)
	return run.Coverage
}

// Seeds is how many seeds a simulation runs in this test process.
func Seeds() uint64 {
	if testing.Short() {
		return max(*seedCount/10, 1)
	}
	return *seedCount
}

// SameTwice runs some seeds twice and fails if the runs differ: then something
// depends on what the scheduler does not decide, and no seed can be trusted.
func SameTwice[D any](t *testing.T, seeds uint64, build func() Simulation[D]) {
	t.Helper()
	for seed := uint64(1); seed <= seeds; seed++ {
		first, second := build().Run(seed), build().Run(seed)
		if first.Hash == second.Hash {
			continue
		}
		t.Fatalf("seed %d gives %016x the first time and %016x the second; the ends of the traces are\n%s\nand\n%s",
			seed, first.Hash, second.Hash, first.tail(), second.tail())
	}
}

// failure says what was broken, how it came about, and how to see it again.
func (e *BrokenError) failure(test string) string {
	test, _, _ = strings.Cut(test, "/")
	return fmt.Sprintf("%v\nagain, with the whole trace: go test -run '^%s$' -courante.seed=%d -courante.trace=trace.txt .",
		e, test, e.Run.Seed)
}
