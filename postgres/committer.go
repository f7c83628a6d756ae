package postgres

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// A group is bounded so that its statement takes milliseconds: those who
	// come next wait for it.
	maxGroupEvents = 500
	maxGroupBytes  = 1 << 20

	// maxRepeats is how often a group is repeated as it is after it ran into
	// another process; then each caller goes alone, so that one who races all
	// the time does not hold up the others.
	maxRepeats = 3

	// answerTimeout is when a server that does not answer is given up.
	answerTimeout = 30 * time.Second

	connectTimeout = 5 * time.Second
	maxBackoff     = time.Second
)

// committer writes the appends of its streams, one group after the other, over
// a connection of its own. What makes callers share a fate, and how they are
// kept apart:
//
//   - A group has one caller of each stream, so callers of one group cannot
//     conflict with each other. Those who wait behind a caller of the same
//     stream are told of a conflict as soon as his outcome makes it certain.
//   - Groups are sorted by stream, so that two of them, of two processes, never
//     wait for each other.
//   - A caller who runs into an open transaction of somebody else makes the
//     statement wait. After Config.LockTimeout the callers of the group go one
//     by one, and those who still would wait are set apart, see [apart].
//   - A caller whose rows the server refuses fails the statement. The callers
//     go one by one then, too.
//   - When a caller of another process was faster, the statement fails on the
//     primary key. It is repeated, and now sees the other's events.
//   - When the answer is lost, no caller of the group can know its outcome.
type committer struct {
	store *Store
	log   *slog.Logger

	mu     sync.Mutex
	filled sync.Cond // the queue has grown, a stream was released, or closed was set
	queue  []*call
	held   map[string]bool // streams with a call that was set apart
	behind bool            // a call in the queue waits behind another of its stream
	closed bool

	// Of the goroutine in run:
	in       *inserter // nil: not connected
	backoff  time.Duration
	stopping chan struct{} // closed by close, so that run does not sleep on
	group    []*call
	streams  map[string]bool // of the group
	results  []outcome
}

func newCommitter(s *Store, n int) *committer {
	c := &committer{
		store:    s,
		log:      s.db.config.Logger.With("log", s.name, "committer", n),
		held:     make(map[string]bool),
		stopping: make(chan struct{}),
		streams:  make(map[string]bool),
	}
	c.filled.L = &c.mu
	return c
}

// enqueue hands the call over; false: the committer is closed.
func (c *committer) enqueue(call *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.queue = append(c.queue, call)
	c.filled.Signal()
	return true
}

// withdraw takes the call back; false: it was taken up already.
func (c *committer) withdraw(call *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.queue, call)
	if i < 0 {
		return false
	}
	c.queue = slices.Delete(c.queue, i, i+1)
	c.filled.Signal() // close may wait for the queue to be empty
	return true
}

// release lets the stream's calls be taken up again.
func (c *committer) release(stream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, stream)
	c.filled.Signal()
}

func (c *committer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		close(c.stopping)
		c.filled.Signal()
	}
}

func (c *committer) run() {
	defer c.disconnect()
	for c.take() {
		c.commit()
	}
}

// take waits for calls and makes the next group of them, in the order of the
// queue. It returns false when the committer is closed and all calls are done.
//
// It does not wait for company, but it lets those come who are about to: the
// callers of the last group often append again at once, and are ready to run.
// Without that the first of them would wake the committer, which would run
// before the others and go off with a group of one; a group costs as much as
// some twenty events.
func (c *committer) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.queue) == 0 && !c.closed {
			c.filled.Wait()
		}
		c.gather()
		if c.pick(); len(c.group) > 0 {
			return true
		}
		if c.closed && len(c.queue) == 0 {
			return false
		}
		c.filled.Wait() // all that wait are behind calls that were set apart
	}
}

// gather steps behind the goroutines that are ready to run for as long as that
// makes the queue grow. It takes microseconds.
func (c *committer) gather() {
	for grown := true; grown && len(c.queue) < maxGroupEvents; {
		before := len(c.queue)
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
		grown = len(c.queue) > before
	}
}

func (c *committer) pick() {
	c.group = c.group[:0]
	clear(c.streams)
	c.behind = false
	events, size := 0, 0
	kept := c.queue[:0]
	for i, call := range c.queue {
		if len(c.group) > 0 && (events+len(call.events) > maxGroupEvents || size+call.size > maxGroupBytes) {
			kept = append(kept, c.queue[i:]...)
			// One of the rest may be behind a call of the group.
			c.behind = true
			break
		}
		if c.held[call.stream] {
			kept = append(kept, call)
			continue
		}
		if c.streams[call.stream] {
			c.behind = true
			kept = append(kept, call)
			continue
		}
		c.streams[call.stream] = true
		c.group = append(c.group, call)
		events += len(call.events)
		size += call.size
	}
	clear(c.queue[len(kept):])
	c.queue = kept
}

// commit brings each call of the group to an outcome, or sets it apart.
func (c *committer) commit() {
	slices.SortFunc(c.group, func(a, b *call) int { return strings.Compare(a.stream, b.stream) })
	results, err := c.write(c.group, c.results[:0])
	c.results = results[:0]
	switch {
	case err == nil:
		c.finish(c.group, results)
	case errors.Is(err, courante.ErrUnknownOutcome), !c.connected():
		c.fail(c.group, err)
	default:
		c.oneByOne(err)
	}
}

// write writes the calls in one transaction and repeats that while it makes
// sense for all of them together.
func (c *committer) write(group []*call, results []outcome) ([]outcome, error) {
	for tries := 1; ; tries++ {
		if err := c.connect(); err != nil {
			return results, err
		}
		c.in.deadline(answerTimeout)
		done, err := c.in.insert(context.Background(), group, results)
		if err == nil {
			return done, nil
		}
		if !c.connected() {
			c.log.Warn("lost the connection", "error", err, "appends", len(group))
		}
		switch {
		case tries > maxRepeats:
		case partClosed(err):
			if err := c.store.refreshPart(context.Background(), c.in.conn); err != nil {
				return results, err
			}
			continue
		case hasCode(err, "23505", "40001", "40P01"): // raced with another process
			continue
		case !c.connected() && pgconn.SafeToRetry(err): // the connection had broken while idle
			continue
		}
		return results, translateCommit("append", err)
	}
}

// oneByOne writes each call of a group that failed with err in a transaction
// of its own.
func (c *committer) oneByOne(err error) {
	blocked := hasCode(err, "55P03")
	if len(c.group) == 1 {
		c.resolve(c.group, err)
		return
	}
	if blocked {
		// The group has waited already; now only find out who would wait.
		c.in.lockTimeout(max(time.Millisecond, c.store.db.config.LockTimeout/10))
	}
	for i := range c.group {
		one := c.group[i : i+1]
		results, err := c.write(one, c.results[:0])
		if err == nil {
			c.finish(one, results)
			continue
		}
		if !c.connected() {
			// The others were not sent; they need not share this one's fate.
			c.fail(one, err)
			continue
		}
		c.resolve(one, err)
	}
	if blocked && c.connected() {
		c.in.lockTimeout(c.store.db.config.LockTimeout)
	}
}

// resolve ends a group of one that failed with err: it fails, or is set apart
// if all it needs is time.
func (c *committer) resolve(one []*call, err error) {
	if !hasCode(err, "55P03") {
		c.fail(one, err)
		return
	}
	group := []*call{one[0]}
	stream := one[0].stream
	c.mu.Lock()
	c.held[stream] = true
	c.mu.Unlock()
	c.store.appender.apart.add(one[0], func(o outcome) {
		c.finish(group, []outcome{o})
		c.release(stream)
	})
}

func (c *committer) fail(group []*call, err error) {
	results := make([]outcome, len(group))
	for i := range results {
		results[i].err = err
	}
	c.finish(group, results)
}

// finish tells the calls their outcomes.
func (c *committer) finish(group []*call, results []outcome) {
	c.settle(group, results)
	if slices.ContainsFunc(results, func(o outcome) bool { return o.err == nil }) {
		c.store.db.signalCommitted()
	}
	for i, call := range group {
		call.done <- results[i] // has room; from here on the call may be somebody else's
	}
}

// settle tells the calls that wait behind one of the group what its outcome
// means for them: a version that is taken now, or was taken already, cannot be
// appended any more. Without it many callers that race for one version would
// each cost a group.
func (c *committer) settle(group []*call, results []outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.behind {
		return
	}
	ended := make(map[string]int, len(group))
	for i, call := range group {
		ended[call.stream] = i
	}
	c.queue = slices.DeleteFunc(c.queue, func(waits *call) bool {
		i, ok := ended[waits.stream]
		if !ok {
			return false
		}
		var conflict *courante.ConflictError
		won := results[i].err == nil && waits.expected < group[i].last()
		lost := errors.As(results[i].err, &conflict) && waits.expected == group[i].expected
		if won || lost {
			waits.done <- lostOutcome(waits)
			return true
		}
		return false
	})
}
