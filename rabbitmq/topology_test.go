package rabbitmq_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/rabbitmq"
	amqp "github.com/rabbitmq/amqp091-go"
)

// other is somebody else's client on the same RabbitMQ.
func other(t *testing.T) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(courantetest.RabbitMQURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func system(t *testing.T) (*rabbitmq.Broker, string) {
	t.Helper()
	prefix := courantetest.RabbitMQPrefix()
	return open(t, rabbitmq.Config{URLs: []string{courantetest.RabbitMQURL(t)}, Prefix: prefix}), prefix
}

func created(q courante.Queue) courante.Message {
	e := &courante.Event{Log: "ordering", Stream: "order:17", Version: 3, Type: "shop.order_created", Schema: 2, Data: json.RawMessage(`{"total":1250}`)}
	return courante.Message{Event: e, At: e.Cursor(), Links: []courante.Link{{Queue: q, Epoch: 1}}}
}

func TestOthersGetCloudEvents(t *testing.T) {
	t.Parallel()
	b, prefix := system(t)
	q := courante.Queue{Subscriber: "inventory", Lanes: 1}
	if err := b.Declare(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	ch := other(t)
	theirs, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(theirs.Name, "shop.#", prefix, false, nil); err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume(theirs.Name, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	mark := courante.Message{Log: "ordering", Links: []courante.Link{{Queue: q}}}
	foreign := created(q)
	foreign.Event.Type = "bank.money_moved"
	last := created(q)
	last.Event.Version = 4
	if err := b.Publish(t.Context(), []courante.Message{mark, foreign, created(q), last}); err != nil {
		t.Fatal(err)
	}
	d := <-deliveries
	for name, want := range map[string]any{
		"cloudEvents:specversion": "1.0", "cloudEvents:id": "ordering/order:17@3", "cloudEvents:source": "/ordering", "cloudEvents:type": "shop.order_created",
		"cloudEvents:subject": "order:17", "cloudEvents:schemaversion": int32(2),
	} {
		if d.Headers[name] != want {
			t.Errorf("header %s is %v, want %v", name, d.Headers[name], want)
		}
	}
	if d.ContentType != "application/json" || string(d.Body) != `{"total":1250}` {
		t.Errorf("the body is %s %q", d.ContentType, d.Body)
	}
	if d = <-deliveries; d.Headers["cloudEvents:id"] != "ordering/order:17@4" {
		t.Errorf("%v came next, want order:17@4 and nothing of another type, or a mark, between", d.Headers)
	}
}

func TestTopology(t *testing.T) {
	t.Parallel()
	b, prefix := system(t)
	used, empty, missing := courante.Queue{Subscriber: "inventory", Lanes: 2}, courante.Queue{Subscriber: "inventory", Lanes: 2, K: 1}, courante.Queue{Subscriber: "payment", Lanes: 1}
	if err := b.Declare(t.Context(), used, empty); err != nil {
		t.Fatal(err)
	}
	c, err := b.Consume(t.Context(), empty)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := b.Publish(t.Context(), []courante.Message{created(used), created(used)}); err != nil {
		t.Fatal(err)
	}
	got, err := b.Topology(t.Context(), used, empty, missing)
	if err != nil {
		t.Fatal(err)
	}
	want := []rabbitmq.QueueState{
		{Queue: used, Name: prefix + "/1/lane/inventory/0of2", There: true, Ready: 2},
		{Queue: empty, Name: prefix + "/1/lane/inventory/1of2", There: true, Consumers: 1},
		{Queue: missing, Name: prefix + "/1/lane/payment/0of1"},
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("queue %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	if err := b.Delete(t.Context(), used, missing); err != nil {
		t.Fatalf("delete, also what is not there: %v", err)
	}
	got, err = b.Topology(t.Context(), used)
	if err != nil || got[0].There {
		t.Errorf("after Delete: %+v, %v", got, err)
	}
}

func TestQueueOfAnotherMaking(t *testing.T) {
	t.Parallel()
	b, prefix := system(t)
	ch := other(t)
	if _, err := ch.QueueDeclare(prefix+"/1/lane/inventory/0of1", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	err := b.Declare(t.Context(), courante.Queue{Subscriber: "inventory", Lanes: 1})
	if err == nil || !strings.Contains(err.Error(), "Delete it") || !errors.Is(err, courante.ErrTransient) {
		t.Errorf("a queue with other arguments: %v, want an error that says what to do", err)
	}
}

func TestUnreadableMessageBecomesDeadLetter(t *testing.T) {
	t.Parallel()
	b, prefix := system(t)
	q := courante.Queue{Subscriber: "inventory", Lanes: 1}
	c, err := b.Consume(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ch := other(t)
	if err := ch.PublishWithContext(t.Context(), "", prefix+"/1/lane/inventory/0of1", true, false, amqp.Publishing{Body: []byte("what?")}); err != nil {
		t.Fatal(err)
	}
	take := func() courante.Delivery {
		for {
			list, err := c.Take(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) > 0 {
				return list[0]
			}
			<-c.Arrived()
		}
	}
	bad := take()
	if bad.Err == nil || !strings.Contains(bad.Err.Error(), prefix+"/1/dead") {
		t.Errorf("the unreadable message has the error %v, want one that says where it is", bad.Err)
	}
	if err := b.Publish(t.Context(), []courante.Message{created(q)}); err != nil {
		t.Fatal(err)
	}
	good := take()
	if good.Err != nil || good.Event == nil {
		t.Fatalf("got %+v after the unreadable message, want the event", good)
	}
	for _, tag := range []uint64{bad.Tag, good.Tag} { // RabbitMQ closes a channel for a tag settled twice
		if err := c.Ack(t.Context(), tag); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Publish(t.Context(), []courante.Message{created(q)}); err != nil {
		t.Fatal(err)
	}
	if d := take(); d.Again || d.Event == nil {
		t.Errorf("got %+v, want a new event: the channel was closed", d)
	}
	deliveries, err := ch.Consume(prefix+"/1/dead", "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := <-deliveries; string(d.Body) != "what?" {
		t.Errorf("the dead letter is %q", d.Body)
	}
}

func TestTooLargeToSend(t *testing.T) {
	t.Parallel()
	b, _ := system(t)
	q := courante.Queue{Subscriber: "inventory", Lanes: 1}
	if err := b.Declare(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	m := created(q)
	m.Event.Correlation = strings.Repeat("x", 130<<10)
	if err := b.Publish(t.Context(), []courante.Message{m}); !errors.Is(err, courante.ErrTooLarge) || errors.Is(err, courante.ErrTransient) {
		t.Errorf("headers that fit into no frame: %v, want ErrTooLarge", err)
	}
	if err := b.Declare(t.Context(), courante.Queue{Subscriber: strings.Repeat("x", 300)}); !errors.Is(err, courante.ErrTooLarge) {
		t.Errorf("a name that is too long: %v, want ErrTooLarge", err)
	}
	m.Event.Correlation = ""
	m.Event.Type = strings.Repeat("t", 1000) // longer than a routing key may be
	if err := b.Publish(t.Context(), []courante.Message{m}); err != nil {
		t.Errorf("after that: %v", err)
	}
}
