package rabbitmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	amqp "github.com/rabbitmq/amqp091-go"
)

// headerReason is why a message was put aside, on its copy among the dead.
const headerReason = "x-courante-reason"

func (n names) inbox(service string) string {
	return n.prefix + "/" + topologyVersion + "/inbox/" + url.QueryEscape(service)
}

// declareInbox makes the queue of what programs outside send to a service, and
// binds it by the types. What was bound by an earlier program stays bound: its
// messages are refused with the reason rather than lost.
func (n names) declareInbox(ch *amqp.Channel, service string, types []string) error {
	queue := n.inbox(service)
	err := n.declare(ch, queue, n.events(), amqp.Table{
		"x-single-active-consumer": true,
		"x-delivery-limit":         int64(deliveryLimit),
		"x-dead-letter-exchange":   n.dead(),
		"x-dead-letter-strategy":   "at-least-once",
		"x-overflow":               amqp.QueueOverflowRejectPublish,
	})
	if err != nil {
		return err
	}
	for _, typ := range types {
		if err := ch.QueueBind(queue, typ, n.events(), false, nil); err != nil {
			return fmt.Errorf("bind queue %s by %s: %w", queue, typ, err)
		}
	}
	return nil
}

// inbox is the subscription of a service to what programs outside send.
type inbox struct {
	*subscription
	held map[uint64]amqp.Delivery // by tag, until they are acknowledged
}

// Receive implements [courante.Broker].
func (b *Broker) Receive(ctx context.Context, service string, types []string) (courante.Inbox, error) {
	s, err := b.subscribe(ctx, b.names.inbox(service), func(ch *amqp.Channel) error {
		if err := b.names.declareExchanges(ch); err != nil {
			return err
		}
		return b.names.declareInbox(ch, service, types)
	})
	if err != nil {
		return nil, err
	}
	return &inbox{s, map[uint64]amqp.Delivery{}}, nil
}

// Take implements [courante.Inbox].
func (in *inbox) Take(ctx context.Context, most int) ([]courante.Arrival, error) {
	list, err := in.take(ctx, most)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	arrivals := make([]courante.Arrival, len(list))
	for i := range list {
		a := &arrivals[i]
		if a.CloudEvent, err = decodeOutside(&list[i]); err != nil {
			*a = courante.Arrival{Err: err}
		}
		a.Tag = list[i].DeliveryTag
		in.held[a.Tag] = list[i]
	}
	return arrivals, nil
}

// Refuse implements [courante.Inbox]: a copy with the reason goes to the dead.
func (in *inbox) Refuse(ctx context.Context, tag uint64, reason string) error {
	d, held := in.held[tag]
	if !held {
		return nil // it comes again
	}
	headers := maps.Clone(d.Headers)
	if headers == nil {
		headers = amqp.Table{}
	}
	delete(headers, headerQueues)
	headers[headerReason] = reason[:min(len(reason), 4<<10)]
	headers["x-courante-queue"] = in.queue
	err := in.b.usePublisher(ctx, func(p *publisher) error {
		if err := p.clear(ctx); err != nil {
			return err
		}
		c, err := p.PublishWithDeferredConfirm(in.b.names.dead(), d.RoutingKey, true, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, Headers: headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding,
			CorrelationId: d.CorrelationId, MessageId: d.MessageId, Timestamp: d.Timestamp, Type: d.Type, Body: d.Body,
		})
		if err != nil {
			return p.failure(err)
		}
		return p.await(ctx, c)
	})
	if err != nil {
		return explain(fmt.Errorf("put a message of queue %s aside: %w", in.queue, err))
	}
	return nil
}

// Ack implements [courante.Inbox].
func (in *inbox) Ack(_ context.Context, upTo uint64) error {
	in.ack(upTo)
	maps.DeleteFunc(in.held, func(tag uint64, _ amqp.Delivery) bool { return tag <= upTo })
	return nil
}

// decodeOutside reads a CloudEvent in binary mode. Its attributes are headers
// that begin with "cloudEvents:" or "cloudEvents_"; the binding allows both.
func decodeOutside(d *amqp.Delivery) (courante.CloudEvent, error) {
	if strings.HasPrefix(d.ContentType, "application/cloudevents") {
		return courante.CloudEvent{}, fmt.Errorf("content type %s: structured mode is not read; send the attributes as headers (binary mode)", d.ContentType)
	}
	if media, _, _ := strings.Cut(d.ContentType, ";"); media != "" && media != contentType && !strings.HasSuffix(media, "+json") {
		return courante.CloudEvent{}, fmt.Errorf("content type %s: the data has to be %s", d.ContentType, contentType)
	}
	var err error
	attribute := func(name string) string {
		for _, prefix := range []string{"cloudEvents:", "cloudEvents_"} {
			switch v := d.Headers[prefix+name].(type) {
			case nil:
			case string:
				return v
			case time.Time: // AMQP has a type for it
				return v.UTC().Format(time.RFC3339Nano)
			default:
				err = errors.Join(err, fmt.Errorf("header %s%s: want a text, not %T", prefix, name, v))
			}
		}
		return ""
	}
	e := courante.CloudEvent{
		ID: attribute("id"), Source: attribute("source"), Type: attribute("type"), Subject: attribute("subject"),
		Correlation: attribute("correlationid"), Trace: attribute("traceparent"), Data: json.RawMessage(d.Body),
	}
	if e.Correlation == "" {
		e.Correlation = d.CorrelationId
	}
	version, at := attribute("specversion"), attribute("time")
	var missing []string
	for _, a := range [][2]string{{"specversion", version}, {"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if a[1] == "" {
			missing = append(missing, "cloudEvents:"+a[0])
		}
	}
	switch {
	case err != nil:
	case len(missing) > 0:
		err = fmt.Errorf("not a CloudEvent in binary mode: headers are missing: %s", strings.Join(missing, ", "))
	case !strings.HasPrefix(version, "1."):
		err = fmt.Errorf("header cloudEvents:specversion: %q is not 1.0", version)
	case at != "":
		e.Time, err = time.Parse(time.RFC3339Nano, at)
	}
	if err == nil && !json.Valid(d.Body) {
		err = errors.New("the data is not JSON")
	}
	return e, err
}
