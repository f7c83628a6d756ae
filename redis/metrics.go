package redis

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics count what readers got, and from where.
type metrics struct {
	reads  metric.Int64Counter
	put    metric.Int64Counter
	unkept metric.Int64Counter
	stop   func()
	known  sync.Map // by collection: *counts
}

// counts are the counters of one collection, by where its documents came from.
type counts struct{ l1, l2, refreshed, missed, failed, source count }

// count is a counter with its attributes, made once.
type count struct {
	of   metric.Int64Counter
	with metric.AddOption
}

func (c count) Add(ctx context.Context, n int64) { c.of.Add(ctx, n, c.with) }

func newMetrics(c *Client) (*metrics, error) {
	meter := c.config.Meter.Meter("github.com/courante-dev/courante/redis")
	m := &metrics{}
	var errs [4]error
	m.reads, errs[0] = meter.Int64Counter("courante.cache.reads", metric.WithUnit("{read}"),
		metric.WithDescription("reads of documents, by level: l1, l2, miss, failed (Redis did not answer), source (Redis was not asked), stale (one that was served while it is loaded again)"))
	m.put, errs[1] = meter.Int64Counter("courante.cache.put", metric.WithUnit("{document}"),
		metric.WithDescription("documents put because their states changed"))
	m.unkept, errs[2] = meter.Int64Counter("courante.cache.unkept", metric.WithUnit("{document}"),
		metric.WithDescription("documents that were loaded and could not be put"))
	breaker, err := meter.Int64ObservableGauge("courante.cache.breaker", metric.WithUnit("{breaker}"),
		metric.WithDescription("1 while reads leave Redis out because it does not answer in time"))
	if err := errors.Join(append(errs[:], err)...); err != nil {
		return nil, err
	}
	r, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		state := int64(0)
		if c.open() {
			state = 1
		}
		o.ObserveInt64(breaker, state)
		return nil
	}, breaker)
	if err != nil {
		return nil, err
	}
	m.stop = func() { _ = r.Unregister() } // it fails for foreign registrations only
	return m, nil
}

func (m *metrics) of(collection string) metric.AddOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("collection", collection)))
}

func (m *metrics) collection(name string) *counts {
	if known, ok := m.known.Load(name); ok {
		return known.(*counts)
	}
	level := func(level string) count {
		return count{m.reads, metric.WithAttributeSet(attribute.NewSet(attribute.String("collection", name), attribute.String("level", level)))}
	}
	made, _ := m.known.LoadOrStore(name, &counts{
		l1: level("l1"), l2: level("l2"), refreshed: level("stale"), missed: level("miss"), failed: level("failed"), source: level("source"),
	})
	return made.(*counts)
}
