package courante

import (
	"context"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// tail is the end of a log kept in memory. Everybody in the process who is
// close to the end reads it here, so that each event is read from the database
// and decoded once; who is further behind reads the database directly.
type tail struct {
	rt    *Runtime
	store Store
	actor *Actor

	labels metric.MeasurementOption

	mu     sync.Mutex // guards what follows; never held during I/O
	begun  bool
	chunks []chunk // each begins where the one before ends
	size   int     // events in chunks
}

type chunk struct {
	from, to Cursor
	events   []Event
}

const (
	// tailSize is how many events a tail keeps: what a very busy log gets in most
	// of a second, some 4 MB. The collector lets as much garbage gather as lives,
	// so each of them costs memory twice.
	tailSize = 4 << 10
	// tailRead is how many events one read asks for.
	tailRead = 2 << 10
)

func newTail(rt *Runtime, s Store) *tail {
	return &tail{rt: rt, store: s, labels: metric.WithAttributeSet(attribute.NewSet(attribute.String("log", s.Log())))}
}

// step reads what is new at the end of the log.
func (t *tail) step(ctx context.Context) (bool, error) {
	if !t.begun {
		head, err := t.store.Head(ctx)
		if err != nil {
			return false, err
		}
		t.mu.Lock()
		t.begun, t.chunks = true, []chunk{{from: head, to: head}}
		t.mu.Unlock()
		t.rt.grown(t.store.Log())
		return true, nil
	}
	from := t.end()
	events, to, err := t.store.ReadLog(ctx, from, tailRead)
	if err != nil {
		return false, err
	}
	if to == from {
		return false, nil
	}
	if len(events) > 0 {
		t.rt.metrics.delay.Record(ctx, t.rt.now().Sub(events[0].Time).Seconds(), t.labels)
	}
	t.mu.Lock()
	t.chunks = append(t.chunks, chunk{from, to, events})
	t.size += len(events)
	for t.size > tailSize && len(t.chunks) > 1 {
		t.size -= len(t.chunks[0].events)
		t.chunks[0] = chunk{}
		t.chunks = t.chunks[1:]
	}
	t.mu.Unlock()
	if n := t.rt.byName[t.store.Log()]; n != nil {
		n.topics.hear(events)
	}
	t.rt.grown(t.store.Log())
	return true, nil
}

// end is how far the tail has come; the zero Cursor before it has begun.
func (t *tail) end() Cursor {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begun {
		return Cursor{}
	}
	return t.chunks[len(t.chunks)-1].to
}

// read returns the events after the cursor, about max, and where they end.
func (t *tail) read(ctx context.Context, after Cursor, max int) ([]Event, Cursor, error) {
	if events, to, ok := t.cached(after, max); ok {
		return events, to, nil
	}
	return t.store.ReadLog(ctx, after, max)
}

// cached answers from memory; ok is false if the cursor lies before the tail.
func (t *tail) cached(after Cursor, max int) (events []Event, to Cursor, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begun || after.Before(t.chunks[0].from) {
		return nil, after, false
	}
	to = after
	var room [16][]Event
	parts, n := room[:0], 0
	for _, c := range t.chunks {
		if !to.Before(c.to) {
			continue
		}
		fresh := c.events
		for len(fresh) > 0 && to.Covers(&fresh[0]) {
			fresh = fresh[1:]
		}
		full := n+len(fresh) > max
		if full {
			fresh = fresh[:max-n]
		}
		if len(fresh) > 0 {
			parts, n = append(parts, fresh), n+len(fresh)
		}
		if full {
			if len(fresh) > 0 {
				to = fresh[len(fresh)-1].Cursor()
			}
			break
		}
		to = c.to
	}
	if len(parts) == 1 {
		return parts[0][:n:n], to, true // the common case: one chunk, no copy
	}
	return slices.Concat(parts...), to, true
}
