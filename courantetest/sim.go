package courantetest

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

var (
	oneSeed   = flag.Uint64("courante.seed", 0, "simulations: run this seed alone")
	traceFile = flag.String("courante.trace", "", "simulations: with -courante.seed, write the whole trace to this file")
	seedCount = flag.Uint64("courante.seeds", 1000, "simulations: how many seeds to run; a tenth of it with -short")
)

// Simulation is a domain and a world around it, in which one scheduler decides
// everything: which actor of which process takes the next step, when time
// passes, what fails, which process dies or falls asleep. All its decisions
// come from one seed, so a failure is found again by its number.
//
// The world has one database in memory, up to three processes on it that run
// all services, clients that call commands, and parties outside that services
// call through [Outside]. Build it anew for each run; nothing in it may depend
// on the order of a map, the wall clock or another goroutine.
type Simulation[D any] struct {
	// Start builds the services as a process does when it starts, on stores of
	// that process, with everything that the clients and the check need of
	// them in D. It is called for each process: what a process keeps in memory
	// dies with it, and what is outside is closed over.
	Start func(p *Process) (D, []courante.Mount)

	// Clients are the scripts of those who use the system, each an actor of
	// its own. The run lasts until all of them are finished.
	Clients []func(c *Client[D])

	// Check says what is wrong with the final state: all clients have finished,
	// no more faults happen, and all work is done. The runtime's own promises
	// are checked besides, in every run; see [Run].
	Check func(ctx context.Context, d D) error

	// Steps bounds a run; default 100,000. A run that is not at rest by then
	// has failed.
	Steps int

	// Calm turns all faults off, for what is to be seen without them.
	Calm bool
}

// Simulate runs the simulation that build makes for many seeds, in parallel,
// and fails with the first bad seed of each part, how it came about, and the
// command that repeats it. It returns what the runs have covered.
func Simulate[D any](t *testing.T, build func() Simulation[D]) *Coverage {
	t.Helper()
	if *oneSeed != 0 {
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
		report(t, run)
		t.Logf("%s", run)
		return run.Coverage
	}
	total := NewCoverage()
	var mu sync.Mutex // guards total
	t.Run("seeds", func(t *testing.T) {
		parts, seeds := uint64(runtime.GOMAXPROCS(0)), Seeds()
		for part := range parts {
			t.Run(fmt.Sprintf("part %d of %d", part+1, parts), func(t *testing.T) {
				t.Parallel()
				own := NewCoverage()
				for seed := 1 + part; seed <= seeds; seed += parts {
					run := build().Run(seed)
					own.Add(run.Coverage)
					if report(t, run); t.Failed() {
						break
					}
				}
				mu.Lock()
				defer mu.Unlock()
				total.Add(own)
			})
		}
	})
	return total
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

// Run is what came of one seed.
type Run struct {
	Seed     uint64
	Hash     uint64        // of every decision, fault and effect; the same seed gives the same
	Steps    int           // decisions of the scheduler
	Took     time.Duration // of virtual time
	Err      error         // the promise that was broken, nil if none
	Trace    []string      // the last lines of the trace
	Coverage *Coverage
}

func (r *Run) String() string {
	return fmt.Sprintf("seed %d: %d steps in %v of its time, trace %016x", r.Seed, r.Steps, r.Took.Round(time.Millisecond), r.Hash)
}

func (r *Run) tail() string { return "  " + strings.Join(r.Trace, "\n  ") }

func report(t *testing.T, r *Run) {
	t.Helper()
	if r.Err != nil {
		t.Error(r.failure(t.Name()))
	}
}

// failure says what was broken, how it came about, and how to see it again.
func (r *Run) failure(test string) string {
	test, _, _ = strings.Cut(test, "/")
	return fmt.Sprintf("%s\nbroken: %v\nthe last steps:\n%s\nagain, with the whole trace: go test -run '^%s$' -courante.seed=%d -courante.trace=trace.txt .",
		r, r.Err, r.tail(), test, r.Seed)
}
