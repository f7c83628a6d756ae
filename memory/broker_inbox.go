package memory

import (
	"context"
	"slices"

	"github.com/courante-dev/courante"
)

// Send is what a program outside does: the event goes to every service that
// takes its type. It reports whether there was one.
func (b *Broker) Send(e courante.CloudEvent) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	sent := false
	for _, box := range b.inboxes {
		if slices.Contains(box.types, e.Type) {
			box.add(e)
			sent = true
		}
	}
	return sent
}

// Refused is a CloudEvent that was put aside.
type Refused struct {
	courante.CloudEvent
	Reason string
}

// Refused returns what was put aside, oldest first.
func (b *Broker) Refused() []Refused {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.refused)
}

// inboxQueue is where a service's CloudEvents wait.
type inboxQueue struct {
	queue[courante.CloudEvent]
	types []string
}

// Receive implements [courante.Broker].
func (c *BrokerConn) Receive(ctx context.Context, service string, types []string) (courante.Inbox, error) {
	if err := c.enter(ctx, PointBrokerConsume); err != nil {
		return nil, err
	}
	defer c.b.mu.Unlock()
	box := c.b.inboxes[service]
	if box == nil {
		box = &inboxQueue{}
		c.b.inboxes[service] = box
	}
	box.types = types
	return inbox{newConsumer(c, &box.queue)}, nil
}

type inbox struct {
	*consumer[courante.CloudEvent]
}

func (in inbox) Take(ctx context.Context, most int) ([]courante.Arrival, error) {
	taken, err := in.take(ctx, most)
	list := make([]courante.Arrival, len(taken))
	for i := range taken {
		list[i] = courante.Arrival{CloudEvent: taken[i].value, Tag: taken[i].tag}
	}
	return list, err
}

func (in inbox) Refuse(ctx context.Context, tag uint64, reason string) error {
	if err := in.conn.enter(ctx, PointBrokerRefuse); err != nil {
		return courante.Transient(err)
	}
	defer in.conn.b.mu.Unlock()
	for _, m := range in.held {
		if m.tag == tag {
			in.conn.b.refused = append(in.conn.b.refused, Refused{m.value, reason})
		}
	}
	return nil
}

func (in inbox) Ack(ctx context.Context, upTo uint64) error { return in.ack(ctx, upTo) }
