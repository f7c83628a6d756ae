package courantetest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/courante-dev/courante"
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

	// Steps bounds a run; default 100,000, and a million for a fleet. A run that
	// is not at rest by then has failed.
	Steps int

	// Fleet runs each service of a process on a runtime of its own, which gets
	// the events of the others over a broker, as in a fleet of processes. The
	// broker loses queues and connections, and what it has not confirmed.
	Fleet bool

	// Broker, if set, stands between each service of a fleet and the broker: with
	// the manners of another broker, or with a bug that is to be found.
	Broker func(courante.Broker) courante.Broker

	// Calm turns all faults off, for what is to be seen without them.
	Calm bool
}

// Explore runs the simulation that build makes for count seeds from first on,
// in parallel, and returns what the runs have covered. The first seed with a
// broken promise ends it with a [*BrokenError]. After each run progress, which
// may be nil, gets the number of runs so far; its calls follow each other.
func Explore[D any](ctx context.Context, first, count uint64, build func() Simulation[D], progress func(done uint64)) (*Coverage, error) {
	var (
		mu     sync.Mutex // guards what follows, and calls of progress
		next   uint64
		total  = NewCoverage()
		broken *BrokenError
	)
	// take hands the seeds out in order and none after a broken one, so that
	// the lowest that was found broken is the first that there is.
	take := func() (seed uint64, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == count || broken != nil || ctx.Err() != nil {
			return 0, false
		}
		next++
		return first + next - 1, true
	}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed, ok := take(); ok; seed, ok = take() {
				run := build().Run(seed)
				mu.Lock()
				if run.Err != nil && (broken == nil || seed < broken.Run.Seed) {
					broken = &BrokenError{run}
				}
				if total.Add(run.Coverage); progress != nil {
					progress(total.Runs)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if broken != nil {
		return total, broken
	}
	return total, ctx.Err()
}

// BrokenError is a run in which a promise was broken.
type BrokenError struct{ Run *Run }

func (e *BrokenError) Error() string {
	return fmt.Sprintf("%s\nbroken: %v\nthe last steps:\n%s", e.Run, e.Run.Err, e.Run.tail())
}

func (e *BrokenError) Unwrap() error { return e.Run.Err }

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
