package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// LogConfig says what log lines look like.
type LogConfig struct {
	Service string
	Version string
	Level   slog.Level // the least level that is written; the zero value is info

	// Text writes lines for people instead of JSON, and Color colours them.
	Text, Color bool
}

// NewLogger writes one line a record to w. JSON lines follow
// docs/log.schema.json: time, level, msg, service.name, version; trace_id and
// span_id if the context has a trace; and the attributes, flat, in snake_case.
// Groups are flattened to prefixes, because a flat line is what every log
// store can search without being told.
func NewLogger(w io.Writer, config LogConfig) *slog.Logger {
	if config.Text {
		return slog.New(&flat{next: newConsole(w, config)})
	}
	lines := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: config.Level, ReplaceAttr: plain})
	return slog.New(&flat{next: lines.WithAttrs([]slog.Attr{
		slog.String("service.name", config.Service), //nolint:sloglint // OpenTelemetry's name for it
		slog.String("version", config.Version)})})
}

// plain gives values the form that the schema promises: times in UTC with
// microseconds, durations as people write them ("1.5s") instead of a number of
// nanoseconds whose unit nobody knows.
func plain(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindTime:
		return slog.String(a.Key, a.Value.Time().UTC().Format("2006-01-02T15:04:05.000000Z07:00"))
	case slog.KindDuration:
		return slog.String(a.Key, a.Value.Duration().Round(time.Microsecond).String())
	case slog.KindAny:
		if text, ok := a.Value.Any().(fmt.Stringer); ok {
			return slog.String(a.Key, text.String())
		}
	}
	return a
}

// flat is a handler that turns groups into prefixes and adds the trace of the
// context, before the next handler formats the record.
type flat struct {
	next   slog.Handler
	prefix string
}

func (h *flat) Enabled(ctx context.Context, level slog.Level) bool { return h.next.Enabled(ctx, level) }

func (h *flat) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	traced := trace.SpanContextFromContext(ctx)
	if traced.IsValid() {
		out.AddAttrs(slog.String("trace_id", traced.TraceID().String()), slog.String("span_id", traced.SpanID().String()))
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "trace_id" || !traced.IsValid() { // ours is there already
			out.AddAttrs(flatten(nil, h.prefix, a)...)
		}
		return true
	})
	return h.next.Handle(ctx, out)
}

func (h *flat) WithAttrs(attrs []slog.Attr) slog.Handler {
	var list []slog.Attr
	for _, a := range attrs {
		list = flatten(list, h.prefix, a)
	}
	return &flat{next: h.next.WithAttrs(list), prefix: h.prefix}
}

func (h *flat) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &flat{next: h.next, prefix: h.prefix + name + "_"}
}

// reserved are the schema's own names, but for those that a caller without a
// context may add: the same name twice in a line, and readers disagree which
// one counts.
var reserved = map[string]bool{"time": true, "level": true, "msg": true, "service.name": true, "version": true}

func flatten(list []slog.Attr, prefix string, a slog.Attr) []slog.Attr {
	a.Value = a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return list
	}
	if a.Value.Kind() != slog.KindGroup {
		key := prefix + a.Key
		if reserved[key] {
			key = "attr_" + key
		}
		return append(list, slog.Attr{Key: key, Value: a.Value})
	}
	if a.Key != "" {
		prefix += a.Key + "_"
	}
	for _, member := range a.Value.Group() {
		list = flatten(list, prefix, member)
	}
	return list
}
