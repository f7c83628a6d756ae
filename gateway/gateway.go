package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Gateway is the HTTP edge of a process. It is an http.Handler.
type Gateway struct {
	cfg      Config
	mux      *http.ServeMux
	api      huma.API
	tracer   trace.Tracer
	duration metric.Float64Histogram
	inFlight atomic.Int64
	streams  *streams
}

// New makes a gateway that has its own routes only: /healthz, /readyz,
// /metrics, /openapi.json and /docs.
func New(cfg Config) (*Gateway, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	teachHuma()
	g := &Gateway{cfg: cfg, mux: http.NewServeMux(), streams: newStreams()}
	g.tracer = cfg.Tracer.Tracer("github.com/courante-dev/courante/gateway")
	var err error
	if g.duration, err = newDuration(cfg.Meter); err != nil {
		return nil, err
	}
	g.api = humago.New(g.mux, g.huma())
	g.api.UseMiddleware(g.checkHeaders)
	g.mux.HandleFunc("GET /healthz", g.health)
	g.mux.HandleFunc("GET /readyz", g.ready)
	g.mux.HandleFunc("GET /docs", docs(g.api.OpenAPI()))
	if cfg.Metrics != nil {
		g.mux.Handle("GET /metrics", cfg.Metrics)
	}
	return g, nil
}

// huma is the configuration of the API: JSON and nothing else, read strictly.
func (g *Gateway) huma() huma.Config {
	format := huma.Format{
		Marshal: func(w io.Writer, v any) error {
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			return enc.Encode(v)
		},
		Unmarshal: decode,
	}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: g.cfg.Title, Version: g.cfg.Version},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			},
			OnAddOperation: []huma.AddOpFunc{prepare, describe, g.streams.add},
		},
		OpenAPIPath:   "/openapi",
		Formats:       map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat: "application/json",
	}
}

// API is where contexts declare their operations.
func (g *Gateway) API() huma.API { return g.api }

// Handle adds a handler beside the API, for what is not JSON.
func (g *Gateway) Handle(pattern string, h http.Handler) { g.mux.Handle(pattern, h) }

// Server is an http.Server for the gateway. Its time limits keep slow or dead
// callers from holding connections; the caller starts and stops it. Its Shutdown
// ends the streams.
func (g *Gateway) Server(addr string) *http.Server {
	s := &http.Server{
		Addr:              addr,
		Handler:           g,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      g.cfg.Timeout + 5*time.Second, // the problem must still get through
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	s.RegisterOnShutdown(g.streams.end)
	return s
}

// enter lets a request in unless too many are under way. What operators ask is
// always let in: an overloaded instance is not dead.
func (g *Gateway) enter(r *request) bool {
	if operational(r.r) {
		return true
	}
	under, most := g.counted(r)
	if under.Add(1) > int64(most) {
		under.Add(-1)
		return false
	}
	return true
}

func (g *Gateway) leave(r *request) {
	if !operational(r.r) {
		under, _ := g.counted(r)
		under.Add(-1)
	}
}

// counted is where the request counts, and how many may.
func (g *Gateway) counted(r *request) (under *atomic.Int64, most int) {
	if r.stream {
		return &g.streams.open, g.cfg.MaxStreams
	}
	return &g.inFlight, g.cfg.MaxInFlight
}

func operational(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/readyz", "/metrics":
		return true
	}
	return false
}

// health says that the process runs. Restarting it does not mend anything else,
// so nothing else is looked at.
func (g *Gateway) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready  bool              `json:"ready"`
	Checks map[string]string `json:"checks"` // by name: "ok", or what is missing; "degraded: " and what, if it does without
}

// patience is how long a check may take: an orchestrator asks every few seconds.
const patience = 2 * time.Second

func (g *Gateway) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	type result struct {
		n   int
		err error
	}
	results := make(chan result, len(g.cfg.Ready))
	states := make([]string, len(g.cfg.Ready))
	for i, c := range g.cfg.Ready {
		states[i] = "no answer within " + patience.String()
		go func() { results <- result{i, c.Check(ctx)} }()
	}
	for range g.cfg.Ready {
		select {
		case res := <-results:
			if states[res.n] = "ok"; res.err != nil {
				states[res.n] = res.err.Error()
			}
		case <-ctx.Done():
		}
	}
	answer, status := readiness{Ready: true, Checks: map[string]string{}}, http.StatusOK
	for i, c := range g.cfg.Ready {
		switch {
		case states[i] == "ok":
		case c.Optional:
			states[i] = "degraded: " + states[i]
		default:
			answer.Ready, status = false, http.StatusServiceUnavailable
		}
		answer.Checks[c.Name] = states[i]
	}
	if !answer.Ready {
		note(r.Context(), status, []error{errors.New("not ready")})
	}
	writeJSON(w, status, answer)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller is gone if it fails
}

// cutRoute splits a pattern of http.ServeMux: "GET /v1/orders/{id}".
func cutRoute(pattern string) (method, route string, ok bool) {
	if method, route, ok = strings.Cut(pattern, " "); ok {
		return method, route, true
	}
	return "", pattern, pattern != ""
}
