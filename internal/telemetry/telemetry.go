// Package telemetry sets up what a program tells about itself: spans, metrics
// and log lines, each in the one form that docs/ promises.
//
// Set-up follows the standard OTEL_* variables and needs none of them:
//
//   - Metrics are always collected and served to Prometheus by [Telemetry.Metrics].
//   - Spans are made and exported once an exporter is configured. Without one
//     nothing is recorded; a trace id is still given to what begins here and
//     passed on from what came in, so log lines and events can be put together.
//   - OTEL_SDK_DISABLED=true turns both off.
//
// Log lines are made by [NewLogger].
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	goruntime "go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config says who tells.
type Config struct {
	Service string // service.name, unless OTEL_SERVICE_NAME says otherwise
	Version string // service.version
}

// Telemetry is what a program hands to everything that reports.
type Telemetry struct {
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider

	registry *prometheus.Registry
	shutdown []func(context.Context) error
}

// Start sets telemetry up. It reads the OTEL_* variables here and not in the
// program, because the SDK and its exporters read most of them by themselves,
// and half of a standard is worse than none.
func Start(ctx context.Context, config Config) (_ *Telemetry, err error) {
	t := &Telemetry{registry: prometheus.NewRegistry(), Tracer: idsOnly{}, Meter: noopmetric.NewMeterProvider()}
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return t, nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("set up telemetry: %w; the OTEL_* environment variables say what to export where", err), t.Shutdown(ctx))
		}
	}()
	// The environment comes last and so has the last word.
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", config.Service), attribute.String("service.version", config.Version)),
		resource.WithHost(), resource.WithProcessPID(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, err
	}
	if err := t.startMetrics(ctx, about); err != nil {
		return nil, err
	}
	if !exports("TRACES") {
		return t, nil
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return nil, err
	}
	if autoexport.IsNoneSpanExporter(exporter) {
		return t, nil
	}
	spans := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	t.Tracer = spans
	t.shutdown = append(t.shutdown, spans.Shutdown)
	return t, nil
}

// exports reports whether the environment asks for an exporter of the signal.
// Strictly by the standard it would be OTLP to localhost when nothing is set,
// and every laptop would log refused connections.
func exports(signal string) bool {
	if name := os.Getenv("OTEL_" + signal + "_EXPORTER"); name != "" {
		return name != "none"
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// durations are the buckets of everything measured in seconds: from a commit
// on a fast disk (0.2 ms) to a saga with a silent partner (a minute), each
// about twice the one before, so that a p99 is never off by more than that.
var durations = []float64{.0002, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// journeys are the buckets of whole conversations, which may take days.
var journeys = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600}

// buckets is the view that chooses the buckets. Where two views fit one
// instrument it is collected twice, so there is one.
func buckets(i sdkmetric.Instrument) (sdkmetric.Stream, bool) {
	if i.Kind != sdkmetric.InstrumentKindHistogram || i.Unit != "s" {
		return sdkmetric.Stream{}, false
	}
	bounds := durations
	if strings.Contains(i.Name, ".journey.") {
		bounds = journeys
	}
	return sdkmetric.Stream{
		Name: i.Name, Description: i.Description, Unit: i.Unit,
		Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: bounds},
	}, true
}

func (t *Telemetry) startMetrics(ctx context.Context, about *resource.Resource) error {
	if err := t.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})); err != nil {
		return err
	}
	served, err := otelprometheus.New(otelprometheus.WithRegisterer(t.registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return err
	}
	options := []sdkmetric.Option{
		sdkmetric.WithResource(about),
		sdkmetric.WithReader(served),
		sdkmetric.WithView(buckets),
	}
	// "prometheus" is what we do anyway; the exporter of that name would open
	// a second port for it.
	if exports("METRICS") && os.Getenv("OTEL_METRICS_EXPORTER") != "prometheus" {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return err
		}
		options = append(options, sdkmetric.WithReader(reader))
	}
	meter := sdkmetric.NewMeterProvider(options...)
	t.Meter = meter
	t.shutdown = append(t.shutdown, meter.Shutdown)
	return goruntime.Start(goruntime.WithMeterProvider(meter))
}

// Metrics serves the metrics in Prometheus' format.
func (t *Telemetry) Metrics() http.Handler {
	// Half of the metrics with an error in the log beats none of them.
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// Shutdown sends what was not sent yet and stops. What has not arrived when
// ctx ends is lost, and the error says so. Calling it again does nothing.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var errs []error
	for _, stop := range t.shutdown {
		if err := stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("send the last telemetry: %w", err))
		}
	}
	t.shutdown = nil
	return errors.Join(errs...)
}
