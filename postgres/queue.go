package postgres

import (
	"errors"
	"runtime"
	"slices"
	"sync"

	"github.com/courante-dev/courante"
)

const (
	// A group is bounded so that its statement takes milliseconds: those who
	// come next wait for it.
	maxGroupEvents = 500
	maxGroupBytes  = 1 << 20

	// minShare is how many calls a committer must get for the queue to be
	// shared out. A statement with its commit costs the server as much as some
	// fifteen events (measured: 300 us and 18 us).
	minShare = 16
)

// queue holds the appends that wait for a committer. All committers of a store
// take from it, and a stream is with one of them at a time, so that appends to
// it do not race each other within the process.
type queue struct {
	committers int
	stopping   chan struct{} // closed when the queue is

	mu       sync.Mutex
	ready    sync.Cond // a committer that waits should look
	waking   bool      // one was told to, and has not looked yet
	calls    []*call
	held     map[string]bool // streams with a call that is being written or was set apart
	behind   bool            // a call waits behind another of its stream
	busy     int             // committers that are writing
	inFlight int             // calls that they are writing
	closed   bool
}

func newQueue(committers int) *queue {
	q := &queue{committers: committers, stopping: make(chan struct{}), held: make(map[string]bool)}
	q.ready.L = &q.mu
	return q
}

// add hands the call over; false: the queue is closed.
func (q *queue) add(call *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.calls = append(q.calls, call)
	if q.worthTaking() {
		q.wake()
	}
	return true
}

// worthTaking reports whether a committer that is free should take what waits.
// While others write, it waits until a group has come together that is not
// much smaller than theirs: many small groups would use up the server for
// their commits. At low load all groups are small, and nobody waits.
func (q *queue) worthTaking() bool { return 2*len(q.calls) >= q.inFlight }

func (q *queue) wake() {
	if !q.waking {
		q.waking = true
		q.ready.Signal()
	}
}

// withdraw takes the call back; false: it was taken up already.
func (q *queue) withdraw(call *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.calls, call)
	if i < 0 {
		return false
	}
	q.calls = slices.Delete(q.calls, i, i+1)
	q.wake() // closed, a committer may wait for the queue to be empty
	return true
}

// close lets the committers finish what waits, and refuses what comes.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.stopping)
		q.ready.Broadcast()
	}
}

// take waits for calls and returns the next group, in the order of the queue;
// none when the queue is closed and empty. The calls' streams are held until
// they are released. after is the size of the group that the committer has
// written just now.
//
// It does not wait for company, but it lets those come who are about to: the
// callers of the last group often append again at once, and are ready to run.
// Without that the first of them would wake the committer, which would run
// before the others and go off with a group of one.
func (q *queue) take(group []*call, after int) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	if after > 0 {
		q.busy--
		q.inFlight -= after
	}
	for {
		if q.gather(); len(q.calls) > 0 && (q.closed || q.worthTaking()) {
			if group = q.pick(group[:0]); len(group) > 0 {
				q.busy++
				q.inFlight += len(group)
				if len(q.calls) > 0 && q.busy < q.committers && q.worthTaking() {
					q.wake()
				}
				return group
			}
		}
		if q.closed && len(q.calls) == 0 {
			q.ready.Broadcast() // the others may go as well
			return nil
		}
		q.waking = false
		q.ready.Wait()
		q.waking = false
	}
}

// gather steps behind the goroutines that are ready to run for as long as that
// makes the queue grow. It takes microseconds.
func (q *queue) gather() {
	for grown := true; grown && len(q.calls) < maxGroupEvents; {
		before := len(q.calls)
		q.mu.Unlock()
		runtime.Gosched()
		q.mu.Lock()
		grown = len(q.calls) > before
	}
}

// pick takes the next group out of the queue: its share of what waits, one
// call of each stream, and none of a stream that is held.
func (q *queue) pick(group []*call) []*call {
	shares := min(q.committers-q.busy, max(1, len(q.calls)/minShare))
	share := (len(q.calls) + shares - 1) / shares
	events, size := 0, 0
	kept := q.calls[:0]
	for i, call := range q.calls {
		full := events+len(call.events) > maxGroupEvents || size+call.size > maxGroupBytes
		if len(group) == share || len(group) > 0 && full {
			kept = append(kept, q.calls[i:]...)
			q.behind = true // one of the rest may be behind a call of the group
			break
		}
		if q.held[call.stream] {
			kept = append(kept, call)
			q.behind = true
			continue
		}
		q.held[call.stream] = true
		group = append(group, call)
		events += len(call.events)
		size += call.size
	}
	clear(q.calls[len(kept):])
	q.calls = kept
	return group
}

// release lets the streams of the calls be taken up again, and tells the calls
// that wait behind one of them what its outcome means: a version that is taken
// now, or was taken already, cannot be appended any more. Without that many
// callers that race for one version would each cost a group.
func (q *queue) release(group []*call, results []outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, call := range group {
		delete(q.held, call.stream)
	}
	if !q.behind {
		return
	}
	q.behind = len(q.held) > 0 && len(q.calls) > 0
	ended := make(map[string]int, len(group))
	for i, call := range group {
		ended[call.stream] = i
	}
	q.calls = slices.DeleteFunc(q.calls, func(waits *call) bool {
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

// lookAgain has a committer look whether a stream that was released has calls.
func (q *queue) lookAgain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wake()
}
