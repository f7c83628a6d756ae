package gateway

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// newDuration makes the one instrument of the edge. Rate, errors and duration
// are all in it: count it, count it by status, or take its percentiles. Name
// and attributes are those of OpenTelemetry's conventions for HTTP servers.
func newDuration(m metric.MeterProvider) (metric.Float64Histogram, error) {
	return m.Meter("github.com/courante-dev/courante/gateway").Float64Histogram("http.server.request.duration",
		metric.WithUnit("s"), metric.WithDescription("from the first byte of a request to the last of its answer"))
}

// measure records a request. Paths and methods that callers invent are not
// recorded: every one would be a series for ever.
func (g *Gateway) measure(ctx context.Context, method, route string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "_OTHER"
	}
	g.duration.Record(ctx, took.Seconds(), metric.WithAttributes(
		attribute.String("http.request.method", method),
		attribute.String("http.route", route),
		attribute.Int("http.response.status_code", status)))
}
