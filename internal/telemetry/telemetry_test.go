package telemetry_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/courante-dev/courante/internal/telemetry"
)

// The tests of Start set environment variables, so they are not parallel.

func start(t *testing.T) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Service: "courante", Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tel
}

func TestWithoutAnExporterTracesPassThrough(t *testing.T) {
	tracer := start(t).Tracer.Tracer("test")
	came := traced(t.Context())
	ctx, span := tracer.Start(came, "step")
	if got, want := trace.SpanContextFromContext(ctx), trace.SpanContextFromContext(came); !got.Equal(want) {
		t.Errorf("got %v, want what came in, %v", got, want)
	}
	if span.IsRecording() {
		t.Error("a span is recorded that nobody collects")
	}

	ctx, _ = tracer.Start(t.Context(), "request")
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() || sc.IsSampled() {
		t.Errorf("got %v, want a new trace id that is not sampled", sc)
	}
	inner, _ := tracer.Start(ctx, "step")
	if got := trace.SpanContextFromContext(inner); !got.Equal(sc) {
		t.Errorf("got %v within %v, want the same", got, sc)
	}
}

func TestMetricsAreServed(t *testing.T) {
	tel := start(t)
	h, err := tel.Meter.Meter("test").Float64Histogram("courante.command.duration", metric.WithUnit("s"))
	if err != nil {
		t.Fatal(err)
	}
	h.Record(t.Context(), 0.0004)
	j, err := tel.Meter.Meter("test").Float64Histogram("courante.journey.duration", metric.WithUnit("s"))
	if err != nil {
		t.Fatal(err)
	}
	j.Record(t.Context(), 5000)
	body := scrape(t, tel)
	for _, want := range []string{
		`courante_command_duration_seconds_bucket{le="0.0005"} 1`, // our buckets, not those of milliseconds
		`courante_journey_duration_seconds_bucket{le="14400"} 1`,
		"go_goroutine_count", "process_cpu_seconds_total",
		`service_name="courante"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s:\n%s", want, body)
		}
	}
}

func scrape(t *testing.T, tel *telemetry.Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics: %d\n%s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestDisabledCollectsNothing(t *testing.T) {
	t.Setenv("OTEL_SDK_DISABLED", "true")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	tel := start(t)
	if body := scrape(t, tel); body != "" {
		t.Errorf("/metrics: got %q, want nothing", body)
	}
	if _, span := tel.Tracer.Tracer("test").Start(t.Context(), "step"); span.IsRecording() {
		t.Error("a span is recorded")
	}
}

func TestShutdownSendsWhatIsLeft(t *testing.T) {
	received := make(chan string, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- r.URL.Path + " " + string(body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	t.Setenv("OTEL_SERVICE_NAME", "orders-of-tuesday")
	tel := start(t)
	_, span := tel.Tracer.Tracer("test").Start(t.Context(), "reserve stock")
	span.End()
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-received:
		for _, want := range []string{"/v1/traces ", "reserve stock", "orders-of-tuesday"} {
			if !strings.Contains(got, want) {
				t.Errorf("the collector received %q, want %q in it", got, want)
			}
		}
	default:
		t.Error("nothing was sent by the end of Shutdown")
	}
}

func TestShutdownDoesNotWaitForADeafCollector(t *testing.T) {
	release := make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer collector.Close()
	defer close(release)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Service: "courante", Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	_, span := tel.Tracer.Tracer("test").Start(t.Context(), "step")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := tel.Shutdown(ctx); err == nil {
		t.Error("got no error, want one that says what was not sent")
	}
}

func TestABadExporterSaysWhereToLook(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "smoke")
	_, err := telemetry.Start(t.Context(), telemetry.Config{Service: "courante", Version: "v1"})
	if err == nil || !strings.Contains(err.Error(), "OTEL_") {
		t.Errorf("got %v, want an error that names the variables", err)
	}
}

// TestADeafCollectorHoldsNothingUp records far more than the exporter's queue
// takes while the collector answers nothing: what is measured must go on, and
// what people scrape must come.
func TestADeafCollectorHoldsNothingUp(t *testing.T) {
	release := make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer collector.Close()
	defer close(release)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Service: "courante", Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	h, err := tel.Meter.Meter("test").Float64Histogram("courante.command.duration", metric.WithUnit("s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 10_000 {
			ctx, span := tel.Tracer.Tracer("test").Start(t.Context(), "step")
			h.Record(ctx, 0.001)
			span.End()
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("recording waits for the collector")
	}
	if body := scrape(t, tel); !strings.Contains(body, "courante_command_duration_seconds_count") || !strings.Contains(body, "} 10000") {
		t.Errorf("/metrics lacks what was recorded:\n%s", body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_ = tel.Shutdown(ctx) // it cannot send; that it says so is tested above
}
