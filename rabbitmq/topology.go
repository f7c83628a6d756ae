package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/courante-dev/courante"
	amqp "github.com/rabbitmq/amqp091-go"
)

// topologyVersion is part of each queue's name. The arguments of a queue never
// change; other ones need another number, and queues beside the old ones.
const topologyVersion = "1"

const (
	// deliveryLimit is how often RabbitMQ delivers a message before it puts it
	// aside. The runtime parks what cannot be handled long before; a restart
	// counts for everything that a consumer held, so it has to be high.
	deliveryLimit = 100
	// deadMost is how many dead letters are kept, deadBytes their size: they are
	// evidence for people, what they hold is in the log.
	deadMost, deadBytes = 10_000, 100 << 20
	// requestsMost bounds what waits for a log that nobody relays. Whoever asked
	// asks again.
	requestsMost = 10_000
)

// names are those of all queues and exchanges of a system. They have no dots,
// so that as routing keys they are one word and match no pattern of types but
// "#" and "*".
type names struct{ prefix string }

// events is the topic exchange that all events are published to.
func (n names) events() string { return n.prefix }

// dead takes what a lane's queue puts aside.
func (n names) dead() string { return n.prefix + "/" + topologyVersion + "/dead" }

func (n names) queue(q courante.Queue) string {
	return n.prefix + "/" + topologyVersion + "/lane/" + url.QueryEscape(q.Subscriber) + "/" + strconv.Itoa(q.K) + "of" + strconv.Itoa(q.Lanes)
}

func (n names) requests(log string) string {
	return n.prefix + "/" + topologyVersion + "/requests/" + url.QueryEscape(log)
}

func (n names) declareExchanges(ch *amqp.Channel) error {
	if err := ch.ExchangeDeclare(n.events(), amqp.ExchangeTopic, true, false, false, false, nil); err != nil {
		return fmt.Errorf("declare exchange %s: %w", n.events(), err)
	}
	if err := ch.ExchangeDeclare(n.dead(), amqp.ExchangeFanout, true, false, false, false, nil); err != nil {
		return fmt.Errorf("declare exchange %s: %w", n.dead(), err)
	}
	return n.declare(ch, n.dead(), n.dead(), amqp.Table{"x-max-length": int64(deadMost), "x-max-length-bytes": int64(deadBytes)})
}

func (n names) declareLane(ch *amqp.Channel, q courante.Queue) error {
	return n.declare(ch, n.queue(q), n.events(), amqp.Table{
		"x-single-active-consumer": true,
		"x-delivery-limit":         int64(deliveryLimit),
		"x-dead-letter-exchange":   n.dead(),
		// A dead letter leaves the queue when the dead have it. RabbitMQ wants
		// reject-publish for that, although the queue has no limit to reject at.
		"x-dead-letter-strategy": "at-least-once",
		"x-overflow":             amqp.QueueOverflowRejectPublish,
	})
}

func (n names) declareRequests(ch *amqp.Channel, log string) error {
	return n.declare(ch, n.requests(log), "", amqp.Table{"x-single-active-consumer": true, "x-max-length": int64(requestsMost)})
}

// declare makes a quorum queue that is bound to the exchange by its name.
func (n names) declare(ch *amqp.Channel, name, exchange string, args amqp.Table) error {
	if len(name) > shortMost {
		return fmt.Errorf("queue %s: the name has %d bytes, the limit is %d: %w", name, len(name), shortMost, courante.ErrTooLarge)
	}
	args[amqp.QueueTypeArg] = amqp.QueueTypeQuorum
	if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		return fmt.Errorf("declare queue %s: %w", name, err)
	}
	if exchange == "" {
		return nil
	}
	if err := ch.QueueBind(name, name, exchange, false, nil); err != nil {
		return fmt.Errorf("bind queue %s: %w", name, err)
	}
	return nil
}

// Declare implements [courante.Broker].
func (b *Broker) Declare(ctx context.Context, queues ...courante.Queue) error {
	return b.withChannel(ctx, func(ch *amqp.Channel) error {
		if err := b.names.declareExchanges(ch); err != nil {
			return err
		}
		for _, q := range queues {
			if err := b.names.declareLane(ch, q); err != nil {
				return err
			}
		}
		return nil
	})
}

// QueueState is what RabbitMQ says about a queue.
type QueueState struct {
	Queue     courante.Queue
	Name      string // in RabbitMQ
	There     bool
	Ready     int // messages that no consumer has yet
	Consumers int // of all processes, of which one is active
}

// Topology says how the queues are. AMQP cannot list what there is, so the
// caller has to know what to ask for: the lane epochs of its subscribers tell.
func (b *Broker) Topology(ctx context.Context, queues ...courante.Queue) ([]QueueState, error) {
	states := make([]QueueState, len(queues))
	for i, q := range queues {
		s, err := b.lookAt(ctx, b.names.queue(q))
		if err != nil {
			return nil, err
		}
		s.Queue = q
		states[i] = s
	}
	return states, nil
}

// lookAt says how a queue is, by its name in RabbitMQ.
func (b *Broker) lookAt(ctx context.Context, name string) (QueueState, error) {
	s := QueueState{Name: name}
	err := b.withChannel(ctx, func(ch *amqp.Channel) error { // a queue that is not there costs the channel
		state, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
		s.There, s.Ready, s.Consumers = err == nil, state.Messages, state.Consumers
		return err
	})
	var e *amqp.Error
	if err != nil && !(errors.As(err, &e) && e.Code == amqp.NotFound) {
		return s, fmt.Errorf("look at queue %s: %w", name, err)
	}
	return s, nil
}

// Depth implements [courante.Broker].
func (b *Broker) Depth(ctx context.Context, q courante.Queue) (int, error) {
	states, err := b.Topology(ctx, q)
	if err != nil {
		return 0, err
	}
	depth := states[0].Ready
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subscriptions {
		if s.queue == states[0].Name {
			depth += s.unsettled()
		}
	}
	return depth, nil
}

// Discard implements [courante.Broker]. RabbitMQ cannot look and delete at once;
// a consumer that comes between makes the queue again, empty.
func (b *Broker) Discard(ctx context.Context, q courante.Queue) (gone bool, err error) {
	states, err := b.Topology(ctx, q)
	if err != nil {
		return false, err
	}
	if s := states[0]; !s.There || s.Consumers > 0 {
		return !s.There, nil
	}
	err = b.Delete(ctx, q)
	return err == nil, err
}

// Delete removes queues with what they hold. A consumer that is still
// there makes its queue again, empty.
func (b *Broker) Delete(ctx context.Context, queues ...courante.Queue) error {
	return b.withChannel(ctx, func(ch *amqp.Channel) error {
		for _, q := range queues {
			if _, err := ch.QueueDelete(b.names.queue(q), false, false, false); err != nil {
				return fmt.Errorf("delete queue %s: %w", b.names.queue(q), err)
			}
		}
		return nil
	})
}
