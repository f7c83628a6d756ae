package courante

import (
	"context"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// BenchmarkBatchMetrics is what telemetry adds to a full batch of two steps.
func BenchmarkBatchMetrics(b *testing.B) {
	s := NewService("bank")
	steps := []*step{s.addStep(Step{Name: "one"}, trigger{event: "a"}), s.addStep(Step{Name: "two"}, trigger{event: "b"})}
	m, err := newMetrics(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())).Meter(scope))
	if err != nil {
		b.Fatal(err)
	}
	n := &node{rt: &Runtime{cfg: Config{Now: time.Now}, metrics: m}, svc: s, labels: newLabels(s)}
	items := make([]*item, 256)
	for i := range items {
		items[i] = &item{step: steps[i%2], event: &Event{Time: time.Now()}, decision: &Decision{}}
	}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		m.delivered(ctx, n, items)
		m.decided(ctx, n, items, time.Millisecond, nil)
		m.unit(ctx, n, time.Millisecond, nil)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(items)), "ns/event")
}
