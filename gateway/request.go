package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// request is what the gateway remembers of one request while it is under way.
type request struct {
	http.ResponseWriter
	r       *http.Request
	status  int
	written int64
	swallow bool // the router's own text after we wrote a problem instead
	stream  bool // of server-sent events: it ends when it ends

	mu  sync.Mutex // guards err: an operation may note from another goroutine
	err error      // why it failed, for the log
}

type requestKey struct{}

// note keeps the cause of a failed request for the log line. A caller's mistake
// is told to the caller and needs no cause.
func note(ctx context.Context, status int, errs []error) {
	if r, ok := ctx.Value(requestKey{}).(*request); ok && status >= 500 {
		r.fail(errors.Join(errs...))
	}
}

func (w *request) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *request) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends the status. When no route took the request, the router is
// about to write its own text; we write a problem in its place.
func (w *request) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	if w.r.Pattern != "" || status < 400 {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.swallow = true
	detail := "there is nothing at this path"
	if status == http.StatusMethodNotAllowed {
		detail = "this path takes " + w.Header().Get("Allow")
	}
	newProblem(status, detail).write(w.ResponseWriter)
}

// Write sends a part of the body.
func (w *request) Write(data []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.swallow {
		return len(data), nil
	}
	if w.stream {
		w.extend()
	}
	n, err := w.ResponseWriter.Write(data)
	w.written += int64(n)
	return n, err
}

var propagator = propagation.TraceContext{}

// ServeHTTP answers one request: it gives it a span and a log line, lets it in
// or turns it away, and turns a panic into a 500.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	ctx := propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := g.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", r.Method),
		attribute.String("url.path", r.URL.Path),
	))
	rec := &request{ResponseWriter: w, stream: g.streams.has(r)}
	ctx, cancel := g.limited(ctx, rec.stream)
	defer cancel()
	r = r.WithContext(context.WithValue(ctx, requestKey{}, rec))
	rec.r = r
	propagator.Inject(ctx, propagation.HeaderCarrier(w.Header()))
	defer func() { g.finish(rec, span, start) }()
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p) // net/http's own way to cut a connection
		}
		rec.fail(&panicError{p, debug.Stack()})
		if rec.status == 0 {
			rec.status = http.StatusInternalServerError
			newProblem(rec.status, "something went wrong on our side").write(w)
		}
	}()
	if !g.enter(rec) {
		rec.status = http.StatusServiceUnavailable
		newProblem(rec.status, "too many requests are under way").write(w)
		return
	}
	defer g.leave(rec)
	if !clean(r.URL.EscapedPath()) {
		rec.WriteHeader(http.StatusNotFound)
		return
	}
	body := newBody(rec, r, g.cfg)
	r.Body = body
	g.mux.ServeHTTP(rec, r)
	body.drain()
}

type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return "panic" }

// LogValue writes the panic with its stack.
func (e *panicError) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("panic", e.value), slog.String("stack", string(e.stack)))
}

func (g *Gateway) finish(w *request, span trace.Span, start time.Time) {
	if w.status == 0 {
		w.status = http.StatusOK // an operation without a body
	}
	_, route, _ := cutRoute(w.r.Pattern)
	if !w.stream || w.status != http.StatusOK { // how long somebody watched is no latency
		g.measure(w.r.Context(), w.r.Method, route, w.status, time.Since(start))
	}
	w.mu.Lock()
	err := w.err
	w.mu.Unlock()
	span.SetAttributes(attribute.Int("http.response.status_code", w.status))
	if route != "" {
		span.SetName(w.r.Method + " " + route)
		span.SetAttributes(attribute.String("http.route", route))
	}
	level := slog.LevelInfo
	if w.status >= 500 {
		level = slog.LevelError
		span.SetStatus(codes.Error, http.StatusText(w.status))
		if err != nil {
			span.RecordError(err)
		}
	}
	if w.status == http.StatusServiceUnavailable {
		level = slog.LevelWarn
	}
	span.End()
	if !g.cfg.Logger.Enabled(w.r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", w.r.Method), slog.String("route", route), slog.String("path", w.r.URL.Path),
		slog.Int("status", w.status), slog.Int64("bytes", w.written),
		slog.Float64("ms", float64(time.Since(start).Microseconds())/1000),
	}
	if sc := span.SpanContext(); sc.IsValid() {
		attrs = append(attrs, slog.String("trace_id", sc.TraceID().String()))
	}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
		var p *panicError
		if errors.As(err, &p) {
			attrs = append(attrs, slog.Any("cause", p))
		}
	}
	g.cfg.Logger.LogAttrs(w.r.Context(), level, "request", attrs...)
}
