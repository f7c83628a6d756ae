//go:build linux || darwin

package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/courante-dev/courante/app"
)

// traceCollector is an OpenTelemetry collector that keeps what it is sent.
type traceCollector struct {
	mu    sync.Mutex // guards spans
	spans []*tracepb.Span
}

func (c *traceCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "not a trace", http.StatusBadRequest)
		return
	}
	var req collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range req.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
}

// of returns the spans of a trace.
func (c *traceCollector) of(trace string) []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*tracepb.Span
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == trace {
			list = append(list, s)
		}
	}
	return list
}

// batches returns the spans of transactions that several items shared.
func (c *traceCollector) batches() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*tracepb.Span
	for _, s := range c.spans {
		if strings.HasSuffix(s.Name, " batch") {
			list = append(list, s)
		}
	}
	return list
}

func spanNames(spans []*tracepb.Span) []string {
	var list []string
	for _, s := range spans {
		list = append(list, s.Name)
	}
	slices.Sort(list)
	return list
}

// TestOneTraceFromTheRequestToTheLastReaction sends the trace context that a
// browser would, and wants everything that the order brings about in it.
func TestOneTraceFromTheRequestToTheLastReaction(t *testing.T) {
	t.Parallel()
	spans := &traceCollector{}
	server := httptest.NewServer(spans)
	defer server.Close()
	p := up(t, dataDir(t),
		"OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL, "OTEL_METRICS_EXPORTER=none", "OTEL_BSP_SCHEDULE_DELAY=50")
	p.call(http.MethodPost, "/v1/inventory/tea/receipts", `{"quantity": 1000}`)

	const trace, browser = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	p.place("traced", "tok_ok", "traceparent", "00-"+trace+"-"+browser+"-01")
	p.becomes("traced", "confirmed")
	want := []string{
		"POST /v1/orders", "ordering place order",
		"inventory reserve stock", "payment charge", "payment perform charge", "payment take the provider's answer",
		"shipping ship", "shipping perform book", "inventory issue goods",
		"ordering confirm", "notification write the confirmation", "notification perform mail", "notification note that the mail is sent",
	}
	p.until("one trace with all steps", func() bool {
		have := spanNames(spans.of(trace))
		return !slices.ContainsFunc(want, func(name string) bool { return !slices.Contains(have, name) })
	}, func() any { return spanNames(spans.of(trace)) })
	checkTree(t, spans.of(trace), browser)
	if _, answer := p.call(http.MethodGet, "/v1/sagas/traced", ""); strings.Count(fmt.Sprint(answer), trace) < 10 {
		t.Errorf("the saga does not show its trace: %v", answer)
	}

	// Orders that come together share transactions. A transaction belongs to
	// no single trace, so it has a span of its own, with links to its items.
	round := 0
	p.until("a batch", func() bool {
		round++
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() { p.place(fmt.Sprintf("together-%d-%d", round, i), "tok_ok") })
		}
		wg.Wait()
		return len(spans.batches()) > 0
	}, func() any { return "no batch" })
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != app.ExitOK {
		t.Fatalf("exit code %d\n%s", code, p.said())
	}
	for _, batch := range spans.batches() {
		if len(batch.Links) < 2 {
			t.Errorf("batch %q has %d links, want one for each item", batch.Name, len(batch.Links))
		}
		for _, link := range batch.Links {
			id := hex.EncodeToString(link.SpanId)
			if !slices.ContainsFunc(spans.of(hex.EncodeToString(link.TraceId)), func(s *tracepb.Span) bool { return hex.EncodeToString(s.SpanId) == id }) {
				t.Errorf("batch %q is linked to span %s, which was never sent", batch.Name, id)
			}
		}
	}
}

// checkTree wants every span to hang below another one, and the first below
// the browser's.
func checkTree(t *testing.T, spans []*tracepb.Span, root string) {
	t.Helper()
	ids := map[string]bool{root: true}
	for _, s := range spans {
		ids[hex.EncodeToString(s.SpanId)] = true
	}
	for _, s := range spans {
		parent := hex.EncodeToString(s.ParentSpanId)
		if !ids[parent] {
			t.Errorf("span %q hangs below %q, which is not in the trace", s.Name, parent)
		}
		if s.Name == "POST /v1/orders" && parent != root {
			t.Errorf("the request hangs below %s, want the browser's span %s", parent, root)
		}
	}
}
