package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// publishTries is how often a publication that failed half-way is begun
	// again before the caller hears of it. When the leader of a quorum queue
	// dies, RabbitMQ refuses what is on its way on the channels of that moment
	// and takes it on a new one, by the new leader, at once; a queue that has just
	// been made refuses for a moment.
	publishTries = 5
	// confirmPatience is how long RabbitMQ may be silent about a message: the
	// election of a leader takes a second or two, a queue without a majority
	// never answers.
	confirmPatience = 15 * time.Second
	// idleMost is how many channels are kept for the next Publish. One log is
	// published by one caller at a time.
	idleMost = 32
)

// publisher is a channel in confirm mode. One call of Publish uses it at a
// time, so its messages stay in order.
type publisher struct {
	*amqp.Channel
	session *session
	returns chan amqp.Return
	closed  chan *amqp.Error
}

// Publish implements [courante.Broker]. A channel on which anything failed is
// given up; what was not confirmed by then is published on a new one, in order.
func (b *Broker) Publish(ctx context.Context, messages []courante.Message) error {
	var wait backoff
	for try := 1; len(messages) > 0; try++ {
		confirmed, err := b.publish(ctx, messages)
		if err == nil {
			return nil
		}
		messages = messages[confirmed:]
		var failed *channelError
		if try == publishTries || !errors.As(err, &failed) || ctx.Err() != nil {
			return explain(fmt.Errorf("publish to RabbitMQ: %w", err))
		}
		b.log.DebugContext(ctx, "publishing again what RabbitMQ did not confirm", "messages", len(messages), "error", err)
		if try > 1 {
			wait.sleep(ctx.Done())
		}
	}
	return nil
}

// publish returns how many messages, from the first on, were confirmed.
func (b *Broker) publish(ctx context.Context, messages []courante.Message) (confirmed int, err error) {
	err = b.usePublisher(ctx, func(p *publisher) error {
		confirmed, err = b.send(ctx, p, messages)
		return err
	})
	return confirmed, err
}

// usePublisher calls f with a channel that nobody else uses. One that failed is
// closed, as soon as RabbitMQ answers.
func (b *Broker) usePublisher(ctx context.Context, f func(*publisher) error) error {
	p, err := b.publisher(ctx)
	if err != nil {
		return err
	}
	if err := f(p); err != nil {
		go p.Close()
		return err
	}
	b.keep(p)
	return nil
}

// send publishes with up to Window messages unconfirmed.
func (b *Broker) send(ctx context.Context, p *publisher, messages []courante.Message) (confirmed int, err error) {
	p.session.wire.hold()
	defer p.session.wire.release()
	pending := make([]*amqp.DeferredConfirmation, len(messages))
	for i := range messages {
		for i-confirmed >= b.config.Window {
			if err := p.await(ctx, pending[confirmed]); err != nil {
				return confirmed, err
			}
			confirmed++
		}
		if err := p.clear(ctx); err != nil {
			return confirmed, err
		}
		exchange, key, publishing, err := b.names.encode(&messages[i])
		if err != nil {
			return confirmed, err
		}
		if pending[i], err = p.PublishWithDeferredConfirm(exchange, key, true, false, publishing); err != nil {
			return confirmed, p.failure(err)
		}
	}
	for ; confirmed < len(messages); confirmed++ {
		if err := p.await(ctx, pending[confirmed]); err != nil {
			return confirmed, err
		}
	}
	return confirmed, nil
}

// clear waits while RabbitMQ takes no messages.
func (p *publisher) clear(ctx context.Context) error {
	blocked := p.session.blocked.Load()
	if blocked == nil {
		return nil
	}
	p.session.wire.flush()
	patience := time.NewTimer(confirmPatience)
	defer patience.Stop()
	select {
	case <-blocked.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-patience.C:
		return courante.Transient(fmt.Errorf("RabbitMQ takes no messages until it has room again (%s)", blocked.reason))
	}
}

// await waits for the confirmation of the next message.
func (p *publisher) await(ctx context.Context, c *amqp.DeferredConfirmation) error {
	select {
	case <-c.Done():
	default:
		p.session.wire.flush()
		patience := time.NewTimer(confirmPatience)
		defer patience.Stop()
		select {
		case <-c.Done():
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			if blocked := p.session.blocked.Load(); blocked != nil {
				return courante.Transient(fmt.Errorf("RabbitMQ takes no messages until it has room again (%s)", blocked.reason))
			}
			return courante.Transient(fmt.Errorf("no confirmation for %v; a quorum queue needs a majority of its members", confirmPatience))
		}
	}
	// RabbitMQ sends a message back before it confirms it, and returns has room
	// for all that are not confirmed.
	select {
	case r := <-p.returns:
		return &returnedError{r.RoutingKey}
	default:
	}
	if !c.Acked() {
		return p.failure(errors.New("refused (nack)"))
	}
	return nil
}

// channelError is a failure after which a new channel may do.
type channelError struct{ err error }

func (e *channelError) Error() string { return e.err.Error() }
func (e *channelError) Unwrap() error { return e.err }

// returnedError says that RabbitMQ has sent a message back.
type returnedError struct{ key string }

func (e *returnedError) Error() string {
	return fmt.Sprintf("no queue is there for a message with the key %q; was it declared, or has somebody deleted it?", e.key)
}

// failure says why the channel is of no use any more.
func (p *publisher) failure(err error) error {
	select {
	case cause := <-p.closed:
		if cause != nil {
			err = cause
		}
	default:
	}
	return &channelError{err}
}

// publisher returns a channel that nobody uses, or opens one.
func (b *Broker) publisher(ctx context.Context) (*publisher, error) {
	b.mu.Lock()
	for len(b.idle) > 0 {
		p := b.idle[len(b.idle)-1]
		b.idle = b.idle[:len(b.idle)-1]
		if !p.IsClosed() {
			b.mu.Unlock()
			return p, nil
		}
	}
	b.mu.Unlock()
	session, ch, err := b.publishing.channel(ctx)
	if err != nil {
		return nil, err
	}
	if err := unlessDone(ctx, func() error { return ch.Confirm(false) }, nil); err != nil {
		go ch.Close()
		return nil, err
	}
	return &publisher{
		Channel: ch, session: session,
		returns: ch.NotifyReturn(make(chan amqp.Return, b.config.Window)),
		closed:  ch.NotifyClose(make(chan *amqp.Error, 1)),
	}, nil
}

func (b *Broker) keep(p *publisher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.idle) < idleMost && !b.closed {
		b.idle = append(b.idle, p)
		return
	}
	go p.Close()
}
