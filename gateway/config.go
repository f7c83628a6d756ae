package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Config says what can be chosen. The zero value of a field means its default.
type Config struct {
	// Title and Version head the API's description. Required.
	Title, Version string

	// Ready are the checks behind /readyz. All of them pass, or the instance
	// gets no traffic.
	Ready []Check

	// Metrics serves /metrics; nil: there is none.
	Metrics http.Handler

	// MaxInFlight is how many requests may be under way at once; further ones
	// get 503. Default 1024: with about 10 ms a request that is 100,000 a
	// second, so whoever hits it is not fast but stuck.
	MaxInFlight int

	// MaxStreams is how many streams of server-sent events may be open at once;
	// further ones get 503. They do not count as requests under way. Default
	// 10,000, which take some 500 MB.
	MaxStreams int

	// MaxBody is the largest request body in bytes; default 1 MiB.
	MaxBody int64

	// Timeout is how long a request may take in all; default 60 s, more than
	// the longest Courante-Wait. A stream has no limit, but whoever does not read
	// what it sends for streamPatience loses it.
	Timeout time.Duration

	// BodyTimeout is how long a caller may take to send its body; default 10 s.
	BodyTimeout time.Duration

	Logger *slog.Logger         // default: discards
	Tracer trace.TracerProvider // default: the global one
	Meter  metric.MeterProvider // default: the global one
}

// Check is one thing that must be in order before an instance takes traffic.
type Check struct {
	Name  string
	Check func(ctx context.Context) error

	// Optional is for what the instance does without if it has to: then it is
	// slower, and still takes traffic.
	Optional bool
}

func (c *Config) setDefaults() {
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 1024
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 10_000
	}
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Tracer == nil {
		c.Tracer = otel.GetTracerProvider()
	}
	if c.Meter == nil {
		c.Meter = otel.GetMeterProvider()
	}
}

func (c *Config) check() error {
	var problems []error
	if c.Title == "" || c.Version == "" {
		problems = append(problems, errors.New("gateway: Config.Title and Config.Version head the API's description; set both"))
	}
	if c.MaxInFlight < 0 || c.MaxStreams < 0 || c.MaxBody < 0 || c.Timeout < 0 || c.BodyTimeout < 0 {
		problems = append(problems, errors.New("gateway: a limit in Config is negative"))
	}
	for _, r := range c.Ready {
		if r.Name == "" || r.Check == nil {
			problems = append(problems, errors.New("gateway: a check in Config.Ready has no name or no function"))
		}
	}
	return errors.Join(problems...)
}
