package rabbitmq

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/courante-dev/courante"
	amqp "github.com/rabbitmq/amqp091-go"
)

// subscription takes deliveries from one queue, over one channel after another:
// when the connection is lost, the queue's leader has moved or somebody has
// deleted the queue, it declares the queue and consumes it again.
type subscription struct {
	b       *Broker
	queue   string
	declare func(*amqp.Channel) error
	arrived chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}

	mu       sync.Mutex // guards what follows
	channel  *amqp.Channel
	waiting  []amqp.Delivery
	base     uint64   // what to add to the channel's tags, so that they go on ascending
	last     uint64   // tag
	settled  uint64   // everything up to this tag
	rejected []uint64 // tags behind it that are settled as well
}

func (b *Broker) subscribe(ctx context.Context, queue string, declare func(*amqp.Channel) error) (*subscription, error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &subscription{
		b: b, queue: queue, declare: declare, cancel: cancel,
		arrived: make(chan struct{}, 1), done: make(chan struct{}),
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		cancel()
		return nil, courante.ErrClosed
	}
	b.subscriptions[s] = true
	b.mu.Unlock()
	// The first time it is the caller's who waits, and hears what is wrong.
	var wait backoff
	deliveries, err := s.open(ctx)
	for try := 1; try < unsettledTries && unsettled(err) && ctx.Err() == nil; try++ {
		b.log.InfoContext(ctx, "RabbitMQ is settling; trying again", "queue", queue, "error", err)
		wait.sleep(ctx.Done())
		deliveries, err = s.open(ctx)
	}
	if err != nil {
		b.forget(s)
		cancel()
		close(s.done)
		return nil, fmt.Errorf("consume %s: %w", queue, err)
	}
	go s.run(running, deliveries)
	return s, nil
}

func (b *Broker) forget(s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subscriptions, s)
}

// run takes what arrives until the subscription ends.
func (s *subscription) run(ctx context.Context, deliveries <-chan amqp.Delivery) {
	defer close(s.done)
	defer s.b.forget(s)
	for {
		s.receive(ctx, deliveries)
		s.leave()
		var wait backoff
		for deliveries = nil; deliveries == nil; {
			if ctx.Err() != nil {
				return
			}
			var err error
			if deliveries, err = s.open(ctx); err != nil && ctx.Err() == nil {
				level := slog.LevelWarn
				if unsettled(err) {
					level = slog.LevelInfo
				}
				s.b.log.Log(ctx, level, "a queue cannot be consumed; trying again", "queue", s.queue, "error", err)
				wait.sleep(ctx.Done())
			}
		}
	}
}

// receive returns when the channel is closed, RabbitMQ has ended the
// consumption or knows nothing of it, or ctx is done.
func (s *subscription) receive(ctx context.Context, deliveries <-chan amqp.Delivery) {
	watching, end := context.WithCancel(ctx)
	defer end()
	unknown := make(chan struct{})
	go s.watch(watching, unknown)
	for {
		select {
		case d, more := <-deliveries:
			if !more {
				return
			}
			s.add(d)
		case <-unknown:
			s.b.log.WarnContext(ctx, "RabbitMQ has no consumer of a queue that is consumed here; consuming it again", "queue", s.queue)
			return
		case <-ctx.Done():
			return
		}
	}
}

// A subscription looks whether RabbitMQ has it after watchFirst, and then ever
// less often, because what goes wrong goes wrong when it begins.
const watchFirst, watchMost = 2 * time.Second, 30 * time.Second

// watch closes unknown when RabbitMQ does not have the queue, or nobody who
// consumes it. Who declares and consumes a queue at the moment in which it is
// deleted is told that all went well, and not that the queue has gone then.
func (s *subscription) watch(ctx context.Context, unknown chan<- struct{}) {
	s.mu.Lock()
	before := s.last
	s.mu.Unlock()
	wait := watchFirst
	for without := 0; without < 2; wait = min(2*wait, watchMost) {
		if without > 0 {
			wait = watchFirst
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		quiet := s.last == before
		before = s.last
		s.mu.Unlock()
		if !quiet {
			without = 0
			continue
		}
		state, err := s.b.lookAt(ctx, s.queue)
		switch {
		case err != nil: // the connection's own business
		case !state.There:
			without = 2
		case state.Consumers == 0:
			without++ // a queue that is without a leader says 0 as well
		default:
			without = 0
		}
	}
	close(unknown)
}

// open declares the queue and consumes it on a new channel.
func (s *subscription) open(ctx context.Context) (<-chan amqp.Delivery, error) {
	_, ch, err := s.b.consuming.channel(ctx)
	if err != nil {
		return nil, err
	}
	var deliveries <-chan amqp.Delivery
	err = unlessDone(ctx, func() error {
		if err := s.declare(ch); err != nil {
			return err
		}
		if err := ch.Qos(s.b.config.Prefetch, 0, false); err != nil {
			return err
		}
		var err error
		deliveries, err = ch.Consume(s.queue, "", false, false, false, false, nil)
		return err
	}, nil)
	if err != nil {
		go ch.Close()
		return nil, explain(err)
	}
	s.mu.Lock()
	s.channel, s.base, s.settled = ch, s.last, s.last
	s.mu.Unlock()
	return deliveries, nil
}

// leave gives the channel up: what is waiting and what was not acknowledged
// goes back to the queue.
func (s *subscription) leave() {
	s.mu.Lock()
	ch := s.channel
	s.channel, s.waiting, s.rejected = nil, nil, nil
	s.mu.Unlock()
	if ch != nil {
		ch.Close()
	}
}

func (s *subscription) add(d amqp.Delivery) {
	s.mu.Lock()
	if s.channel != nil {
		d.DeliveryTag += s.base
		s.last = d.DeliveryTag
		s.waiting = append(s.waiting, d)
	}
	s.mu.Unlock()
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

// take returns what is waiting, most at most.
func (s *subscription) take(ctx context.Context, most int) ([]amqp.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(most, len(s.waiting))
	list := s.waiting[:n:n]
	if s.waiting = s.waiting[n:]; len(s.waiting) > 0 {
		s.signal()
	} else {
		s.waiting = nil
	}
	return list, nil
}

// ack settles everything up to the tag. Of a channel that is gone there is
// nothing to settle: it comes again.
func (s *subscription) ack(upTo uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.channel == nil || upTo <= s.settled {
		return
	}
	// RabbitMQ closes the channel at a tag that is settled already.
	tag := upTo
	for slices.Contains(s.rejected, tag) {
		tag--
	}
	s.rejected = slices.DeleteFunc(s.rejected, func(t uint64) bool { return t <= upTo })
	if tag > s.settled {
		_ = s.channel.Ack(tag-s.base, true) // fails if the connection has just gone
	}
	s.settled = upTo
}

// unsettled is how many deliveries are here and not acknowledged.
func (s *subscription) unsettled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.channel == nil {
		return 0
	}
	return int(s.last - s.settled)
}

// reject hands a message that nobody can read to the dead letters.
func (s *subscription) reject(tag uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.channel == nil || tag <= s.settled {
		return
	}
	s.rejected = append(s.rejected, tag)
	_ = s.channel.Reject(tag-s.base, false) // as in ack
}

// end stops the subscription and returns at once.
func (s *subscription) end() { s.cancel() }

func (s *subscription) Arrived() <-chan struct{} { return s.arrived }

// Close gives back what was not acknowledged. It waits until RabbitMQ has it, if
// that does not take too long: the heartbeat ends what hangs.
func (s *subscription) Close() {
	s.end()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
	}
}

// consumption is the subscription of a lane.
type consumption struct {
	*subscription
	lane courante.Queue
}

// Consume implements [courante.Broker].
func (b *Broker) Consume(ctx context.Context, q courante.Queue) (courante.Consumption, error) {
	s, err := b.subscribe(ctx, b.names.queue(q), func(ch *amqp.Channel) error {
		if err := b.names.declareExchanges(ch); err != nil {
			return err
		}
		return b.names.declareLane(ch, q)
	})
	if err != nil {
		return nil, err
	}
	return &consumption{s, q}, nil
}

// Take implements [courante.Consumption].
func (c *consumption) Take(ctx context.Context, most int) ([]courante.Delivery, error) {
	list, err := c.take(ctx, most)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	deliveries := make([]courante.Delivery, len(list))
	for i := range list {
		d, err := decode(c.queue, &list[i])
		if err != nil {
			c.reject(list[i].DeliveryTag)
			d = courante.Delivery{Err: fmt.Errorf("queue %s: %w; it is now in queue %s", c.queue, err, c.b.names.dead())}
		} else {
			d.Link.Queue = c.lane
		}
		d.Tag = list[i].DeliveryTag
		deliveries[i] = d
	}
	return deliveries, nil
}

// Ack implements [courante.Consumption].
func (c *consumption) Ack(_ context.Context, upTo uint64) error {
	c.ack(upTo)
	return nil
}
