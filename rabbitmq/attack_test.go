package rabbitmq_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/rabbitmq"
)

// TestAttacks does to RabbitMQ and to the network what operations do to them,
// while messages flow: none that was confirmed may be missing, and everything
// goes on by itself.
func TestAttacks(t *testing.T) {
	t.Parallel()
	server := courantetest.StartRabbitMQ(t)
	f := startFlow(t, server.URL())
	for _, attack := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"connections cut", func(t *testing.T) {
			for range 5 {
				f.line.cut()
				f.more(t)
			}
		}},
		{"connections closed by an operator", func(t *testing.T) {
			server.Control(t, "close_all_connections", "maintenance")
		}},
		{"half-open connections", func(t *testing.T) {
			// Nothing gets through and nobody says so: only heartbeats tell.
			f.line.freeze()
			f.more(t)
		}},
		{"full", func(t *testing.T) { refuse(t, server) }},
		{"stopped in its tracks", func(t *testing.T) {
			server.Pause()
			f.failed(t)
			server.Resume()
		}},
		{"short of memory", func(t *testing.T) {
			server.Control(t, "set_vm_memory_high_watermark", "absolute", "1")
			f.logged(t, "takes no messages")
			server.Control(t, "set_vm_memory_high_watermark", "absolute", "1GB")
		}},
		// Last, since RabbitMQ needs a while before a new queue survives this.
		{"killed", func(t *testing.T) {
			server.Kill()
			server.Start(t)
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			f.more(t)
			attack.do(t)
			f.more(t)
		})
	}
	f.stop(t)
}

// refuse has RabbitMQ refuse messages in the middle of a batch, as it does when
// a queue is full or has just lost its leader.
func refuse(t *testing.T, server *courantetest.RabbitMQ) {
	b := open(t, rabbitmq.Config{URLs: []string{server.URL()}, Prefix: courantetest.RabbitMQPrefix()})
	q := courante.Queue{Subscriber: "full", Lanes: 1}
	if err := b.Declare(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	server.Control(t, "set_policy", "full", ".*/lane/full/.*", `{"max-length":100}`)
	var err error
	from := int64(0) // everything up to here was confirmed
	for ; err == nil; from += 500 {
		if from > 100_000 {
			t.Fatal("a full queue still takes messages")
		}
		err = b.Publish(t.Context(), numbered(q, from+1, from+500))
	}
	from -= 500
	if !errors.Is(err, courante.ErrTransient) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("published to a full queue: %v, want a transient error that says that it was refused", err)
	}
	server.Control(t, "clear_policy", "full")
	if err := b.Publish(t.Context(), numbered(q, from+1, from+500)); err != nil {
		t.Fatalf("published once there was room: %v", err)
	}
	c, err := b.Consume(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for at := int64(0); at < from+500; {
		list, err := c.Take(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			select {
			case <-c.Arrived():
				continue
			case <-time.After(flowPatience):
				t.Fatalf("received up to %d of %d, and then nothing", at, from+500)
			}
		}
		for _, d := range list {
			if d.Event.Version == at+1 {
				at++
			}
		}
		if err := c.Ack(t.Context(), list[len(list)-1].Tag); err != nil {
			t.Fatal(err)
		}
	}
}

// numbered is the messages of events from..to.
func numbered(q courante.Queue, from, to int64) (list []courante.Message) {
	for n := from; n <= to; n++ {
		e := courante.Event{Log: "ordering", Stream: "order:1", Version: n, Type: "shop.order_created", Tick: n}
		list = append(list, courante.Message{Event: &e, At: e.Cursor(), Links: []courante.Link{{Queue: q, Epoch: 1, Before: courante.Cursor{Tick: n - 1}}}})
	}
	return list
}

// flow publishes numbered messages, as a relay does, and takes them, as a lane
// does, until it is stopped.
type flow struct {
	line      *line
	log       *logBook
	published atomic.Int64 // confirmed
	received  atomic.Int64 // all up to this one
	failures  atomic.Int64
	moved     chan struct{}
	stopping  chan struct{} // closed when enough was published
	over      chan struct{} // closed when all of it was received

	publishing, receiving sync.WaitGroup
}

const flowPatience = 90 * time.Second

func startFlow(t *testing.T, addresses ...string) *flow {
	t.Helper()
	f := &flow{line: newLine(t), log: &logBook{t: t}, moved: make(chan struct{}, 1), stopping: make(chan struct{}), over: make(chan struct{})}
	config := rabbitmq.Config{
		URLs: addresses, Prefix: courantetest.RabbitMQPrefix(), Heartbeat: time.Second, Dial: f.line.dial,
		Logger: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	publisher, consumer := open(t, config), open(t, config)
	q := courante.Queue{Subscriber: "inventory", Lanes: 1}
	c, err := consumer.Consume(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	f.publishing.Go(func() { f.publish(t.Context(), publisher, q) })
	f.receiving.Go(func() { f.receive(t, c) })
	return f
}

func (f *flow) publish(ctx context.Context, b courante.Broker, q courante.Queue) {
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for at := int64(0); ; {
		select {
		case <-f.stopping:
			return
		default:
		}
		if err := b.Publish(ctx, numbered(q, at+1, at+50)); err != nil {
			if !errors.Is(err, courante.ErrTransient) {
				return // the flow stands still, which the test notices
			}
			f.failures.Add(1)
			f.signal()
			<-pace.C // a relay that has failed waits as well
			continue
		}
		at += 50
		f.published.Store(at)
		f.signal()
	}
}

func (f *flow) receive(t *testing.T, c courante.Consumption) {
	defer c.Close()
	at := int64(0)
	for {
		list, err := c.Take(t.Context(), 100)
		if err != nil {
			t.Error(err)
			return
		}
		for _, d := range list {
			// Others are repeated, or have lost one before them and are repeated
			// behind it.
			if d.Event.Version == at+1 {
				at++
			}
		}
		if len(list) > 0 {
			if err := c.Ack(t.Context(), list[len(list)-1].Tag); err != nil {
				t.Error(err)
				return
			}
			f.received.Store(at)
			f.signal()
			continue
		}
		select {
		case <-c.Arrived():
		case <-f.over:
			return
		}
	}
}

func (f *flow) signal() {
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

// until waits for something that the flow does.
func (f *flow) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(flowPatience)
	for !done() {
		select {
		case <-f.moved:
		case <-f.log.moved():
		case <-deadline:
			t.Fatalf("no %s for %v: %d confirmed, received up to %d, %d failures", what, flowPatience, f.published.Load(), f.received.Load(), f.failures.Load())
		}
	}
}

// more waits until messages flow that were published after now.
func (f *flow) more(t *testing.T) {
	t.Helper()
	goal := f.published.Load() + 200
	f.until(t, "more messages", func() bool { return f.received.Load() >= goal })
}

func (f *flow) failed(t *testing.T) {
	t.Helper()
	before := f.failures.Load()
	f.until(t, "failure", func() bool { return f.failures.Load() > before })
}

func (f *flow) logged(t *testing.T, text string) {
	t.Helper()
	f.until(t, "log entry "+text, func() bool { return f.log.has(text) })
}

func (f *flow) stop(t *testing.T) {
	t.Helper()
	close(f.stopping)
	f.publishing.Wait()
	f.until(t, "end", func() bool { return f.received.Load() >= f.published.Load() })
	close(f.over)
	f.receiving.Wait()
}

// logBook keeps what was logged, for tests that wait for it.
type logBook struct {
	t     *testing.T
	mu    sync.Mutex
	lines []string
	news  chan struct{}
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	if l.news != nil {
		close(l.news)
		l.news = nil
	}
	return l.t.Output().Write(p)
}

func (l *logBook) moved() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.news == nil {
		l.news = make(chan struct{})
	}
	return l.news
}

func (l *logBook) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool { return strings.Contains(line, text) })
}
