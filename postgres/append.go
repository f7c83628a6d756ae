package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/courante-dev/courante"
)

// Append adds events to one stream, after version expected; see
// [courante.Store]. It waits until they are committed.
//
// Concurrent appends share statements: a few committers take what has queued up
// and write it with one statement that commits by itself. Under load the groups grow by themselves, at rest
// nobody waits for company. See [committer] for how callers stay independent.
//
// When ctx ends before the append was taken up, nothing was written and the
// error is the context's; after that it wraps courante.ErrUnknownOutcome as
// well, because the statement goes on.
//
// The events' Data must be JSON; none counts as null. What PostgreSQL cannot
// store or read back, invalid UTF-8 and the character U+0000, is refused. So is
// every append to a log with projections, which change with units only.
func (s *Store) Append(ctx context.Context, stream string, expected int64, events ...courante.Event) (courante.Receipt, error) {
	if len(events) == 0 {
		return courante.Receipt{}, nil
	}
	if err := ctx.Err(); err != nil {
		return courante.Receipt{}, fmt.Errorf("postgres: append %s at version %d: %w", stream, expected, err)
	}
	if err := s.checkAppend(); err != nil {
		return courante.Receipt{}, fmt.Errorf("postgres: append %s at version %d: %w", stream, expected, err)
	}
	call := calls.Get().(*call)
	if err := call.set(stream, expected, events); err != nil {
		call.recycle()
		return courante.Receipt{}, fmt.Errorf("postgres: append %s at version %d: %w", stream, expected, err)
	}
	q := s.appender.queue
	if !q.add(call) {
		call.recycle()
		return courante.Receipt{}, errClosed
	}
	select {
	case o := <-call.done:
		return s.receipt(call, o)
	case <-ctx.Done():
	}
	if q.withdraw(call) {
		call.recycle()
		return courante.Receipt{}, fmt.Errorf("postgres: append %s at version %d: nothing was written: %w", stream, expected, ctx.Err())
	}
	select {
	case o := <-call.done:
		return s.receipt(call, o)
	default:
		// The committer still holds the call, so it is not recycled.
		return courante.Receipt{}, courante.Unknown(fmt.Errorf("postgres: append %s at version %d: %w", stream, expected, ctx.Err()))
	}
}

func (s *Store) receipt(call *call, o outcome) (courante.Receipt, error) {
	defer call.recycle()
	if o.err != nil {
		return courante.Receipt{}, fmt.Errorf("append %s at version %d: %w", call.stream, call.expected, o.err)
	}
	return courante.Receipt{Token: courante.Token{Log: s.name, Epoch: o.epoch, Xid: o.xid}}, nil
}

// call is one caller's append on its way through a committer.
type call struct {
	stream   string
	expected int64
	events   []courante.Event
	notes    [][]byte // of each event, as JSON; nil: none
	size     int      // bytes that it adds to a statement
	head     *head    // what is known of the stream, see [heads]
	sure     bool     // its predecessor is known to be there
	doubted  bool     // a group of it failed, so the server is to look
	done     chan outcome
}

// outcome is what a caller is told: the transaction, or an error.
type outcome struct {
	xid   uint64
	epoch int32
	err   error
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan outcome, 1)} }}

// set checks the events and makes ready what the committer writes, so that
// this work is done by the many callers and not by the few committers.
func (c *call) set(stream string, expected int64, events []courante.Event) error {
	if expected < 0 {
		return fmt.Errorf("the expected version is negative")
	}
	if err := checkStream(stream); err != nil {
		return err
	}
	c.stream, c.expected, c.events = stream, expected, events
	for i := range events {
		notes, err := marshalNotes(events[i].Notes)
		if err != nil {
			return fmt.Errorf("event %d (%s): %w", i+1, events[i].Type, err)
		}
		size, err := checkEvent(&events[i], notes)
		if err != nil {
			return fmt.Errorf("event %d (%s): %w", i+1, events[i].Type, err)
		}
		c.notes = append(c.notes, notes)
		c.size += size + len(stream)
	}
	if c.size > MaxAppend {
		return fmt.Errorf("%d bytes, the limit is %d: %w", c.size, MaxAppend, courante.ErrTooLarge)
	}
	return nil
}

func (c *call) recycle() {
	clear(c.notes)
	*c = call{notes: c.notes[:0], done: c.done}
	calls.Put(c)
}

// last is the version of the stream once the call is written.
func (c *call) last() int64 { return c.expected + int64(len(c.events)) }

func marshalNotes(n *courante.Notes) ([]byte, error) {
	if n == nil {
		return nil, nil
	}
	return json.Marshal(n)
}

// appender is a store's committers and what they work on.
type appender struct {
	queue *queue
	heads heads
	apart *apart
	wg    sync.WaitGroup
}

func (s *Store) startAppender() {
	a := &appender{queue: newQueue(s.db.config.Committers), apart: newApart(s)}
	s.appender = a
	for i := range s.db.config.Committers {
		a.wg.Go(newCommitter(s, a.queue, i).run)
	}
}

// close writes what is queued and refuses what comes later.
func (a *appender) close() {
	a.queue.close()
	a.wg.Wait()
	a.apart.close()
}
