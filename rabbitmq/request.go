package rabbitmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/courante-dev/courante"
	amqp "github.com/rabbitmq/amqp091-go"
)

// Ask implements [courante.Broker]. The request waits if nobody relays the log
// yet.
func (b *Broker) Ask(ctx context.Context, log string, r courante.RelayRequest) error {
	body, err := json.Marshal(r)
	if err == nil {
		err = b.ask(ctx, log, body)
	}
	var returned *returnedError
	if errors.As(err, &returned) {
		err = b.withChannel(ctx, func(ch *amqp.Channel) error { return b.names.declareRequests(ch, log) })
		if err == nil {
			err = b.ask(ctx, log, body)
		}
	}
	if err != nil {
		return explain(fmt.Errorf("ask the relay of %s: %w", log, err))
	}
	return nil
}

func (b *Broker) ask(ctx context.Context, log string, body []byte) error {
	return b.usePublisher(ctx, func(p *publisher) error {
		if err := p.clear(ctx); err != nil {
			return err
		}
		c, err := p.PublishWithDeferredConfirm("", b.names.requests(log), true, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, ContentType: contentType, Body: body,
		})
		if err != nil {
			return p.failure(err)
		}
		return p.await(ctx, c)
	})
}

// requests is the subscription of a relay.
type requests struct{ *subscription }

// Asked implements [courante.Broker].
func (b *Broker) Asked(ctx context.Context, log string) (courante.Requests, error) {
	s, err := b.subscribe(ctx, b.names.requests(log), func(ch *amqp.Channel) error { return b.names.declareRequests(ch, log) })
	if err != nil {
		return nil, err
	}
	return requests{s}, nil
}

// Take implements [courante.Requests]. What it returns is acknowledged: who
// asked asks again.
func (r requests) Take(ctx context.Context, most int) ([]courante.RelayRequest, error) {
	list, err := r.take(ctx, most)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	var asked []courante.RelayRequest
	for i := range list {
		var q courante.RelayRequest
		if err := json.Unmarshal(list[i].Body, &q); err != nil {
			r.b.log.WarnContext(ctx, "a request to the relay cannot be read", "queue", r.queue, "error", err)
			continue
		}
		asked = append(asked, q)
	}
	r.ack(list[len(list)-1].DeliveryTag)
	return asked, nil
}
