package courante

import (
	"context"
	"encoding/hex"
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
		ctx = withParent(ctx, it.parent)
	}
	kind := trace.SpanKindInternal
	if it.event != nil {
		kind = trace.SpanKindConsumer
	}
	ctx, it.span = rt.tracer.Start(ctx, name, trace.WithSpanKind(kind))
	if it.span.IsRecording() { // most are not, where a share of the traces is sampled
		it.span.SetAttributes(attribute.String("courante.correlation", it.correlation))
		if it.event != nil {
			it.span.SetAttributes(attribute.String("courante.event", it.event.ID()), attribute.String("courante.type", it.event.Type))
		}
	}
	it.trace = traceparent(it.span.SpanContext(), it.parent)
	return ctx
}

// withParent puts the span of a W3C traceparent into ctx. Ours are all of one
// form, for which the propagator's map and its look at each character are not
// needed: they cost more than a span that is not sampled.
func withParent(ctx context.Context, parent string) context.Context {
	if len(parent) == traceparentSize && parent[:3] == "00-" && parent[35] == '-' && parent[52] == '-' && parent[53] == '0' {
		id, err := trace.TraceIDFromHex(parent[3:35])
		span, err2 := trace.SpanIDFromHex(parent[36:52])
		if flags := parent[54] - '0'; err == nil && err2 == nil && flags <= 3 {
			return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags), Remote: true,
			}))
		}
	}
	return propagator.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
}

// traceparentSize is the length of "00-", 16 bytes in hex, "-", 8 bytes in hex,
// "-" and the flags.
const traceparentSize = 55

// traceparent writes a span as a W3C traceparent; without one, what came in goes
// out.
func traceparent(sc trace.SpanContext, otherwise string) string {
	if !sc.IsValid() {
		return otherwise
	}
	id, span := sc.TraceID(), sc.SpanID()
	text := append(make([]byte, 0, traceparentSize), "00-"...)
	text = append(hex.AppendEncode(text, id[:]), '-')
	text = append(hex.AppendEncode(text, span[:]), '-')
	return string(hex.AppendEncode(text, []byte{byte(sc.TraceFlags() & (trace.FlagsSampled | trace.FlagsRandom))}))
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
		ctx = withParent(ctx, t.Trace)
	}
	ctx, span := rt.tracer.Start(ctx, n.svc.name+" perform "+ef.name, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("courante.effect", t.Effect.ID), attribute.Int("courante.attempt", t.attempts+1))
	}
	return ctx, func(err error) { endSpan(span, err) }
}
