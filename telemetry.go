package courante

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// metrics are the runtime's instruments. Names follow OpenTelemetry's custom:
// dots, units beside the name.
type metrics struct {
	commands  metric.Float64Histogram
	batches   metric.Int64Histogram
	effects   metric.Float64Histogram
	conflicts metric.Int64Counter
	parked    metric.Int64Counter
	stopped   metric.Int64Counter
	lag       metric.Float64Histogram
}

func newMetrics(m metric.Meter) (*metrics, error) {
	var out metrics
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	var err error
	out.commands, err = m.Float64Histogram("courante.command.duration", metric.WithUnit("s"),
		metric.WithDescription("from the call of a command to its durable answer"))
	keep(err)
	out.batches, err = m.Int64Histogram("courante.batch.size", metric.WithUnit("{item}"),
		metric.WithDescription("items decided in one transaction"),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
	keep(err)
	out.effects, err = m.Float64Histogram("courante.effect.duration", metric.WithUnit("s"),
		metric.WithDescription("one attempt of a call to the outside"))
	keep(err)
	out.conflicts, err = m.Int64Counter("courante.batch.conflicts", metric.WithUnit("{conflict}"),
		metric.WithDescription("batches decided again because somebody else changed a state"))
	keep(err)
	out.parked, err = m.Int64Counter("courante.parked", metric.WithUnit("{message}"),
		metric.WithDescription("messages set aside because their handler failed"))
	keep(err)
	out.stopped, err = m.Int64Counter("courante.subscriber.stopped", metric.WithUnit("{lane}"),
		metric.WithDescription("lanes that stopped for good and wait for a repair"))
	keep(err)
	out.lag, err = m.Float64Histogram("courante.subscriber.lag", metric.WithUnit("s"),
		metric.WithDescription("from the decision that emitted an event to its handling by a subscriber"))
	keep(err)
	return &out, errors.Join(errs...)
}

func (m *metrics) command(ctx context.Context, n *node, c *Command, took time.Duration, err error) {
	m.commands.Record(ctx, took.Seconds(), metric.WithAttributes(
		attribute.String("service", n.svc.name), attribute.String("command", c.Name), attribute.String("outcome", outcome(err))))
}

func (m *metrics) effect(ctx context.Context, n *node, ef *effect, took time.Duration, err error) {
	m.effects.Record(ctx, took.Seconds(), metric.WithAttributes(
		attribute.String("service", n.svc.name), attribute.String("effect", ef.name), attribute.String("outcome", outcome(err))))
}

// outcome is the class of an error, for metrics.
func outcome(err error) string {
	var no *Rejection
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &no):
		return "rejected"
	case errors.Is(err, ErrUnknownOutcome):
		return "unknown"
	case isTransient(err):
		return "transient"
	default:
		return "error"
	}
}

var propagator = propagation.TraceContext{}

// begin starts the span of an item, below the span in ctx or, for what comes
// from the log, below the one that emitted it. What the item emits carries the
// item's span on.
func (rt *Runtime) begin(ctx context.Context, it *item, name string) context.Context {
	if it.parent != "" {
		ctx = propagator.Extract(ctx, propagation.MapCarrier{"traceparent": it.parent})
	}
	attrs := []attribute.KeyValue{attribute.String("courante.correlation", it.correlation)}
	kind := trace.SpanKindInternal
	if it.event != nil {
		kind = trace.SpanKindConsumer
		attrs = append(attrs, attribute.String("courante.event", it.event.ID()), attribute.String("courante.type", it.event.Type))
	}
	ctx, it.span = rt.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
	it.trace = traceparent(ctx, it.parent)
	return ctx
}

// traceparent writes the span in ctx as a W3C traceparent; without one, what
// came in goes out.
func traceparent(ctx context.Context, otherwise string) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return otherwise
	}
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	return carrier["traceparent"]
}

func (it *item) end(err error) {
	if it.span == nil {
		return
	}
	endSpan(it.span, err)
	it.span = nil
}

func endSpan(span trace.Span, err error) {
	var no *Rejection
	if err != nil && !errors.As(err, &no) {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// beginBatch starts the spans of items that have none yet, and one span for
// the transaction that they share, linked to each of them.
func (rt *Runtime) beginBatch(ctx context.Context, n *node, items []*item) (end func(error)) {
	if len(items) == 0 {
		return func(error) {}
	}
	var links []trace.Link
	var own []*item
	now := rt.now()
	for _, it := range items {
		if it.span == nil {
			rt.begin(ctx, it, n.svc.name+" "+it.step.Name)
			own = append(own, it)
		}
		if it.event != nil {
			rt.metrics.lag.Record(ctx, now.Sub(it.event.Time).Seconds(), n.attrs)
		}
		if sc := it.span.SpanContext(); sc.IsSampled() {
			links = append(links, trace.Link{SpanContext: sc})
		}
	}
	rt.metrics.batches.Record(ctx, int64(len(items)), n.attrs)
	var batch trace.Span
	if len(links) > 1 {
		_, batch = rt.tracer.Start(ctx, n.svc.name+" batch", trace.WithNewRoot(), trace.WithLinks(links...),
			trace.WithAttributes(attribute.Int("courante.items", len(items))))
	}
	return func(err error) {
		for _, it := range own {
			if failure := it.err; failure != nil {
				it.end(failure)
				continue
			}
			it.end(err)
		}
		if batch != nil {
			endSpan(batch, err)
		}
	}
}

// beginEffect starts the span of one attempt of an effect.
func (rt *Runtime) beginEffect(ctx context.Context, n *node, ef *effect, t *task) (context.Context, func(error)) {
	if t.Trace != "" {
		ctx = propagator.Extract(ctx, propagation.MapCarrier{"traceparent": t.Trace})
	}
	ctx, span := rt.tracer.Start(ctx, n.svc.name+" perform "+ef.name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("courante.effect", t.Effect.ID), attribute.Int("courante.attempt", t.attempts+1)))
	return ctx, func(err error) { endSpan(span, err) }
}
