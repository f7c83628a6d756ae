package postgres

import (
	"sync"

	"github.com/courante-dev/courante"
)

const (
	// ticksPerQuery is how many ticks a reader asks for at once: at three
	// events a tick enough for a call, at hundreds for thousands of calls.
	ticksPerQuery = 2048

	// A run is cut when it is longer; at 100 ticks a second it covers more
	// than a minute, the distance that readers at the head of a log can be
	// apart.
	maxRun = 4 * ticksPerQuery

	// maxRuns bounds the memory of a log's ticks to some ten megabytes. The
	// readers at the head share one run, and each that reads history has one.
	maxRuns = 16
)

// tickCache keeps runs of consecutive ticks of one log. A tick never changes
// in the log that it is of, but a restore or a promotion replaces the log: who
// takes ticks from the cache must compare the last of them with the table.
// Then the ones before it are right too, because a log is only ever cut and
// continued, in a new epoch. The zero value is empty.
type tickCache struct {
	mu   sync.Mutex
	runs [][]courante.Tick // the one used last is last
}

// from returns the cached ticks that follow one another from tick n on.
// Callers must not write to them.
func (c *tickCache) from(n int64) []courante.Tick {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.runs) - 1; i >= 0; i-- {
		run := c.runs[i]
		if k := n - run[0].N; k >= 0 && k < int64(len(run)) {
			c.runs = append(append(c.runs[:i], c.runs[i+1:]...), run)
			return run[k:]
		}
	}
	return nil
}

// add keeps consecutive ticks, joined to the run that they continue.
func (c *tickCache) add(ticks []courante.Tick) {
	if len(ticks) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, run := range c.runs {
		next := run[len(run)-1].N + 1
		if ticks[0].N < run[0].N || ticks[0].N > next {
			continue
		}
		if last := ticks[len(ticks)-1].N; last < next {
			return // another reader brought them
		}
		// Readers hold parts of the run; appending never writes to what they
		// can see.
		run = append(run, ticks[next-ticks[0].N:]...)
		if len(run) > maxRun {
			run = append([]courante.Tick(nil), run[len(run)-maxRun/2:]...)
		}
		c.runs[i] = run
		return
	}
	if len(c.runs) == maxRuns {
		c.runs = append(c.runs[:0], c.runs[1:]...)
	}
	c.runs = append(c.runs, append([]courante.Tick(nil), ticks...))
}

// purge forgets everything.
func (c *tickCache) purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs = nil
}
