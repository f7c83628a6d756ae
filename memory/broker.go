package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/courante-dev/courante"
)

// BrokerConfig configures a [Broker]. Its zero value is ready to use.
type BrokerConfig struct {
	// Pause is called at each of the PointBroker constants, never under a lock;
	// see [Config.Pause].
	Pause func(point string) error

	// Prefetch is how many messages a consumer may hold unacknowledged.
	// Default: 1000.
	Prefetch int
}

// Points at which [BrokerConfig.Pause] is called. An error at any but the last
// two means that the call did nothing.
const (
	PointBrokerDeclare   = "broker declare"
	PointBrokerConsume   = "broker consume" // before Consume, Asked and Receive
	PointBrokerDepth     = "broker depth"   // before Depth and Discard
	PointBrokerTake      = "broker take"
	PointBrokerAck       = "broker ack"
	PointBrokerRefuse    = "broker refuse"
	PointBrokerAsk       = "broker ask"
	PointBrokerPublish   = "broker publish before"
	PointBrokerMessage   = "broker publish message" // before each; an error loses this one, and those behind it arrive
	PointBrokerConfirmed = "broker publish after"   // all arrived; the caller gets the error all the same
)

// Broker carries messages in process, with the freedoms that a real broker
// takes: it loses what it has not confirmed, and delivers again what was not
// acknowledged when a process dies or its connection is cut. A process's access
// to it is a [BrokerConn].
type Broker struct {
	config BrokerConfig

	mu       sync.Mutex // guards everything below, in the queues as well
	lanes    map[courante.Queue]*queue[courante.Delivery]
	requests map[string]*queue[courante.RelayRequest]
	inboxes  map[string]*inboxQueue // by service
	refused  []Refused
}

// NewBroker returns a broker without queues.
func NewBroker(config BrokerConfig) *Broker {
	if config.Prefetch == 0 {
		config.Prefetch = 1000
	}
	return &Broker{
		config:   config,
		lanes:    make(map[courante.Queue]*queue[courante.Delivery]),
		requests: make(map[string]*queue[courante.RelayRequest]),
		inboxes:  make(map[string]*inboxQueue),
	}
}

// Connect returns access to the broker, as a process has that starts.
func (b *Broker) Connect() *BrokerConn { return &BrokerConn{b: b} }

// Crash does what the death of the process does that had this access: its
// consumers are gone, what they held comes to others, and every later call
// fails with courante.ErrClosed.
func (b *Broker) Crash(c *BrokerConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.crashed = true
	for _, consumer := range slices.Clone(c.consumers) {
		consumer.end()
	}
}

// Delete removes a queue with what it holds. Its consumers make it again,
// empty.
func (b *Broker) Delete(q courante.Queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	have := b.lanes[q]
	delete(b.lanes, q)
	if have == nil || len(have.consumers) == 0 {
		return
	}
	have.ready = nil
	for _, c := range have.consumers {
		c.held = nil
	}
	b.lanes[q] = have
}

// Queues are the lanes' queues that are there, sorted.
func (b *Broker) Queues() []courante.Queue {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Keys(b.lanes), func(a, b courante.Queue) int {
		return cmp.Or(cmp.Compare(a.Subscriber, b.Subscriber), cmp.Compare(a.Lanes, b.Lanes), cmp.Compare(a.K, b.K))
	})
}

func (b *Broker) pause(ctx context.Context, point string) error {
	if b.config.Pause != nil {
		if err := b.config.Pause(point); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// BrokerConn is a process's access to a [Broker]. Its methods may be called at
// once.
type BrokerConn struct {
	b         *Broker
	consumers []brokerConsumer
	crashed   bool
}

// brokerConsumer is a consumer of any kind of queue.
type brokerConsumer interface {
	cut()
	end()
}

var _ courante.Broker = (*BrokerConn)(nil)

// Name implements [courante.Broker].
func (*BrokerConn) Name() string { return "memory" }

// Cut breaks the connection, which is made again at once: another process may
// have its queues then, and what it holds comes again.
func (c *BrokerConn) Cut() {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	for _, consumer := range c.consumers {
		consumer.cut()
	}
}

// enter is what each call begins with; on success the caller unlocks b.mu.
func (c *BrokerConn) enter(ctx context.Context, point string) error {
	if err := c.b.pause(ctx, point); err != nil {
		return fmt.Errorf("%s: %w", point, err)
	}
	c.b.mu.Lock()
	if c.crashed {
		c.b.mu.Unlock()
		return errCrashed
	}
	return nil
}

// Declare implements [courante.Broker].
func (c *BrokerConn) Declare(ctx context.Context, queues ...courante.Queue) error {
	if err := c.enter(ctx, PointBrokerDeclare); err != nil {
		return err
	}
	defer c.b.mu.Unlock()
	for _, q := range queues {
		row(c.b.lanes, q)
	}
	return nil
}

// Publish implements [courante.Broker].
func (c *BrokerConn) Publish(ctx context.Context, messages []courante.Message) error {
	if err := c.b.pause(ctx, PointBrokerPublish); err != nil {
		return courante.Transient(fmt.Errorf("publish: %w", err))
	}
	var failed error
	for i := range messages {
		if err := c.enter(ctx, PointBrokerMessage); err != nil {
			failed = err
			continue
		}
		if !c.b.deliver(&messages[i]) {
			failed = fmt.Errorf("no queue is there for message %d; was it declared?", i)
		}
		c.b.mu.Unlock()
	}
	if err := c.b.pause(ctx, PointBrokerConfirmed); err != nil {
		failed = err
	}
	if failed != nil {
		return courante.Transient(fmt.Errorf("publish: %w", failed))
	}
	return nil
}

// deliver adds a message to the queues that are there, and reports whether one
// is. b.mu is held.
func (b *Broker) deliver(m *courante.Message) (delivered bool) {
	d := courante.Delivery{Log: m.Log, At: m.At}
	if m.Event != nil {
		e := *m.Event
		e.Notes = nil // they stay where they are
		d.Event, d.Log = &e, e.Log
	}
	for _, l := range m.Links {
		if q := b.lanes[l.Queue]; q != nil {
			d.Link, delivered = l, true
			q.add(d)
		}
	}
	return delivered
}

// Consume implements [courante.Broker].
func (c *BrokerConn) Consume(ctx context.Context, q courante.Queue) (courante.Consumption, error) {
	if err := c.enter(ctx, PointBrokerConsume); err != nil {
		return nil, err
	}
	defer c.b.mu.Unlock()
	return consumption{newConsumer(c, row(c.b.lanes, q))}, nil
}

// Depth implements [courante.Broker].
func (c *BrokerConn) Depth(ctx context.Context, q courante.Queue) (int, error) {
	if err := c.enter(ctx, PointBrokerDepth); err != nil {
		return 0, courante.Transient(err)
	}
	defer c.b.mu.Unlock()
	lane := c.b.lanes[q]
	if lane == nil {
		return 0, nil
	}
	depth := len(lane.ready)
	for _, other := range lane.consumers {
		if other.conn == c {
			depth += len(other.held)
		}
	}
	return depth, nil
}

// Discard implements [courante.Broker].
func (c *BrokerConn) Discard(ctx context.Context, q courante.Queue) (gone bool, err error) {
	if err := c.enter(ctx, PointBrokerDepth); err != nil {
		return false, courante.Transient(err)
	}
	defer c.b.mu.Unlock()
	if lane := c.b.lanes[q]; lane != nil && len(lane.consumers) > 0 {
		return false, nil
	}
	delete(c.b.lanes, q)
	return true, nil
}

// Ask implements [courante.Broker].
func (c *BrokerConn) Ask(ctx context.Context, log string, r courante.RelayRequest) error {
	if err := c.enter(ctx, PointBrokerAsk); err != nil {
		return courante.Transient(err)
	}
	defer c.b.mu.Unlock()
	row(c.b.requests, log).add(r)
	return nil
}

// Asked implements [courante.Broker].
func (c *BrokerConn) Asked(ctx context.Context, log string) (courante.Requests, error) {
	if err := c.enter(ctx, PointBrokerConsume); err != nil {
		return nil, err
	}
	defer c.b.mu.Unlock()
	return requests{newConsumer(c, row(c.b.requests, log))}, nil
}
