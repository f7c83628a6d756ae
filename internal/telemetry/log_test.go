package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.opentelemetry.io/otel/trace"

	"github.com/courante-dev/courante/internal/telemetry"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile("../../docs/log.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func traced(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x0a, 15: 1}, SpanID: trace.SpanID{7: 2}}))
}

func TestJSONLinesFollowTheSchema(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, telemetry.LogConfig{Service: "courante", Version: "v1.2.3", Level: slog.LevelDebug})
	ctx := traced(t.Context())
	log.Info("plain", "version", "15.18")
	log.DebugContext(ctx, "traced", "pause_ms", 20, "took", 1500*time.Millisecond, "retry_at", time.Now(), "trace_id", "0a000000000000000000000000000001")
	log.With("actor", "ticker").WithGroup("batch").ErrorContext(ctx, "grouped", "size", 3, slog.Group("of", "kind", "order"), "error", errors.New("it \"broke\"\n"))
	log.Warn("empty values", "sku", "", "list", []string{"a", "b"}, "nothing", nil)

	s := schema(t)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("got %d lines, want 4:\n%s", len(lines), out.String())
	}
	for _, line := range lines {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%s\n%v", line, err)
		}
	}
	for _, want := range []string{`"trace_id":"0a000000000000000000000000000001"`, `"took":"1.5s"`} {
		if !strings.Contains(lines[1], want) {
			t.Errorf("got %s, want %s in it", lines[1], want)
		}
	}
	if got := strings.Count(lines[0], `"version":`); got != 1 || !strings.Contains(lines[0], `"attr_version":"15.18"`) {
		t.Errorf("an attribute shadows the program's version: %s", lines[0])
	}
	if n := strings.Count(lines[1], "trace_id"); n != 1 {
		t.Errorf("trace_id is %d times in %s, want once", n, lines[1])
	}
	for _, want := range []string{`"actor":"ticker"`, `"batch_size":3`, `"batch_of_kind":"order"`, `"trace_id":`} {
		if !strings.Contains(lines[2], want) {
			t.Errorf("got %s, want %s in it", lines[2], want)
		}
	}
}

// TestSchemaRefuses proves that the schema can fail.
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	const good = `"time":"2026-11-22T10:00:00.000001Z","level":"INFO","msg":"m","service.name":"courante","version":"v1"`
	tests := []struct{ rule, line string }{
		{"a line says when", `{"level":"INFO","msg":"m","service.name":"courante","version":"v1"}`},
		{"times are UTC", `{"time":"2026-11-22T10:00:00.000001+01:00","level":"INFO","msg":"m","service.name":"courante","version":"v1"}`},
		{"levels are few", `{"time":"2026-11-22T10:00:00.000001Z","level":"NOTICE","msg":"m","service.name":"courante","version":"v1"}`},
		{"keys are in snake case", `{` + good + `,"orderID":"17"}`},
		{"lines are flat", `{` + good + `,"order":{"id":"17"}}`},
		{"a trace id has 32 digits", `{` + good + `,"trace_id":"abc","span_id":"00000000000000aa"}`},
		{"no span without its trace", `{` + good + `,"span_id":"00000000000000aa"}`},
	}
	s := schema(t)
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(tt.line))
			if err != nil {
				t.Fatal(err)
			}
			if s.Validate(v) == nil {
				t.Errorf("%s passes the schema", tt.line)
			}
		})
	}
}

func TestConsoleLinesAreForPeople(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.NewLogger(&out, telemetry.LogConfig{Text: true})
	log.Debug("not shown")
	log.WarnContext(traced(t.Context()), "paused", "actor", "tail ordering", "pause_ms", 20)
	_, line, _ := strings.Cut(out.String(), " ")
	const want = "WARN  paused  trace_id=0a000000000000000000000000000001  actor=\"tail ordering\"  pause_ms=20\n"
	if line != want {
		t.Errorf("got %q, want %q behind the time", out.String(), want)
	}
}
