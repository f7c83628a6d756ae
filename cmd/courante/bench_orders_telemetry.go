package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/courante-dev/courante/internal/telemetry"
)

// spanSink takes spans over OTLP/HTTP, counts them and forgets them. It is in
// this program, so what it costs counts.
type spanSink struct {
	server *http.Server
	url    string
	spans  atomic.Int64
}

func startSpanSink(ctx context.Context) (*spanSink, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &spanSink{url: "http://" + listener.Addr().String()}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.server.Serve(listener) }() // until it is closed
	return s, nil
}

// ServeHTTP takes one export.
func (s *spanSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// ExportTraceServiceRequest.resource_spans is field 1, its scope_spans
	// field 2, whose spans are field 2.
	s.spans.Add(int64(countFields(body, 1, 2, 2)))
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// countFields counts the messages at the end of a path of field numbers.
func countFields(message []byte, path ...protowire.Number) int {
	if len(path) == 0 {
		return 1
	}
	count := 0
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return count
		}
		message = message[n:]
		if field == path[0] && kind == protowire.BytesType {
			inner, _ := protowire.ConsumeBytes(message)
			count += countFields(inner, path[1:]...)
		}
		if n = protowire.ConsumeFieldValue(field, kind, message); n < 0 {
			return count
		}
		message = message[n:]
	}
	return count
}

// startTelemetry sets telemetry up as "up" does it, with the sink as the place
// where spans go.
func (t *town) startTelemetry(ctx context.Context, share float64) (err error) {
	if t.tel, err = telemetry.Start(ctx, telemetry.Config{Service: "courante"}); err != nil || share == 0 {
		return err
	}
	if t.spans, err = startSpanSink(ctx); err != nil {
		return err
	}
	t.closers = append(t.closers, func() { t.spans.server.Close() })
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(t.spans.url+"/v1/traces"))
	if err != nil {
		return err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(share))))
	t.tracer = provider
	t.closers = append(t.closers, func() {
		if err := provider.Shutdown(context.WithoutCancel(ctx)); err != nil {
			t.db.p.Log.Warn("send the last spans", "error", err)
		}
	})
	return nil
}

// batch is how many transactions a service made, and of how many items.
type batch struct{ count, items float64 }

// batches reads the metric of batch sizes, by service.
func (t *town) batches() (map[string]batch, error) {
	w := httptest.NewRecorder()
	t.tel.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	all := map[string]batch{}
	lines := bufio.NewScanner(bytes.NewReader(w.Body.Bytes()))
	for lines.Scan() {
		rest, found := strings.CutPrefix(lines.Text(), "courante_unit_items_")
		if !found {
			continue
		}
		head, value, _ := strings.Cut(rest, "} ")
		_, service, _ := strings.Cut(head, `service="`)
		service, _, _ = strings.Cut(service, `"`)
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("read the metrics: %q: %w", lines.Text(), err)
		}
		b := all[service]
		switch {
		case strings.HasPrefix(head, "items_count"), strings.HasPrefix(head, "count"):
			b.count = n
		case strings.HasPrefix(head, "items_sum"), strings.HasPrefix(head, "sum"):
			b.items = n
		}
		all[service] = b
	}
	return all, lines.Err()
}
