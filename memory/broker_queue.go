package memory

import (
	"context"
	"slices"

	"github.com/courante-dev/courante"
)

// queue keeps what was published until it is acknowledged. The broker's mutex
// guards it and its consumers.
type queue[T any] struct {
	ready     []queued[T]    // that nobody holds
	consumers []*consumer[T] // the first one is served
}

type queued[T any] struct {
	value T
	tag   uint64 // by which it is acknowledged
	again bool
}

func (q *queue[T]) add(value T) {
	q.ready = append(q.ready, queued[T]{value: value})
	q.signal()
}

// signal tells the consumer that is served to look.
func (q *queue[T]) signal() {
	if len(q.consumers) == 0 || len(q.ready) == 0 {
		return
	}
	select {
	case q.consumers[0].arrived <- struct{}{}:
	default:
	}
}

// consumer waits in the line of a queue's consumers.
type consumer[T any] struct {
	conn    *BrokerConn
	q       *queue[T]
	arrived chan struct{}
	held    []queued[T] // taken and not acknowledged
	tag     uint64      // last one given out
}

// newConsumer stands in line. The broker's mutex is held.
func newConsumer[T any](conn *BrokerConn, q *queue[T]) *consumer[T] {
	c := &consumer[T]{conn: conn, q: q, arrived: make(chan struct{}, 1)}
	q.consumers = append(q.consumers, c)
	conn.consumers = append(conn.consumers, c)
	q.signal()
	return c
}

func (c *consumer[T]) Arrived() <-chan struct{} { return c.arrived }

// take moves up to most messages to the consumer's hands.
func (c *consumer[T]) take(ctx context.Context, most int) ([]queued[T], error) {
	if err := c.conn.enter(ctx, PointBrokerTake); err != nil {
		return nil, err
	}
	defer c.conn.b.mu.Unlock()
	if !slices.Contains(c.q.consumers, c) {
		return nil, courante.ErrClosed
	}
	if c.q.consumers[0] != c {
		return nil, nil
	}
	n := max(0, min(most, len(c.q.ready), c.conn.b.config.Prefetch-len(c.held)))
	taken := slices.Clone(c.q.ready[:n])
	for i := range taken {
		c.tag++
		taken[i].tag = c.tag
	}
	c.q.ready = c.q.ready[n:]
	c.held = append(c.held, taken...)
	c.q.signal()
	return taken, nil
}

// ack forgets what is held up to the tag.
func (c *consumer[T]) ack(ctx context.Context, upTo uint64) error {
	if err := c.conn.enter(ctx, PointBrokerAck); err != nil {
		return courante.Transient(err)
	}
	defer c.conn.b.mu.Unlock()
	c.held = slices.DeleteFunc(c.held, func(m queued[T]) bool { return m.tag <= upTo })
	c.q.signal()
	return nil
}

// leave gives back what is held and the place in line.
func (c *consumer[T]) leave() {
	for i := range c.held {
		c.held[i].again = true
	}
	c.q.ready, c.held = append(c.held, c.q.ready...), nil
	c.q.consumers = slices.DeleteFunc(c.q.consumers, func(other *consumer[T]) bool { return other == c })
	c.q.signal()
}

func (c *consumer[T]) cut() {
	c.leave()
	c.q.consumers = append(c.q.consumers, c)
	c.q.signal()
}

func (c *consumer[T]) end() {
	c.leave()
	c.conn.consumers = slices.DeleteFunc(c.conn.consumers, func(other brokerConsumer) bool { return other == c })
}

// Close gives back what was not acknowledged.
func (c *consumer[T]) Close() {
	c.conn.b.mu.Lock()
	defer c.conn.b.mu.Unlock()
	c.end()
}

type consumption struct{ *consumer[courante.Delivery] }

func (c consumption) Take(ctx context.Context, most int) ([]courante.Delivery, error) {
	taken, err := c.take(ctx, most)
	list := make([]courante.Delivery, len(taken))
	for i := range taken {
		list[i] = taken[i].value
		list[i].Tag, list[i].Again = taken[i].tag, taken[i].again
	}
	return list, err
}

func (c consumption) Ack(ctx context.Context, upTo uint64) error { return c.ack(ctx, upTo) }

type requests struct {
	*consumer[courante.RelayRequest]
}

// Take acknowledges what it returns: who asked asks again.
func (r requests) Take(ctx context.Context, most int) ([]courante.RelayRequest, error) {
	taken, err := r.take(ctx, most)
	if len(taken) == 0 {
		return nil, err
	}
	var list []courante.RelayRequest
	for i := range taken {
		list = append(list, taken[i].value)
	}
	return list, r.ack(ctx, taken[len(taken)-1].tag)
}
