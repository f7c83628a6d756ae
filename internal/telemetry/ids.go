package telemetry

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"
)

// idsOnly traces without recording: what has a trace keeps it, what has none
// gets an id, marked as not sampled. So a log line, an event and the answer to
// a user share a trace id though nobody collects spans, for the price of two
// random numbers at the edge and nothing inside. (The SDK's provider with a
// sampler that always says no makes a new span id at every step.)
type idsOnly struct{ embedded.TracerProvider }

func (idsOnly) Tracer(string, ...trace.TracerOption) trace.Tracer { return idTracer{} }

type idTracer struct{ embedded.Tracer }

func (idTracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, newSpanContext())
	}
	return noop.Tracer{}.Start(ctx, name, options...)
}

func newSpanContext() trace.SpanContext {
	var config trace.SpanContextConfig
	for !config.TraceID.IsValid() || !config.SpanID.IsValid() { // zero is the one forbidden value
		binary.NativeEndian.PutUint64(config.TraceID[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(config.TraceID[8:], rand.Uint64())
		binary.NativeEndian.PutUint64(config.SpanID[:], rand.Uint64())
	}
	return trace.NewSpanContext(config)
}
