package courante

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

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
	began := time.Now()
	for _, it := range items {
		if it.span == nil {
			rt.begin(ctx, it, n.svc.name+" "+it.step.Name)
			own = append(own, it)
		}
		if sc := it.span.SpanContext(); sc.IsSampled() {
			links = append(links, trace.Link{SpanContext: sc})
		}
	}
	rt.metrics.delivered(ctx, n, items)
	var batch trace.Span
	if len(links) > 1 {
		_, batch = rt.tracer.Start(ctx, n.svc.name+" batch", trace.WithNewRoot(), trace.WithLinks(links...),
			trace.WithAttributes(attribute.Int("courante.items", len(items))))
	}
	return func(err error) {
		rt.metrics.decided(ctx, n, items, time.Since(began), err)
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
