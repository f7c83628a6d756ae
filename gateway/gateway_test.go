package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/gateway"
)

type input struct {
	Body struct {
		Name string `json:"name"`
		Tags []struct {
			Label string `json:"label" minLength:"1"`
		} `json:"tags,omitempty"`
	}
}

type output struct {
	Body struct {
		Hello string `json:"hello"`
	}
}

// serve makes a gateway with one operation, POST /v1/things/{id}.
func serve(t testing.TB, cfg gateway.Config, op func(ctx context.Context, in *input) (*output, error)) *gateway.Gateway {
	t.Helper()
	cfg.Title, cfg.Version = "A <title>", "1"
	gw, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	huma.Register(gw.API(), huma.Operation{OperationID: "make-thing", Method: http.MethodPost, Path: "/v1/things"}, op)
	return gw
}

func hello(_ context.Context, in *input) (*output, error) {
	out := &output{}
	out.Body.Hello = in.Body.Name
	return out, nil
}

func call(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestErrorsBecomeProblems(t *testing.T) {
	t.Parallel()
	secret := errors.New("password is hunter2")
	tests := []struct {
		err    error
		status int
		retry  bool
	}{
		{courante.Reject("not_found", "no order"), 404, false},
		{courante.Reject("conflict", "shipped"), 409, false},
		{courante.Reject("invalid", "too many"), 422, false},
		{courante.Reject("key_reused", "other body"), 422, false},
		{fmt.Errorf("place order: %w", courante.Reject("conflict", "shipped")), 409, false},
		{courante.Reject("nobody knows this code", "hunter2"), 500, false},
		{fmt.Errorf("read: %w", courante.ErrNotFound), 404, false},
		{courante.Transient(secret), 503, true},
		{courante.Transient(courante.ErrOverloaded), 503, true},
		{courante.Unknown(secret), 503, true},
		{courante.ErrClosed, 503, true},
		{context.DeadlineExceeded, 503, true},
		{courante.ErrTooLarge, 413, false},
		{&courante.TokenEpochError{}, 409, false},
		{fmt.Errorf("x: %w", courante.ErrBadToken), 400, false},
		{secret, 500, false},
	}
	for _, tt := range tests {
		gw := serve(t, gateway.Config{}, func(context.Context, *input) (*output, error) { return nil, tt.err })
		w := call(gw, "POST", "/v1/things", `{"name":"x"}`)
		var p gateway.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Errorf("%v: %v in %s", tt.err, err, w.Body)
		}
		if w.Code != tt.status || p.Status != tt.status || p.Detail == "" || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%v: got %d %s, want %d", tt.err, w.Code, w.Body, tt.status)
		}
		if got := w.Header().Get("Retry-After") != ""; got != tt.retry {
			t.Errorf("%v: Retry-After %q, want one: %v", tt.err, w.Header().Get("Retry-After"), tt.retry)
		}
		if strings.Contains(w.Body.String(), "hunter2") {
			t.Errorf("%v: the answer tells what is inside: %s", tt.err, w.Body)
		}
	}
}

func TestPanicIs500AndIsLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	gw := serve(t, gateway.Config{Logger: slog.New(slog.NewJSONHandler(&log, nil))}, func(context.Context, *input) (*output, error) {
		panic("hunter2")
	})
	w := call(gw, "POST", "/v1/things", `{"name":"x"}`)
	if w.Code != 500 || strings.Contains(w.Body.String(), "hunter2") || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	var line struct {
		Level, Msg, Route string
		Status            int
		Cause             struct{ Panic, Stack string }
	}
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, log.String())
	}
	if line.Level != "ERROR" || line.Status != 500 || line.Route != "/v1/things" || line.Cause.Panic != "hunter2" || !strings.Contains(line.Cause.Stack, "gateway_test") {
		t.Errorf("log line: %s", log.String())
	}
}

func TestOverloadIsTurnedAway(t *testing.T) {
	t.Parallel()
	begun, finish := make(chan bool), make(chan bool)
	gw := serve(t, gateway.Config{MaxInFlight: 1}, func(ctx context.Context, in *input) (*output, error) {
		begun <- true
		<-finish
		return hello(ctx, in)
	})
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- call(gw, "POST", "/v1/things", `{"name":"first"}`) }()
	<-begun
	if w := call(gw, "POST", "/v1/things", `{"name":"second"}`); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("second: got %d %v %s, want 503 with Retry-After", w.Code, w.Header(), w.Body)
	}
	if w := call(gw, "GET", "/healthz", ""); w.Code != 200 {
		t.Errorf("/healthz under load: got %d, want 200", w.Code)
	}
	finish <- true
	if w := <-first; w.Code != 200 {
		t.Errorf("first: got %d %s, want 200", w.Code, w.Body)
	}
	go func() { <-begun; finish <- true }()
	if w := call(gw, "POST", "/v1/things", `{"name":"third"}`); w.Code != 200 {
		t.Errorf("third, after the first: got %d %s, want 200", w.Code, w.Body)
	}
}

func TestReadySaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	broken := errors.New("migration 7 is missing; run: courante migrate")
	cfg := gateway.Config{Ready: []gateway.Check{
		{Name: "database", Check: func(context.Context) error { return nil }},
		{Name: "schema", Check: func(context.Context) error { return broken }},
	}}
	w := call(serve(t, cfg, hello), "GET", "/readyz", "")
	if w.Code != 503 || !strings.Contains(w.Body.String(), `"schema":"migration 7 is missing`) || !strings.Contains(w.Body.String(), `"database":"ok"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	broken = nil
	if w := call(serve(t, cfg, hello), "GET", "/readyz", ""); w.Code != 200 {
		t.Errorf("with everything in order: got %d %s", w.Code, w.Body)
	}
}

func TestTraceGoesThrough(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	var seen trace.SpanContext
	gw := serve(t, gateway.Config{}, func(ctx context.Context, in *input) (*output, error) {
		seen = trace.SpanContextFromContext(ctx)
		return hello(ctx, in)
	})
	w := call(gw, "POST", "/v1/things", `{"name":"x"}`, "traceparent", parent)
	if seen.TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" || !strings.HasPrefix(w.Header().Get("traceparent"), parent[:36]) {
		t.Errorf("operation saw %v, answer has %q", seen.TraceID(), w.Header().Get("traceparent"))
	}
}

func TestPointers(t *testing.T) {
	t.Parallel()
	gw := serve(t, gateway.Config{}, hello)
	tests := []struct{ body, pointer string }{
		{`{}`, "/name"},
		{`{"name":1}`, "/name"},
		{`{"name":"x","tags":[{"label":"a"},{"label":""}]}`, "/tags/1/label"},
		{`{"name":"x","tags":[{}]}`, "/tags/0/label"},
		{`{"name":"x","a/b~c":1}`, "/a~1b~0c"},
		{`{"name":"x","NAME":"y"}`, "/NAME"},
	}
	for _, tt := range tests {
		w := call(gw, "POST", "/v1/things", tt.body)
		var p gateway.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 422 || len(p.Errors) != 1 || p.Errors[0].Pointer != tt.pointer {
			t.Errorf("%s: got %d %s, want 422 with one error at %s", tt.body, w.Code, w.Body, tt.pointer)
		}
	}
}

func TestOwnRoutes(t *testing.T) {
	t.Parallel()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "up 1") })
	gw := serve(t, gateway.Config{Metrics: metrics}, hello)
	tests := []struct {
		path, contains, contentType string
	}{
		{"/healthz", "ok", "application/json"},
		{"/metrics", "up 1", ""},
		{"/openapi.json", `"openapi":"3.1.0"`, "application/openapi+json"},
		{"/openapi.json", `"/v1/things"`, ""},
		{"/openapi.json", `"application/problem+json"`, ""},
		{"/docs", "A &lt;title&gt;", "text/html; charset=utf-8"},
	}
	for _, tt := range tests {
		w := call(gw, "GET", tt.path, "")
		if w.Code != 200 || !strings.Contains(w.Body.String(), tt.contains) || tt.contentType != "" && w.Header().Get("Content-Type") != tt.contentType {
			t.Errorf("%s: got %d %s %.300s, want %s in it", tt.path, w.Code, w.Header().Get("Content-Type"), w.Body, tt.contains)
		}
	}
	if w := call(gw, "DELETE", "/v1/things", ""); w.Code != 405 || !strings.Contains(w.Header().Get("Allow"), "POST") {
		t.Errorf("DELETE: got %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := gateway.New(gateway.Config{MaxBody: -1, Ready: []gateway.Check{{}}})
	for _, want := range []string{"Config.Title", "negative", "Config.Ready"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v, want it to speak of %s too", err, want)
		}
	}
}

// FuzzBody: a body is refused, or everybody reads it as we do.
func FuzzBody(f *testing.F) {
	for _, body := range []string{`{"name":"x"}`, `{"name":"\ud83d\ude00"}`, `{"name":"\ud83d"}`, `{"name":"\\ud83d"}`, `{"name":"a","name":"b"}`, ` {"name" : "\u0000"} `, "{\"name\":\"\xff\"}", `[]`, `{"name":"x"}{`} {
		f.Add([]byte(body))
	}
	gw := serve(f, gateway.Config{}, hello)
	f.Fuzz(func(t *testing.T, body []byte) {
		w := call(gw, "POST", "/v1/things", string(body))
		switch w.Code {
		case 400, 413, 422:
		case 200:
			var got struct{ Hello string }
			var in map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(body, &in); err != nil || in["name"] != got.Hello || strings.ContainsRune(got.Hello, 0) {
				t.Fatalf("%q was read as %q (%v, %v)", body, got.Hello, in, err)
			}
		default:
			t.Fatalf("%q: status %d %s", body, w.Code, w.Body)
		}
	})
}

// slowHello answers after a while, unless its caller is gone.
func slowHello(after time.Duration) func(context.Context, *input) (*output, error) {
	return func(ctx context.Context, in *input) (*output, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(after):
			return hello(ctx, in)
		}
	}
}

// TestUncheckedLimitIsRefused: what is published as a limit is checked, or the
// program does not start.
func TestUncheckedLimitIsRefused(t *testing.T) {
	t.Parallel()
	gw := serve(t, gateway.Config{}, hello)
	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "multipleOf") {
			t.Errorf("got %v, want a panic about multipleOf", p)
		}
	}()
	type boxes struct {
		Body struct {
			Pieces int `json:"pieces" multipleOf:"6"`
		}
	}
	huma.Register(gw.API(), huma.Operation{OperationID: "box", Method: http.MethodPost, Path: "/v1/boxes"},
		func(context.Context, *boxes) (*output, error) { return nil, nil })
}
