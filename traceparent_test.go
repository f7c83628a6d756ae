package courante

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// TestTraceparentIsThePropagators holds our short cut to what the propagator
// makes of the same texts.
func TestTraceparentIsThePropagators(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0a",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
		"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
		"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
		"00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
		"nonsense", "",
	} {
		want := trace.SpanContextFromContext(propagator.Extract(context.Background(), propagation.MapCarrier{"traceparent": text}))
		got := trace.SpanContextFromContext(withParent(context.Background(), text))
		if !got.Equal(want) {
			t.Errorf("%q is read as %+v, want %+v", text, got, want)
		}
		carrier := propagation.MapCarrier{}
		propagator.Inject(trace.ContextWithSpanContext(context.Background(), want), carrier)
		if written := traceparent(want, ""); written != carrier["traceparent"] {
			t.Errorf("%q is written as %q, want %q", text, written, carrier["traceparent"])
		}
	}
}
