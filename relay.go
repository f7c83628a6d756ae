package courante

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// relay sends the events of one log to the lanes of subscribers over a broker.
//
// To the log it is a subscriber like any other: it has a lane, whose progress
// rows say how far it has sent and to whom. A row tells only of what the broker
// has confirmed, so a crash repeats messages and leaves none out. Who else
// relays the log at the same time is fenced off at its row, and what both have
// sent comes twice; the links of the messages tell.
//
// It knows nothing of who subscribes but what it was asked; see [RelayRequest].
// Each subscription has a place of its own. Those at the same place are served
// together, with one message for all of them; one that is further behind,
// because it is new or has missed something, is served beside them until it has
// come as far.
type relay struct {
	rt    *Runtime
	store Store
	tail  *tail
	actor *Actor

	opened   bool
	checked  bool // the store has compared our places with the log
	requests Requests
	heard    chan struct{}   // ends what wakes us for requests
	subs     []*subscription // sorted by subscriber
	marked   time.Time       // when lanes were last told that there is nothing for them

	progress Progress  // as recorded
	recorded time.Time // when
	ahead    bool      // of what is recorded

	standby time.Time // not before, because somebody else relays the log
	seen    int64     // number of that one's record when we last looked
}

// subscription is what the relay knows of a subscriber to its log. It is kept
// in the relay's progress.
type subscription struct {
	Subscriber string      `json:"subscriber"`
	Epochs     []LaneEpoch `json:"epochs"` // the current one and those that follow
	At         Cursor      `json:"at"`     // everything up to here was sent
	Last       []Cursor    `json:"last"`   // by lane: the place of its last event
	Done       []Cursor    `json:"done"`   // by lane: what it will not ask for again, as it said
	told       []Cursor    // by lane: how far it knows that the log was sent

	sent   int       // messages since its queues were looked at
	looked time.Time // when they were
	long   bool      // one of them was too long then; see look
}

const (
	// relayRead is how many events one step sends at most, of each place. The
	// broker confirms them together, so more would save little and repeat much
	// after a failure.
	relayRead = 2 << 10
	// markEvery is how often a lane is told at most that there is nothing for
	// it. Who waits for a command to be processed waits so much longer if the
	// command has nothing to do with the lane.
	markEvery = 20 * time.Millisecond
	// relayRecord is how often a record is written at most. What was sent since
	// the last one is sent again after a crash, which costs less than a commit
	// for each tick.
	relayRecord = 100 * time.Millisecond
	// relayStandby is how long a relay leaves the log to another one that was
	// faster, before it tries again.
	relayStandby = 3 * time.Second
)

func newRelay(rt *Runtime, s Store) *relay {
	return &relay{rt: rt, store: s, tail: rt.tails[s.Log()]}
}

func (r *relay) lane() Lane {
	return Lane{Subscriber: r.store.Log() + "/relay", Log: r.store.Log(), Epoch: 1}
}

func (r *relay) step(ctx context.Context) (bool, error) {
	if r.rt.now().Before(r.standby) {
		return false, nil
	}
	worked, err := r.try(ctx)
	if errors.Is(err, ErrFenced) {
		r.rt.log.Info("another process relays the log; standing by", "log", r.store.Log())
		r.close()
		r.seen = r.progress.N
		r.standby = r.rt.now().Add(relayStandby)
		return false, nil
	}
	if err != nil {
		r.close()
	}
	return worked, err
}

// next is when there is something to do without a wake-up.
func (r *relay) next() time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	switch {
	case r.rt.now().Before(r.standby):
		return r.standby
	case r.ahead:
		sooner(r.recorded.Add(relayRecord))
	case r.opened && r.unwanted():
		sooner(r.recorded.Add(sharedRecordAfter))
	}
	for _, s := range r.subs {
		switch {
		case s.long:
			sooner(s.looked.Add(queueWait))
		case s.silent():
			sooner(r.marked.Add(markEvery))
		}
	}
	return at
}

// unwanted reports whether the log has grown and nobody wants anything of it.
func (r *relay) unwanted() bool {
	return len(r.subs) == 0 && r.progress.Cursor.Before(r.tail.end())
}

// close forgets everything; the next step reads it again.
func (r *relay) close() {
	if r.requests != nil {
		close(r.heard)
		r.requests.Close()
	}
	r.opened, r.checked, r.requests, r.subs, r.ahead = false, false, nil, nil, false
}

// open reads the relay's place. It is false while another process has the log
// in hand.
func (r *relay) open(ctx context.Context) (bool, error) {
	p, err := firstPlace(ctx, r.store, r.lane(), 1)
	if err != nil {
		return false, err
	}
	if !r.standby.IsZero() && p.N != r.seen {
		r.seen, r.standby = p.N, r.rt.now().Add(relayStandby)
		return false, nil
	}
	var subs []*subscription
	if len(p.Note) > 0 {
		if err := json.Unmarshal(p.Note, &subs); err != nil {
			return false, fmt.Errorf("relay of %s: decode record %d: %w", r.store.Log(), p.N, err)
		}
	}
	for _, s := range subs {
		s.told, s.sent = slices.Clone(s.Last), queueLook
		// The broker may have been set up anew since.
		if err := r.rt.cfg.Broker.Declare(ctx, s.queues()...); err != nil {
			return false, err
		}
	}
	if r.requests, err = r.rt.cfg.Broker.Asked(ctx, r.store.Log()); err != nil {
		return false, err
	}
	r.heard = make(chan struct{})
	if !r.rt.cfg.Stepped {
		go r.actor.wakeOn(r.requests.Arrived(), r.heard)
	}
	r.progress, r.subs, r.opened, r.recorded, r.standby = p, subs, true, r.rt.now(), time.Time{}
	return true, nil
}

func (r *relay) try(ctx context.Context) (bool, error) {
	if !r.opened {
		if opened, err := r.open(ctx); !opened || err != nil {
			return false, err
		}
	}
	if err := r.answer(ctx); err != nil {
		return false, err
	}
	if err := r.look(ctx); err != nil {
		return false, err
	}
	messages, moved, err := r.collect(ctx)
	if err != nil {
		return false, err
	}
	if len(messages) > 0 {
		if err := r.rt.cfg.Broker.Publish(ctx, messages); err != nil {
			return false, fmt.Errorf("relay %s: %w", r.store.Log(), err)
		}
	}
	// Without subscribers nothing moves. No part of the log is to be kept for us
	// then, and nobody is to think that we are behind.
	passed := r.unwanted() && r.rt.now().Sub(r.recorded) >= sharedRecordAfter
	r.ahead = r.ahead || moved || passed
	if r.ahead && r.rt.now().Sub(r.recorded) >= relayRecord {
		if err := r.record(ctx); err != nil {
			return false, err
		}
	}
	return moved, nil
}

// record makes what was sent the place to go on from.
func (r *relay) record(ctx context.Context) error {
	if !r.opened || !r.ahead {
		return nil
	}
	note, err := json.Marshal(r.subs)
	if err != nil {
		return err
	}
	p := Progress{Lane: r.lane(), N: r.progress.N + 1, Cursor: r.progress.Cursor, Note: note}
	if end := r.tail.end(); len(r.subs) == 0 && p.Cursor.Before(end) {
		p.Cursor = end
	}
	first := true
	for _, s := range r.subs {
		for _, done := range s.Done {
			if first || done.Before(p.Cursor) {
				p.Cursor, first = done, false // nobody asks for what is before the hindmost
			}
		}
	}
	if err := commit(ctx, r.store, Changes{Progress: []Progress{p}}); err != nil {
		return err
	}
	r.progress, r.ahead, r.recorded = p, false, r.rt.now()
	return nil
}

// answer takes up what subscribers asked for.
func (r *relay) answer(ctx context.Context) error {
	list, err := r.requests.Take(ctx, 100)
	if err != nil {
		return err
	}
	for i := range list {
		q := &list[i]
		if q.Epoch.Log != r.store.Log() || q.Epoch.Lanes == 0 && !q.Epoch.Retired {
			continue // it is not for us, or no lane of ours has made it
		}
		at, found := slices.BinarySearchFunc(r.subs, q.Epoch.Subscriber, func(s *subscription, name string) int {
			return strings.Compare(s.Subscriber, name)
		})
		if q.Epoch.Retired {
			// Even of what it is behind with it wants nothing any more.
			if found && q.Epoch.N > r.subs[at].Epochs[len(r.subs[at].Epochs)-1].N {
				r.rt.log.Info("a subscriber was retired; nothing is sent to it any more", "log", r.store.Log(), "subscriber", q.Epoch.Subscriber)
				r.subs, r.ahead = slices.Delete(r.subs, at, at+1), true
			}
			continue
		}
		// Queues are there since the relay opened, or were lost with what they held:
		// somebody misses that and asks again.
		declare := !found || q.Again || q.Epoch.N > r.subs[at].Epochs[len(r.subs[at].Epochs)-1].N
		if !found {
			s := &subscription{Subscriber: q.Epoch.Subscriber, Epochs: []LaneEpoch{q.Epoch}, At: q.Epoch.From}
			s.begin()
			r.subs = slices.Insert(r.subs, at, s)
			r.ahead = true
		}
		if r.subs[at].learn(q) {
			r.ahead = true
		}
		if declare {
			if err := r.rt.cfg.Broker.Declare(ctx, r.subs[at].queues()...); err != nil {
				return err
			}
		}
	}
	return nil
}

// learn takes in a request, and reports whether that changed anything.
func (s *subscription) learn(q *RelayRequest) (changed bool) {
	if last := &s.Epochs[len(s.Epochs)-1]; q.Epoch.N > last.N {
		s.Epochs = append(s.Epochs, q.Epoch)
		if q.Epoch.From.Before(s.At) {
			// What lies between was sent to the lanes before, which did not take
			// it: their epoch ends there.
			s.At = q.Epoch.From
		}
		changed = true
	}
	if q.Epoch.N < s.Epochs[0].N && q.Again && q.After.Before(s.Epochs[0].From) {
		// A lane of an epoch that was sent to its end has missed some of it.
		s.Epochs = slices.Insert(slices.Clone(s.Epochs), 0, q.Epoch)
		s.At = q.After
		s.begin()
		return true
	}
	if q.Epoch.N != s.Epochs[0].N || q.K >= len(s.Last) || q.After.Before(s.Epochs[0].From) {
		return changed
	}
	if s.Done[q.K].Before(q.After) {
		s.Done[q.K], changed = q.After, true
	}
	if q.After.Before(s.told[q.K]) {
		// What it was told it may not have heard: it has another owner, or lost
		// a queue. Nobody else would notice, because only events have links to
		// what comes before them.
		s.told[q.K] = q.After
	}
	if q.Again && q.After.Before(s.Last[q.K]) {
		// The others get what they have a second time.
		if q.After.Before(s.At) {
			s.At = q.After
		}
		for k := range s.Last {
			if s.At.Before(s.Last[k]) {
				s.Last[k] = s.At
			}
			s.told[k] = s.Last[k]
		}
		changed = true
	}
	return changed
}

// begin makes the lanes of the first epoch, which has come to At.
func (s *subscription) begin() {
	s.Last = make([]Cursor, s.Epochs[0].Lanes)
	for k := range s.Last {
		s.Last[k] = s.At
	}
	s.Done, s.told = slices.Clone(s.Last), slices.Clone(s.Last)
}

func (s *subscription) queue(k int) Queue {
	return Queue{Subscriber: s.Subscriber, Lanes: s.Epochs[0].Lanes, K: k}
}

// queues are those of all its epochs.
func (s *subscription) queues() (list []Queue) {
	for _, e := range s.Epochs {
		for k := range e.Lanes {
			list = append(list, Queue{Subscriber: s.Subscriber, Lanes: e.Lanes, K: k})
		}
	}
	return list
}

// silent reports whether a lane has not heard of everything that was sent.
func (s *subscription) silent() bool {
	return slices.ContainsFunc(s.told, func(c Cursor) bool { return c.Before(s.At) })
}

// collect makes the messages of one step, and moves the subscriptions behind
// them.
func (r *relay) collect(ctx context.Context) (messages []Message, moved bool, err error) {
	var places []Cursor
	for _, s := range r.subs {
		if !s.long && !slices.Contains(places, s.At) {
			places = append(places, s.At)
		}
	}
	slices.SortFunc(places, func(a, b Cursor) int {
		switch {
		case a.Before(b):
			return -1
		case b.Before(a):
			return 1
		}
		return 0
	})
	now := r.rt.now()
	marking := now.Sub(r.marked) >= markEvery
	for i, at := range places {
		var group []*subscription
		for _, s := range r.subs {
			if s.At == at && !s.long {
				group = append(group, s)
			}
		}
		events, to, err := r.read(ctx, at)
		if err != nil {
			return nil, false, err
		}
		// Up to those in front, and not past them, so that they become one.
		if i+1 < len(places) && places[i+1].Before(to) {
			to = places[i+1]
			for len(events) > 0 && !to.Covers(&events[len(events)-1]) {
				events = events[:len(events)-1]
			}
		}
		moved = moved || to != at
		for j := range events {
			if m := message(group, &events[j]); len(m.Links) > 0 {
				messages = append(messages, m)
			}
		}
		for _, s := range group {
			messages = append(messages, s.reach(to)...)
		}
		if marking {
			if m := mark(group, to); len(m.Links) > 0 {
				messages, r.marked = append(messages, m), now
			}
		}
	}
	r.checked = true
	return messages, moved || len(messages) > 0, nil
}

// read returns what comes after the place. The first read goes to the store,
// because only the store compares the cursor's hash with the log.
func (r *relay) read(ctx context.Context, at Cursor) ([]Event, Cursor, error) {
	if !r.checked {
		return r.store.ReadLog(ctx, at, relayRead)
	}
	return r.tail.read(ctx, at, relayRead)
}

// message makes the message of an event for those of the group that want it.
func message(group []*subscription, e *Event) Message {
	m := Message{Event: e, At: e.Cursor()}
	for _, s := range group {
		epoch := &s.Epochs[0]
		if len(s.Epochs) > 1 && !s.Epochs[1].From.Covers(e) {
			continue // the next epoch's; see reach
		}
		if _, wants := slices.BinarySearch(epoch.Types, e.Type); !wants {
			continue
		}
		k := LaneOf(e.Key(), epoch.Lanes)
		m.Links = append(m.Links, Link{Queue: s.queue(k), Epoch: epoch.N, Before: s.Last[k]})
		s.Last[k], s.told[k] = m.At, m.At
		s.sent++
	}
	return m
}

// reach moves a subscription on. When it reaches the end of an epoch, it stops
// there, tells the epoch's lanes, and goes on with the next one.
func (s *subscription) reach(to Cursor) (messages []Message) {
	s.At = to
	for len(s.Epochs) > 1 && !to.Before(s.Epochs[1].From) {
		border := s.Epochs[1].From
		m := Message{Log: s.Epochs[0].Log, At: border}
		for k := range s.Last {
			before := s.Last[k]
			if border.Before(before) {
				before = border
			}
			m.Links = append(m.Links, Link{Queue: s.queue(k), Epoch: s.Epochs[0].N, Before: before})
		}
		messages = append(messages, m)
		s.Epochs = s.Epochs[1:]
		s.At = border
		s.begin()
	}
	return messages
}

// mark makes the message that tells lanes of the group how far the log was sent
// without anything for them.
func mark(group []*subscription, to Cursor) Message {
	m := Message{Log: group[0].Epochs[0].Log, At: to}
	for _, s := range group {
		if s.At != to {
			continue // it has just begun an epoch
		}
		for k := range s.Last {
			if s.told[k].Before(to) {
				m.Links = append(m.Links, Link{Queue: s.queue(k), Epoch: s.Epochs[0].N, Before: s.Last[k]})
				s.told[k] = to
			}
		}
	}
	return m
}
