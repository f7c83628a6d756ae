package rabbitmq

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	amqp "github.com/rabbitmq/amqp091-go"
)

// The benchmarks measure the adapter beside the client library alone, which
// sends and takes the same messages, with the same window, prepared before.

const benchBatch = 2048 // what a relay publishes at once

func BenchmarkPublish(b *testing.B) {
	server := courantetest.StartRabbitMQ(b)
	for _, lanes := range []int{1, 4} {
		for _, window := range []int{100, 500, 2000, 5000} {
			name := fmt.Sprintf("queues=%d/window=%d", lanes, window)
			b.Run(name+"/bare", func(b *testing.B) {
				f := newBench(b, server, window, lanes)
				ch := f.bare(b)
				if err := ch.Confirm(false); err != nil {
					b.Fatal(err)
				}
				var exchange, key [benchBatch]string
				var list [benchBatch]amqp.Publishing
				for i := range f.messages {
					exchange[i], key[i], list[i], _ = f.broker.names.encode(&f.messages[i])
				}
				f.measure(b, server, func() {
					pending := make([]*amqp.DeferredConfirmation, benchBatch)
					for i := range list {
						if i >= window {
							pending[i-window].Wait()
						}
						var err error
						if pending[i], err = ch.PublishWithDeferredConfirm(exchange[i], key[i], true, false, list[i]); err != nil {
							b.Fatal(err)
						}
					}
					for _, c := range pending {
						if !c.Wait() {
							b.Fatal("nacked")
						}
					}
				})
			})
			b.Run(name+"/adapter", func(b *testing.B) {
				f := newBench(b, server, window, lanes)
				f.measure(b, server, func() {
					if err := f.broker.Publish(b.Context(), f.messages); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}

func BenchmarkConsume(b *testing.B) {
	server := courantetest.StartRabbitMQ(b)
	for _, prefetch := range []int{100, 300, 1000, 3000} {
		// Both acknowledge half of it at a time.
		b.Run(fmt.Sprintf("prefetch=%d/bare", prefetch), func(b *testing.B) {
			f := newBench(b, server, 2000, 1)
			f.fill(b)
			ch := f.bare(b)
			if err := ch.Qos(prefetch, 0, false); err != nil {
				b.Fatal(err)
			}
			deliveries, err := ch.Consume(f.broker.names.queue(f.queues[0]), "", false, false, false, false, nil)
			if err != nil {
				b.Fatal(err)
			}
			f.measure(b, server, func() {
				for n := range benchBatch {
					if d := <-deliveries; n%(prefetch/2) == prefetch/2-1 || n == benchBatch-1 {
						if err := ch.Ack(d.DeliveryTag, true); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		})
		b.Run(fmt.Sprintf("prefetch=%d/adapter", prefetch), func(b *testing.B) {
			f := newBench(b, server, 2000, 1)
			f.fill(b)
			f.broker.config.Prefetch = prefetch
			c, err := f.broker.Consume(b.Context(), f.queues[0])
			if err != nil {
				b.Fatal(err)
			}
			f.measure(b, server, func() {
				unsettled := 0
				for n := 0; n < benchBatch; {
					list, err := c.Take(b.Context(), min(prefetch/2, benchBatch-n))
					if err != nil {
						b.Fatal(err)
					}
					if len(list) == 0 {
						<-c.Arrived()
						continue
					}
					n, unsettled = n+len(list), unsettled+len(list)
					if unsettled < prefetch/2 && n < benchBatch {
						continue
					}
					unsettled = 0
					if err := c.Ack(b.Context(), list[len(list)-1].Tag); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

type bench struct {
	broker   *Broker
	queues   []courante.Queue
	messages []courante.Message
	url      string
}

func newBench(b *testing.B, server *courantetest.RabbitMQ, window, lanes int) *bench {
	b.Helper()
	f := &bench{url: server.URL()}
	var err error
	f.broker, err = Open(b.Context(), Config{
		URLs: []string{f.url}, Prefix: courantetest.RabbitMQPrefix(), Window: window, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(f.broker.Close)
	for i := range lanes {
		f.queues = append(f.queues, courante.Queue{Subscriber: []string{"inventory", "payment", "shipping", "notification"}[i], Lanes: 4})
	}
	if err := f.broker.Declare(b.Context(), f.queues...); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := f.broker.Delete(context.WithoutCancel(b.Context()), f.queues...); err != nil {
			b.Error(err)
		}
	})
	body := `{"order_id":"` + strings.Repeat("0123456789", 48) + `"}`
	for n := range int64(benchBatch) {
		e := &courante.Event{
			Log: "ordering", Stream: "order:ord-0192f3a4-77", Version: 3, Type: "shop.order_created", Schema: 1, Time: time.Now().UTC().Truncate(time.Microsecond),
			Correlation: "ord-0192f3a4-77", Causation: "ordering/order:ord-0192f3a4-77@2", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			Data: []byte(body), Epoch: 1, Tick: 1234567, TickHash: 1 << 63, Position: 99887766 + n, Xid: 5544332,
		}
		m := courante.Message{Event: e, At: e.Cursor()}
		for _, q := range f.queues {
			m.Links = append(m.Links, courante.Link{Queue: q, Epoch: 1, Before: e.Cursor()})
		}
		f.messages = append(f.messages, m)
	}
	return f
}

// fill publishes what a benchmark of consumers will take.
func (f *bench) fill(b *testing.B) {
	for range b.N {
		if err := f.broker.Publish(b.Context(), f.messages); err != nil {
			b.Fatal(err)
		}
	}
}

func (f *bench) bare(b *testing.B) *amqp.Channel {
	conn, err := amqp.Dial(f.url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	return ch
}

// measure runs one batch b.N times. CPU time counts next to the rate: it carries
// over to machines on which the broker has processors of its own.
func (f *bench) measure(b *testing.B, server *courantetest.RabbitMQ, batch func()) {
	client, remote := clientCPU(), serverCPU(b, server.Pid())
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		batch()
	}
	b.StopTimer()
	n := float64(b.N * benchBatch)
	b.ReportMetric(n/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64((clientCPU()-client).Nanoseconds())/1000/n, "client-us/msg")
	b.ReportMetric(float64((serverCPU(b, server.Pid())-remote).Nanoseconds())/1000/n, "server-us/msg")
	b.ReportMetric(0, "ns/op")
}

func clientCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// serverCPU is what the processes of a group have used, where Linux tells.
func serverCPU(b *testing.B, group int) (total time.Duration) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest) // state, parent, group, ...
		if fields[2] != strconv.Itoa(group) {
			continue
		}
		for _, field := range fields[11:13] {
			ticks, _ := strconv.Atoi(field)
			total += time.Duration(ticks) * time.Second / 100
		}
	}
	return total
}
