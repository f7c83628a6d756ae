package rabbitmq_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/rabbitmq"
)

func TestMain(m *testing.M) { courantetest.Main(m) }

func TestBroker(t *testing.T) {
	t.Parallel()
	courantetest.TestBroker(t, func(t *testing.T) courantetest.BrokerFixture {
		address := courantetest.RabbitMQURL(t)
		prefix := courantetest.RabbitMQPrefix()
		line := newLine(t)
		connect := func(t *testing.T) *rabbitmq.Broker {
			return open(t, rabbitmq.Config{URLs: []string{address}, Prefix: prefix, Dial: line.dial})
		}
		return courantetest.BrokerFixture{
			Connect: func(t *testing.T) courante.Broker { return connect(t) },
			Cut:     func(*testing.T) { line.cut() },
			Delete: func(t *testing.T, q courante.Queue) {
				if err := connect(t).Delete(t.Context(), q); err != nil {
					t.Fatal(err)
				}
			},
			Send: func(t *testing.T, e courante.CloudEvent) {
				headers := amqp.Table{"cloudEvents:specversion": "1.0", "cloudEvents:id": e.ID, "cloudEvents:source": e.Source, "cloudEvents_type": e.Type}
				for name, value := range map[string]string{"subject": e.Subject, "correlationid": e.Correlation, "traceparent": e.Trace} {
					if value != "" {
						headers["cloudEvents:"+name] = value
					}
				}
				if !e.Time.IsZero() {
					headers["cloudEvents:time"] = e.Time.Format(time.RFC3339Nano)
				}
				send(t, outside(t, address), prefix, e.Type, amqp.Publishing{ContentType: "application/json; charset=utf-8", Headers: headers, Body: e.Data})
			},
			Refused: func(t *testing.T) (reasons []string) {
				ch := outside(t, address)
				for {
					d, there, err := ch.Get(prefix+"/1/dead", true)
					if err != nil {
						t.Fatal(err)
					}
					if !there {
						return reasons
					}
					reasons = append(reasons, fmt.Sprint(d.Headers["x-courante-reason"]))
				}
			},
		}
	})
}

// outside is a channel of a program that is not ours.
func outside(t *testing.T, address string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	return ch
}

func send(t *testing.T, ch *amqp.Channel, exchange, key string, p amqp.Publishing) {
	t.Helper()
	c, err := ch.PublishWithDeferredConfirm(exchange, key, false, false, p)
	if err == nil {
		_, err = c.WaitContext(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What no CloudEvent is does not get in the way of those that are.
func TestInboxPutsAsideWhatItCannotRead(t *testing.T) {
	t.Parallel()
	address, prefix := courantetest.RabbitMQURL(t), courantetest.RabbitMQPrefix()
	b := open(t, rabbitmq.Config{URLs: []string{address}, Prefix: prefix})
	in, err := b.Receive(t.Context(), "inventory", []string{"counted"})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	ch := outside(t, address)
	good := amqp.Table{"cloudEvents:specversion": "1.0", "cloudEvents:id": "1", "cloudEvents:source": "/x", "cloudEvents:type": "counted"}
	with := func(name string, value any) amqp.Table {
		h := maps.Clone(good)
		h[name] = value
		return h
	}
	for _, bad := range []struct {
		says string
		amqp.Publishing
	}{
		{"headers are missing: cloudEvents:specversion, cloudEvents:id, cloudEvents:source, cloudEvents:type", amqp.Publishing{Body: []byte("hello")}},
		{"structured mode", amqp.Publishing{ContentType: "application/cloudevents+json", Headers: good, Body: []byte("{}")}},
		{"content type text/xml", amqp.Publishing{ContentType: "text/xml", Headers: good, Body: []byte("<a/>")}},
		{"not JSON", amqp.Publishing{Headers: good, Body: []byte("{")}},
		{"want a text, not int32", amqp.Publishing{Headers: with("cloudEvents:id", int32(1)), Body: []byte("{}")}},
		{`"2.0" is not 1.0`, amqp.Publishing{Headers: with("cloudEvents:specversion", "2.0"), Body: []byte("{}")}},
		{"cannot parse", amqp.Publishing{Headers: with("cloudEvents:time", "noon"), Body: []byte("{}")}},
	} {
		send(t, ch, prefix, "counted", bad.Publishing)
		a := takeOne(t, in)
		if a.Err == nil || !strings.Contains(a.Err.Error(), bad.says) {
			t.Errorf("got %+v, %v, want an error with %q", a.CloudEvent, a.Err, bad.says)
		}
		if err := in.Refuse(t.Context(), a.Tag, a.Err.Error()); err != nil {
			t.Fatal(err)
		}
		if err := in.Ack(t.Context(), a.Tag); err != nil {
			t.Fatal(err)
		}
		d, there, err := ch.Get(prefix+"/1/dead", true)
		if err != nil || !there || !bytes.Equal(d.Body, bad.Body) || !strings.Contains(fmt.Sprint(d.Headers["x-courante-reason"]), bad.says) {
			t.Errorf("put aside is %q with %v, %v; want %q with %q", d.Body, d.Headers, err, bad.Body, bad.says)
		}
	}
	send(t, ch, prefix, "counted", amqp.Publishing{Headers: with("cloudEvents:time", time.Unix(5, 0)), Body: []byte("{}")})
	if a := takeOne(t, in); a.Err != nil || !a.Time.Equal(time.Unix(5, 0)) {
		t.Errorf("got %+v, %v", a.CloudEvent, a.Err)
	}
}

func takeOne(t *testing.T, in courante.Inbox) courante.Arrival {
	t.Helper()
	for {
		list, err := in.Take(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 {
			return list[0]
		}
		select {
		case <-in.Arrived():
		case <-time.After(30 * time.Second):
			t.Fatal("nothing comes")
		}
	}
}

func open(t testing.TB, config rabbitmq.Config) *rabbitmq.Broker {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	b, err := rabbitmq.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}
