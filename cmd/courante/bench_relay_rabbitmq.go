package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/internal/rabbitserver"
	"github.com/courante-dev/courante/rabbitmq"
)

// relayedResult is what bench relay --to rabbitmq prints with --json.
type relayedResult struct {
	Bench           string  `json:"bench"`
	N               int     `json:"n"`
	EventsPerS      float64 `json:"events_per_s"`
	LimitPerS       float64 `json:"limit_per_s"`
	Ratio           float64 `json:"ratio"`
	CPUPer100k      float64 `json:"cpu_s_per_100000"` // program, PostgreSQL and RabbitMQ
	LimitCPUPer100k float64 `json:"limit_cpu_s_per_100000"`
	Checks          string  `json:"checks"`
}

// benchWindow and benchPrefetch are the adapter's defaults, for the bare client.
const benchWindow, benchPrefetch = 2000, 1000

// relayed sends logs over a RabbitMQ of its own and takes what comes.
type relayed struct {
	b      *benchDatabase
	server *rabbitserver.Server
	sample amqp.Publishing // what the bare client sends: a message as the adapter makes them
}

func (c *benchRelayCommand) toRabbitMQ(ctx context.Context, p *app.Program, b *benchDatabase) (err error) {
	dir, err := os.MkdirTemp("", "courante-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p.Progress("starting RabbitMQ")
	r := &relayed{b: b}
	if r.server, err = rabbitserver.New(dir); err == nil {
		defer r.server.Remove()
		err = r.server.Start()
	}
	if err != nil {
		return fmt.Errorf("no RabbitMQ: %w; install it (Debian, Ubuntu: apt-get install rabbitmq-server)", err)
	}
	if err := r.takeSample(ctx, c); err != nil {
		return err
	}
	var rates, limits, cpu, limitCPU []float64
	for round := range benchRounds {
		rate, used, err := r.round(ctx, c)
		if err != nil {
			return err
		}
		limit, limitUsed, err := r.bare(ctx, c.N)
		if err != nil {
			return err
		}
		rates, limits = append(rates, rate), append(limits, limit)
		cpu, limitCPU = append(cpu, used), append(limitCPU, limitUsed)
		p.Progress("round %d of %d: %s events/s; the bare client %s", round+1, benchRounds, app.Thousands(int(rate)), app.Thousands(int(limit)))
	}
	res := relayedResult{
		Bench: "relay --to rabbitmq", N: c.N, EventsPerS: medianOf(rates), LimitPerS: medianOf(limits),
		CPUPer100k: medianOf(cpu), LimitCPUPer100k: medianOf(limitCPU), Checks: "ok", // else round has failed
	}
	res.Ratio = res.EventsPerS / res.LimitPerS
	if p.Globals.JSON {
		return p.PrintJSON(res)
	}
	t := app.NewTable("bench relay --to rabbitmq", "EVENTS/S", "CPU S PER 100,000")
	t.Row("log, relay, RabbitMQ, lane", app.Thousands(int(res.EventsPerS)), fmt.Sprintf("%.2f, with PostgreSQL's and RabbitMQ's", res.CPUPer100k))
	t.Row("bare client, RabbitMQ", app.Thousands(int(res.LimitPerS)), fmt.Sprintf("%.2f, with RabbitMQ's", res.LimitCPUPer100k))
	t.Row("ratio", fmt.Sprintf("%.2f", res.Ratio), fmt.Sprintf("%.2f", res.CPUPer100k/res.LimitCPUPer100k))
	t.Row("checks", res.Checks, "")
	t.Write(p.Stdout)
	return nil
}

// sent is a log on its way to one lane.
type sent struct {
	store  courante.Store
	broker *rabbitmq.Broker
	queue  courante.Queue
}

// send begins to relay a log with the events of a round, until stop.
func (r *relayed) send(ctx context.Context, c *benchRelayCommand, n int) (_ *sent, start func() (stop func()), err error) {
	store, err := r.b.fresh(ctx, "relayed")
	if err != nil {
		return nil, nil, err
	}
	some := *c
	some.N = n
	if _, err := some.write(ctx, r.b, store); err != nil {
		return nil, nil, err
	}
	s := &sent{store: store, queue: courante.Queue{Subscriber: store.Log() + "-reader", Lanes: 1}}
	s.broker, err = rabbitmq.Open(ctx, rabbitmq.Config{URLs: []string{r.server.URL()}, Prefix: "bench", Logger: r.b.p.Log})
	if err != nil {
		return nil, nil, err
	}
	rt, err := courante.NewRuntime(courante.Config{Database: r.b.db, Relays: []courante.Store{store}, Broker: s.broker, Logger: r.b.p.Log})
	if err == nil {
		err = s.broker.Ask(ctx, store.Log(), courante.RelayRequest{Epoch: courante.LaneEpoch{
			Subscriber: s.queue.Subscriber, Log: store.Log(), N: 1, Types: []string{benchEvent().Type}, Lanes: 1,
		}})
	}
	if err != nil {
		s.broker.Close()
		return nil, nil, err
	}
	return s, func() func() {
		running, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- rt.Run(running) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				r.b.p.Log.Warn("the relay ended", "error", err)
			}
			s.broker.Close()
		}
	}, nil
}

// round relays a log and takes all of it, in order.
func (r *relayed) round(ctx context.Context, c *benchRelayCommand) (rate, cpu float64, err error) {
	s, start, err := r.send(ctx, c, c.N)
	if err != nil {
		return 0, 0, err
	}
	lane, err := s.broker.Consume(ctx, s.queue)
	if err != nil {
		return 0, 0, err
	}
	defer lane.Close()
	meter, err := r.meter(r.b.postmaster)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	defer start()()
	seen := map[string]int64{}
	for got := 0; got < c.N; {
		list, err := lane.Take(ctx, 256)
		if err != nil {
			return 0, 0, err
		}
		for _, d := range list {
			if d.Err != nil {
				return 0, 0, d.Err
			}
			if d.Event == nil {
				continue // a mark
			}
			if d.Event.Version != seen[d.Event.Stream]+1 {
				return 0, 0, fmt.Errorf("%s came after version %d", d.Event.ID(), seen[d.Event.Stream])
			}
			seen[d.Event.Stream]++
			got++
		}
		if len(list) > 0 {
			if err := lane.Ack(ctx, list[len(list)-1].Tag); err != nil {
				return 0, 0, err
			}
			continue
		}
		select {
		case <-lane.Arrived():
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
	took := time.Since(began)
	used, err := meter()
	return float64(c.N) / took.Seconds(), used.Seconds() / float64(c.N) * 100_000, err
}

// takeSample relays one event and looks at the message.
func (r *relayed) takeSample(ctx context.Context, c *benchRelayCommand) error {
	s, start, err := r.send(ctx, c, 1)
	if err != nil {
		return err
	}
	defer start()()
	if err := s.broker.Declare(ctx, s.queue); err != nil {
		return err
	}
	queues, err := s.broker.Topology(ctx, s.queue)
	if err != nil {
		return err
	}
	ch, hangUp, err := r.dial()
	if err != nil {
		return err
	}
	defer hangUp()
	deliveries, err := ch.Consume(queues[0].Name, "", true, false, false, false, nil)
	if err != nil {
		return err
	}
	var d amqp.Delivery
	select {
	case d = <-deliveries: // the first is the event
	case <-ctx.Done():
		return ctx.Err()
	}
	headers := maps.Clone(d.Headers)
	delete(headers, "CC")
	r.sample = amqp.Publishing{DeliveryMode: amqp.Persistent, Headers: headers, ContentType: d.ContentType, CorrelationId: d.CorrelationId, Body: d.Body}
	return nil
}

// bare sends and takes as many such messages with the client library alone,
// just as durably and with the same windows.
func (r *relayed) bare(ctx context.Context, n int) (rate, cpu float64, err error) {
	out, hangUp, err := r.dial()
	if err != nil {
		return 0, 0, err
	}
	defer hangUp()
	in, hangUpToo, err := r.dial()
	if err != nil {
		return 0, 0, err
	}
	defer hangUpToo()
	const queue = "bare"
	_, err = in.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-single-active-consumer": true})
	err = errors.Join(err, out.Confirm(false), in.Qos(benchPrefetch, 0, false))
	if err != nil {
		return 0, 0, err
	}
	deliveries, err := in.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		return 0, 0, err
	}
	meter, err := r.meter(0)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	published := make(chan error, 1)
	go func() { published <- publishBare(out, queue, r.sample, n) }()
	for got := 1; got <= n; got++ {
		select {
		case d := <-deliveries:
			if got%256 == 0 || got == n {
				if err := d.Ack(true); err != nil {
					return 0, 0, err
				}
			}
		case err := <-published:
			if err != nil {
				return 0, 0, err
			}
			published = nil
			got--
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
	took := time.Since(began)
	used, err := meter()
	return float64(n) / took.Seconds(), used.Seconds() / float64(n) * 100_000, err
}

func publishBare(ch *amqp.Channel, queue string, p amqp.Publishing, n int) error {
	pending := make([]*amqp.DeferredConfirmation, n)
	for i := range n + benchWindow {
		if i >= benchWindow && !pending[i-benchWindow].Wait() {
			return errors.New("the bare client's message was refused")
		}
		if i < n {
			var err error
			if pending[i], err = ch.PublishWithDeferredConfirm("", queue, true, false, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *relayed) dial() (ch *amqp.Channel, hangUp func(), err error) {
	conn, err := amqp.Dial(r.server.URL())
	if err != nil {
		return nil, nil, err
	}
	hangUp = func() { _ = conn.Close() }
	if ch, err = conn.Channel(); err != nil {
		hangUp()
	}
	return ch, hangUp, err
}

// meter counts the CPU time of this program, RabbitMQ and, if it is not 0, the
// server of that postmaster.
func (r *relayed) meter(postmaster int) (used func() (time.Duration, error), err error) {
	now := func() (sum time.Duration, err error) {
		own, err := readStat(os.Getpid())
		if err != nil {
			return 0, err
		}
		broker, err := cpuOfGroup(r.server.Pid())
		if err != nil || postmaster == 0 {
			return own.own + broker, err
		}
		database, err := cpuOfServer(postmaster)
		return own.own + broker + database, err
	}
	from, err := now()
	return func() (time.Duration, error) {
		to, err := now()
		return to - from, err
	}, err
}
