package courantetest

import (
	"context"
	"fmt"
	"slices"

	"github.com/courante-dev/courante"
)

// tracedBroker is a service's access to the broker, as the simulation watches
// it: a relay goes on only behind what has arrived.
type tracedBroker struct {
	courante.Broker
	w *world
}

func (b *tracedBroker) Publish(ctx context.Context, messages []courante.Message) error {
	l := b.w.ledger
	if err := l.publishing(messages); err != nil {
		b.w.fail("%w", err)
	}
	err := b.Broker.Publish(ctx, messages)
	for i := range messages {
		if m := &messages[i]; m.Event != nil {
			for _, link := range m.Links {
				l.published(linked{m.Event.Log, link.Queue, link.Epoch}, m.At, err == nil)
			}
		}
	}
	return err
}

func (b *tracedBroker) Consume(ctx context.Context, q courante.Queue) (courante.Consumption, error) {
	c, err := b.Broker.Consume(ctx, q)
	if err != nil {
		return nil, err
	}
	return &tracedConsumption{c, b.w.ledger}, nil
}

type tracedConsumption struct {
	courante.Consumption
	l *ledger
}

func (c *tracedConsumption) Take(ctx context.Context, max int) ([]courante.Delivery, error) {
	list, err := c.Consumption.Take(ctx, max)
	for i := range list {
		if d := &list[i]; d.Event != nil {
			c.l.published(linked{d.Log, d.Link.Queue, d.Link.Epoch}, d.At, true)
		}
	}
	return list, err
}

// linked is the lane of a log that links tie together.
type linked struct {
	log   string
	queue courante.Queue
	epoch int
}

// sending is what was published to a lane, by place.
type sending struct {
	arrived  map[courante.Cursor]bool
	doubtful []courante.Cursor // whoever published it was told that it failed, and nobody has had it since
}

// published takes note of an event that was sent to a lane, and whether it is
// certain to have arrived there.
func (l *ledger) published(to linked, at courante.Cursor, arrived bool) {
	s := l.sent[to]
	if s == nil {
		s = &sending{arrived: map[courante.Cursor]bool{}}
		l.sent[to] = s
	}
	switch {
	case s.arrived[at]:
	case arrived:
		s.arrived[at] = true
		s.doubtful = slices.DeleteFunc(s.doubtful, func(c courante.Cursor) bool { return c == at })
	case !slices.Contains(s.doubtful, at):
		s.doubtful = append(s.doubtful, at)
	}
}

// publishing says what is wrong with messages that are about to be published:
// none may tell a lane that something was sent to it before if that failed,
// unless it comes in front of it now. The links would show what is missing, and
// it would be asked for, so nothing else need ever tell of such a mistake.
func (l *ledger) publishing(messages []courante.Message) error {
	type place struct {
		linked
		at courante.Cursor
	}
	again := map[place]bool{}
	for i := range messages {
		m := &messages[i]
		log := m.Log
		if m.Event != nil {
			log = m.Event.Log
		}
		for _, link := range m.Links {
			to, upTo := linked{log, link.Queue, link.Epoch}, link.Before
			if m.Event == nil {
				upTo = m.At
			}
			if s := l.sent[to]; s != nil {
				for _, at := range s.doubtful {
					if !upTo.Before(at) && !again[place{to, at}] {
						return fmt.Errorf("%s: lane %d of %s is told of everything up to %s, and sending %s failed", log, link.K, link.Subscriber, upTo, at)
					}
				}
			}
			again[place{to, m.At}] = true
		}
	}
	return nil
}

// verifyQueues holds the broker to having no queues that nobody needs: all lanes
// of the last process have those of its own number.
func (w *world) verifyQueues() {
	if w.broker == nil {
		return
	}
	for _, q := range w.broker.Queues() {
		if q.Lanes != w.lanes {
			w.fail("the queue of lane %d of %d of %s is left, and there are %d lanes", q.K, q.Lanes, q.Subscriber, w.lanes)
			return
		}
	}
}
