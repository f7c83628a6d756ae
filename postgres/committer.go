package postgres

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// maxRepeats is how often a group is repeated as it is after it ran into
	// another process; then each caller goes alone, so that one who races all
	// the time does not hold up the others.
	maxRepeats = 3

	// answerTimeout is when a server that does not answer is given up.
	answerTimeout = 30 * time.Second

	connectTimeout = 5 * time.Second
	maxBackoff     = time.Second
)

// committer writes appends, one group after the other, over a connection of its
// own. What makes callers share a fate, and how they are
// kept apart:
//
//   - A stream is with one committer at a time, and a group has one caller of
//     it, so callers of one process do not run into each other. Those who wait
//     behind a caller of the same stream are told of a conflict as soon as its
//     outcome makes that certain; see [queue].
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
	store   *Store
	queue   *queue
	log     *slog.Logger
	in      *inserter // nil: not connected
	backoff time.Duration
	group   []*call
	results []outcome
}

func newCommitter(s *Store, q *queue, n int) *committer {
	return &committer{store: s, queue: q, log: s.db.config.Logger.With("log", s.name, "committer", n)}
}

func (c *committer) run() {
	defer c.disconnect()
	for {
		c.group = c.queue.take(c.group, len(c.group))
		if len(c.group) == 0 {
			return
		}
		c.commit()
	}
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
	// The stream stays held, so that later calls wait where they are.
	group := []*call{one[0]}
	c.store.appender.apart.add(one[0], func(o outcome) {
		c.finish(group, []outcome{o})
		c.queue.lookAgain()
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
	c.queue.release(group, results)
	if slices.ContainsFunc(results, func(o outcome) bool { return o.err == nil }) {
		c.store.db.signalCommitted()
	}
	for i, call := range group {
		call.done <- results[i] // has room; from here on the call may be somebody else's
	}
}
