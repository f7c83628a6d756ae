package courante

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// brokerTransport brings lanes what relays have sent over a broker.
//
// All logs of lane k of a subscriber share a queue, because the lane has one
// owner: the broker gives the queue to one process at a time. What arrives is
// kept until it is acknowledged, so a lane that is opened anew in this process
// needs nothing from the broker.
type brokerTransport struct {
	rt *Runtime

	mu     sync.Mutex // guards intakes
	intake map[Queue]*intake
}

func (t *brokerTransport) Name() string { return t.rt.cfg.Broker.Name() }

// Open implements [Transport].
func (t *brokerTransport) Open(ctx context.Context, lane Lane, epoch LaneEpoch, after Cursor) (Feed, error) {
	in, err := t.take(ctx, Queue{Subscriber: lane.Subscriber, Lanes: epoch.Lanes, K: lane.K})
	if err != nil {
		return nil, err
	}
	f := &brokerFeed{t: t, in: in, lane: lane, epoch: epoch, at: after, recorded: after, silence: feedSilence, heard: t.rt.now()}
	if err := f.ask(ctx, false); err != nil {
		return nil, err
	}
	in.open(f)
	return f, nil
}

// take returns the intake of a queue, of which a process has one.
func (t *brokerTransport) take(ctx context.Context, q Queue) (*intake, error) {
	t.mu.Lock()
	in := t.intake[q]
	t.mu.Unlock()
	if in != nil {
		return in, nil
	}
	// Nobody else opens it meanwhile: a queue is one consumer's, which does one
	// thing at a time.
	c, err := t.rt.cfg.Broker.Consume(ctx, q)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.intake == nil {
		t.intake = map[Queue]*intake{}
	}
	in = &intake{c: c, done: make(chan struct{})}
	t.intake[q] = in
	if n := t.rt.byName[q.Subscriber]; n != nil && !t.rt.cfg.Stepped {
		go n.consumers[q.K%len(n.consumers)].actor.wakeOn(c.Arrived(), in.done)
	}
	return in, nil
}

// release gives queues to other processes.
func (t *brokerTransport) release(which func(Queue) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for q, in := range t.intake {
		if which(q) {
			in.close()
			delete(t.intake, q)
		}
	}
}

// intake is what has arrived of a queue and is not acknowledged. A lane's feeds
// use it in one goroutine; close may be called from another.
type intake struct {
	c    Consumption
	done chan struct{} // ends what wakes the lane

	mu    sync.Mutex // guards what follows
	list  []arrived  // in the order of their tags
	feeds []*brokerFeed
}

// arrived is a delivery until it is acknowledged.
type arrived struct {
	Delivery
	over bool // processed, or nothing to process
}

const (
	// intakeMost is how much an intake holds.
	intakeMost = 4 << 10
	// intakeUnclaimed is how much of it may be for feeds that are not there: of
	// a lane epoch that has not begun, or a log that is not followed now. It is
	// less than any broker hands out before it wants something acknowledged, or
	// these messages would keep those behind them away for ever, and what has to
	// come first may be among those.
	intakeUnclaimed = 256
)

func (in *intake) open(f *brokerFeed) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.feeds = append(in.feeds, f)
}

// claimed reports whether a feed is there that will take the message, or see
// that it is over.
func (in *intake) claimed(d *Delivery) bool {
	return d.Err != nil || slices.ContainsFunc(in.feeds, func(f *brokerFeed) bool {
		return f.lane.Log == d.Log && f.lane.Epoch >= d.Link.Epoch
	})
}

// drop gives up what nobody claims if it has become too much. The feed that it
// is for misses it and asks for it again.
func (in *intake) drop() {
	var unclaimed []int
	for i := range in.list {
		if d := &in.list[i]; !d.over && !in.claimed(&d.Delivery) {
			unclaimed = append(unclaimed, i)
		}
	}
	if len(unclaimed) < intakeUnclaimed {
		return
	}
	for _, i := range unclaimed {
		in.list[i].over = true
	}
}

// fill takes what is there, up to about max of a log and lane epoch that are
// not over.
func (in *intake) fill(ctx context.Context, max int) error {
	in.mu.Lock()
	room := min(max, intakeMost-len(in.list))
	in.mu.Unlock()
	if room <= 0 {
		return nil
	}
	list, err := in.c.Take(ctx, room)
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, d := range list {
		in.list = append(in.list, arrived{Delivery: d})
	}
	if len(list) > 0 {
		in.drop()
	}
	return nil
}

// settle acknowledges what is over at the front.
func (in *intake) settle(ctx context.Context) error {
	in.mu.Lock()
	var tag uint64
	n := 0
	for n < len(in.list) && in.list[n].over {
		tag = in.list[n].Tag
		n++
	}
	clear(in.list[:n])
	in.list = in.list[n:]
	if len(in.list) == 0 {
		in.list = nil
	}
	in.mu.Unlock()
	if n == 0 {
		return nil
	}
	return in.c.Ack(ctx, tag)
}

func (in *intake) close() {
	close(in.done)
	in.c.Close()
}

// brokerFeed is the feed of one lane and one log.
type brokerFeed struct {
	t     *brokerTransport
	in    *intake
	lane  Lane
	epoch LaneEpoch

	at       Cursor    // everything up to here was fetched
	recorded Cursor    // and up to here is recorded
	told     Cursor    // that the relay was told of
	asked    time.Time // when it was told last
	heard    time.Time // when something new came
	silence  time.Duration
}

const (
	// After feedSilence a lane that hears nothing asks whether it has missed
	// something, and then ever less often. Links tell of a loss at the next
	// message; this is for the last message of a log that is quiet.
	feedSilence, feedSilenceMost = 2 * time.Second, 5 * time.Minute
	// feedAskAgain is how long it gives the relay to send again what was lost.
	feedAskAgain = time.Second
	// feedReport is how often a lane tells the relay what it has recorded: the
	// source log keeps what comes after.
	feedReport = 30 * time.Second
)

// Fetch implements [Feed].
func (f *brokerFeed) Fetch(ctx context.Context, max int) ([]Event, Cursor, error) {
	if err := f.in.fill(ctx, max); err != nil {
		return nil, f.at, err
	}
	from := f.at
	events, missed, err := f.sort(max)
	if err != nil {
		return nil, f.at, err
	}
	if err := f.in.settle(ctx); err != nil {
		return nil, f.at, err
	}
	now := f.t.rt.now()
	if f.at != from {
		f.heard, f.silence = now, feedSilence
	}
	switch wait := now.Sub(f.asked); {
	case missed && wait >= feedAskAgain:
		f.t.rt.log.Warn("messages are missing; asking for them again", "service", f.lane.Subscriber, "log", f.lane.Log, "lane", f.lane.K, "after", f.at.String())
		err = f.ask(ctx, true)
	case wait >= f.silence && now.Sub(f.heard) >= f.silence:
		f.silence = min(2*f.silence, feedSilenceMost)
		err = f.askSilent(ctx)
	case wait >= feedReport && f.recorded != f.told:
		err = f.ask(ctx, false)
	}
	return events, f.at, err
}

// sort goes through what has arrived for the lane. missed says that something
// did not, although what came after it did.
func (f *brokerFeed) sort(max int) (events []Event, missed bool, err error) {
	f.in.mu.Lock()
	defer f.in.mu.Unlock()
	for i := range f.in.list {
		d := &f.in.list[i]
		switch {
		case d.over:
		case d.Err != nil:
			// Nobody can read it, now or later. What it was is sent again when
			// the next message does not fit.
			f.t.rt.log.Error("a message cannot be read", "service", f.lane.Subscriber, "lane", f.lane.K, "error", d.Err)
			d.over = true
		case d.Log != f.lane.Log || d.Link.Epoch > f.lane.Epoch:
			// another log's, or for the next feed
		case d.Link.Epoch < f.lane.Epoch:
			d.over = true
		case !f.at.Before(d.At):
			// Known. An event may be in a unit that is under way; it stays until
			// that is recorded.
			d.over = d.Event == nil || !f.recorded.Before(d.At)
		case f.at.Before(d.Link.Before):
			missed, d.over = true, true // it is sent again, behind what is missing
		case f.at.Tick == d.Link.Before.Tick && f.at.Tick > 0 && f.at.Hash != d.Link.Before.Hash:
			return nil, false, &LogBrokenError{Log: f.lane.Log, Cursor: f.at, Reason: "the relay sends from another history of the log"}
		case len(events) == max:
			return events, missed, nil
		default:
			f.at = d.At
			if d.over = d.Event == nil; !d.over {
				events = append(events, *d.Event)
			}
		}
	}
	return events, missed, nil
}

// ask tells the relay of the log that the lane is there, what it has recorded,
// and with again, to send everything behind what was fetched.
func (f *brokerFeed) ask(ctx context.Context, again bool) error {
	f.asked, f.told = f.t.rt.now(), f.recorded
	q := RelayRequest{Epoch: f.epoch, K: f.lane.K, After: f.recorded, Again: again}
	if again {
		q.After = f.at
	}
	return f.t.rt.cfg.Broker.Ask(ctx, f.lane.Log, q)
}

// askSilent finds out why nothing comes. Most often there is nothing; or
// another process has the queue, which its records show.
func (f *brokerFeed) askSilent(ctx context.Context) error {
	n := f.t.rt.byName[f.lane.Subscriber]
	if n == nil {
		return f.ask(ctx, true)
	}
	p, err := n.store.Progress(ctx, f.lane)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	case f.recorded.Before(p.Cursor):
		return ErrFenced // read the place again
	}
	return f.ask(ctx, true)
}

// Ack implements [Feed].
func (f *brokerFeed) Ack(ctx context.Context, upTo Cursor) error {
	f.recorded = upTo
	f.in.mu.Lock()
	for i := range f.in.list {
		d := &f.in.list[i]
		if d.Err == nil && d.Log == f.lane.Log && d.Link.Epoch == f.lane.Epoch && !upTo.Before(d.At) {
			d.over = true
		}
	}
	f.in.mu.Unlock()
	return f.in.settle(ctx)
}

// Close implements [Feed]. What was not acknowledged stays in the intake.
func (f *brokerFeed) Close() {
	f.in.mu.Lock()
	defer f.in.mu.Unlock()
	f.in.feeds = slices.DeleteFunc(f.in.feeds, func(other *brokerFeed) bool { return other == f })
}
