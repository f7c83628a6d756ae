package courante

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// backlog knows what waits for the lanes of a service in this process and how
// long they take for it. Its seconds to drain are the signal to scale by: a
// count of messages says nothing before one knows what each of them costs, and
// brokers count only those that nobody has taken yet.
type backlog struct {
	n     *node
	actor *Actor // looks at the broker's queues; nil without a broker
	asked time.Time

	mu      sync.Mutex // guards what follows
	perItem float64    // seconds that a lane takes for an item, smoothed
	queued  int        // messages in the queues of the lanes here, as last seen
}

// backlogEvery is how often queues are looked at.
const backlogEvery = 5 * time.Second

// note says that a lane took so long for a batch.
func (b *backlog) note(items int, took time.Duration) {
	if items == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	per := took.Seconds() / float64(items)
	if b.perItem == 0 {
		b.perItem = per
	}
	// A full batch says more about what a backlog costs than one of a single
	// item, which pays for its commit alone.
	weight := min(1, float64(items)/float64(4*b.n.rt.cfg.Batch)+1.0/256)
	b.perItem += (per - b.perItem) * weight
}

// step asks the broker how much waits in the queues of the lanes here.
func (b *backlog) step(ctx context.Context) (bool, error) {
	now := b.n.rt.now()
	if now.Before(b.next()) {
		return false, nil
	}
	b.asked = now
	total := 0
	for _, q := range b.n.rt.wire.queues(b.n.svc.name) {
		depth, err := b.n.rt.cfg.Broker.Depth(ctx, q)
		if err != nil {
			return false, err
		}
		total += depth
	}
	b.mu.Lock()
	b.queued = total
	b.mu.Unlock()
	return false, nil
}

func (b *backlog) next() time.Time {
	if b.asked.IsZero() {
		return b.asked
	}
	return b.asked.Add(backlogEvery)
}

// drain is how many seconds the lanes here take for what waits for them. Of what
// is read from logs it counts the events in memory.
func (b *backlog) drain() float64 {
	events := 0
	b.n.eachPending(func(e *Event) {
		if b.n.rt.wire == nil || e.Log == b.n.svc.name { // else they are counted in the queues
			events++
		}
	})
	lanes := 0
	for _, c := range b.n.consumers {
		if b.n.holds(laneName(c.k)) {
			lanes++
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(events+b.queued) * b.perItem / float64(max(lanes, 1))
}

// queues are those that this process consumes for a subscriber.
func (t *brokerTransport) queues(subscriber string) (list []Queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for q := range t.intake {
		if q.Subscriber == subscriber {
			list = append(list, q)
		}
	}
	return list
}

// observeBacklog tells what waits, and how long it takes to drain.
func (g *gauges) observeBacklog(n *node, o metric.Observer) {
	service := attribute.String("service", n.svc.name)
	if len(n.consumers) > 0 {
		o.ObserveFloat64(g.drain, n.backlog.drain(), metric.WithAttributes(service, attribute.String("work", "events")))
	}
	if len(n.svc.effects) > 0 {
		o.ObserveFloat64(g.drain, n.performers.drain(), metric.WithAttributes(service, attribute.String("work", "effects")))
		o.ObserveInt64(g.atOnce, int64(n.performers.limit()), n.labels.service)
	}
}
