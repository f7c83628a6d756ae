package courante

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"
	"time"
)

// consumer is the owner of lane k of a service: it takes the lane's events of
// all source logs, decides on them in batches and records its progress in the
// same transaction. One owner for lane k of all logs keeps the events of a key
// in one pair of hands.
//
// It keeps in memory what it wrote last. Whenever a commit fails in a way that
// makes its memory doubtful (another owner, an answer lost), it forgets
// everything and reads its place again.
type consumer struct {
	n       *node
	k       int
	actor   *Actor
	opened  bool
	broken  atomic.Bool // it stopped for good
	sources []*source
	lanes   int       // of the generation that it works in; see plan
	waiting bool      // for other lanes to finish an epoch
	known   int       // lane epochs when it was opened
	looked  time.Time // when it last looked for new ones
	aside   *aside
	former  []Queue         // of lane counts that are over; see tidy
	retired []*retiredError // whose relays have to know; see tidy
}

func (c *consumer) step(ctx context.Context) (bool, error) {
	if c.isBroken() {
		return false, nil
	}
	if !c.n.holds(laneName(c.k)) {
		c.release()
		return false, nil
	}
	worked, err := c.try(ctx)
	var lost *LogBrokenError
	switch {
	case errors.As(err, &lost), errors.Is(err, errNewerProgram):
		c.stop(err)
		worked, err = false, nil // it is reported, and there is nothing to try again
	case errors.Is(err, ErrFenced):
		c.close()
		c.n.rt.log.Info("another owner has the lane; reading its place again", "service", c.n.svc.name, "lane", c.k)
		worked, err = true, nil
	case err != nil:
		c.close()
	}
	return worked, err
}

func (c *consumer) isBroken() bool { return c.broken.Load() }

// release leaves its lanes to another process. One that has failed is closed
// already, and still has its queue, which the other one waits for.
func (c *consumer) release() {
	if c.opened {
		for _, s := range c.sources {
			c.n.unpublish(s)
		}
		c.close()
	}
	if c.n.rt.wire != nil {
		c.n.rt.wire.release(func(q Queue) bool { return q.Subscriber == c.n.svc.name && q.K%len(c.n.consumers) == c.k })
	}
}

// stop ends the consumer for good: going on could lose or repeat events.
func (c *consumer) stop(err error) {
	c.close()
	if c.n.rt.wire != nil {
		c.n.rt.wire.release(func(q Queue) bool { return q.Subscriber == c.n.svc.name })
	}
	c.broken.Store(true)
	c.n.setStopped(err)
	c.n.rt.log.Error("subscriber stopped", "service", c.n.svc.name, "lane", c.k, "error", err)
}

func (c *consumer) try(ctx context.Context) (bool, error) {
	if !c.opened {
		if err := c.open(ctx); err != nil {
			return false, err
		}
	}
	// What is tried again takes turns with what is new: neither waits for the
	// other to be through.
	retried, err := c.retry(ctx)
	if err != nil {
		return false, err
	}
	w, moved, err := c.fetch(ctx)
	if err != nil {
		return false, err
	}
	if len(w.items) > 0 || len(w.progress) > 0 {
		if err := c.run(ctx, w); err != nil {
			return false, err
		}
		c.recorded(ctx, w)
		moved = true
	}
	switch {
	case moved:
		for _, s := range c.sources {
			c.n.publish(s)
		}
		c.n.signalProgress()
		return true, nil
	case retried:
		return true, nil
	case c.waiting:
		return c.proceed(ctx)
	}
	return c.look(ctx)
}

// lookEvery is how often an idle service looks whether it was retired or added
// again. A busy one learns of it by its next commit.
const lookEvery = 10 * time.Second

// look opens the consumer anew if there are lane epochs that it does not know.
// Lane 0 asks the store, for all of them.
func (c *consumer) look(ctx context.Context) (bool, error) {
	if now := c.n.rt.now(); c.k == 0 && now.Sub(c.looked) >= lookEvery {
		c.looked = now
		count, err := c.n.countEpochs(ctx)
		if err != nil {
			return false, err
		}
		if count != c.known {
			c.n.known.Store(int64(count))
			c.n.wakeConsumers()
		}
		c.tidy(ctx)
	}
	if c.n.known.Load() == int64(c.known) {
		return false, nil
	}
	return true, c.open(ctx)
}

// recordAfter is how long a lane that found nothing to do keeps its place to
// itself: no part of the log can be detached before it is recorded.
const recordAfter = time.Minute

// next is when there is something to do though nothing wakes the consumer.
func (c *consumer) next() time.Time {
	next := c.nextAside()
	if c.n.share == nil {
		return next
	}
	for _, s := range c.sources {
		if s.feed == nil || s.reached == s.progress.Cursor {
			continue
		}
		if at := s.recorded.Add(sharedRecordAfter); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

func (c *consumer) recordAfter() time.Duration {
	if c.n.share != nil {
		return sharedRecordAfter
	}
	return recordAfter
}

// fetch takes the next events of all source logs, as many as make a batch.
func (c *consumer) fetch(ctx context.Context) (w *work, moved bool, err error) {
	w = &work{}
	for _, s := range c.sources {
		if s.feed == nil {
			continue
		}
		events, to, err := s.feed.Fetch(ctx, c.n.rt.cfg.Batch)
		if err != nil {
			return nil, false, err
		}
		end, bounded := s.end()
		last := bounded && !to.Before(end)
		if last {
			to = end
		}
		taken := 0
		for i := range events {
			if bounded && !end.Covers(&events[i]) || s.coveredBefore(&events[i]) {
				continue
			}
			w.items = append(w.items, c.items(s, &events[i])...)
			taken++
		}
		moved = moved || to != s.reached
		s.reached = to
		stale := to != s.progress.Cursor && c.n.rt.now().Sub(s.recorded) >= c.recordAfter()
		if taken > 0 || last || stale || to.Tick-s.progress.Cursor.Tick >= int64(c.n.rt.cfg.RecordEvery) {
			p := s.progress
			p.N, p.Cursor, p.Note = p.N+1, to, nil
			w.progress = append(w.progress, p)
		}
	}
	return w, moved, nil
}

// run processes the work and remembers what was set aside.
func (c *consumer) run(ctx context.Context, w *work) error {
	w.aside = c.aside
	end := c.n.rt.beginBatch(ctx, c.n, w.items)
	start := time.Now()
	err := c.n.process(ctx, w)
	end(err)
	if err != nil {
		return err
	}
	c.n.backlog.note(len(w.items), time.Since(start))
	c.noteParked(ctx, w)
	return nil
}

// recorded takes over the progress that was written with the work.
func (c *consumer) recorded(ctx context.Context, w *work) {
	for _, p := range w.progress {
		for _, s := range c.sources {
			if s.progress.Lane != p.Lane {
				continue
			}
			s.progress, s.recorded = p, c.n.rt.now()
			if err := s.feed.Ack(ctx, p.Cursor); err != nil {
				c.n.rt.log.Debug("ack failed; the events come again", "service", c.n.svc.name, "log", s.log, "error", err)
			}
			if end, bounded := s.end(); bounded && !p.Cursor.Before(end) {
				s.feed.Close()
				s.feed, c.waiting = nil, true
				c.n.wakeConsumers()
			}
		}
	}
}

// items makes the items of an event: one for each reaction to its type.
func (c *consumer) items(s *source, e *Event) []*item {
	reactions := c.n.svc.reactions[e.Type]
	items := make([]*item, 0, len(reactions))
	var payload decoded
	for _, r := range reactions {
		it := c.n.deliver(e, r, &payload)
		it.lane = s.progress.Lane
		items = append(items, it)
	}
	return items
}

// decoded is the payload of an event, for all reactions that want it as one type.
type decoded struct {
	of      reflect.Type // nil: not yet decoded
	payload any
	err     error
}

func (n *node) deliver(e *Event, r *reaction, d *decoded) *item {
	it := &item{
		step: r.step, event: e, reaction: r, correlation: e.Correlation, causation: e.ID(), parent: e.Trace,
	}
	if d.of == nil || d.of != r.of {
		d.of = r.of
		d.payload, d.err = r.decode(e)
	}
	if err := d.err; err != nil {
		it.decide = func(*Decision) error { return err }
		return it
	}
	it.keys, it.decide = r.bind(d.payload)
	return it
}

// open reads the consumer's place: its lane epochs, its progress and what is
// set aside.
func (c *consumer) open(ctx context.Context) error {
	c.close()
	plan, err := c.n.plan(ctx)
	if err != nil {
		return err
	}
	c.n.setRetired(plan.retired)
	c.lanes, c.waiting, c.known, c.looked = plan.lanes, plan.waiting, plan.epochs, c.n.rt.now()
	c.n.known.Store(int64(plan.epochs))
	for _, at := range plan.logs {
		if at.epoch().Lanes != plan.lanes {
			continue // it waits until the other logs have come as far
		}
		for lane := c.k; lane < plan.lanes; lane += c.n.rt.cfg.Lanes {
			s, err := c.n.openSource(ctx, at, lane)
			if err != nil {
				return err
			}
			c.sources = append(c.sources, s)
			c.n.publish(s)
		}
	}
	if current, err := plan.current(ctx, c.n); err != nil {
		return err
	} else if !current {
		return c.open(ctx)
	}
	if err := c.loadAside(ctx); err != nil {
		return err
	}
	c.leaveFormer(ctx, &plan)
	c.opened = true
	c.n.signalProgress()
	return nil
}

// proceed opens the consumer anew if an epoch that it waited for is over.
func (c *consumer) proceed(ctx context.Context) (bool, error) {
	plan, err := c.n.plan(ctx)
	if err != nil {
		return false, err
	}
	if plan.lanes == c.lanes && !plan.ahead(c.k, c.sources) {
		return false, nil
	}
	return true, c.open(ctx)
}

func (c *consumer) close() {
	for _, s := range c.sources {
		if s.feed != nil {
			s.feed.Close()
		}
	}
	c.sources, c.aside, c.opened = nil, nil, false
}
