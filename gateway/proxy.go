package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Upstream is a service and the addresses of its processes.
type Upstream struct {
	Name string
	URLs []*url.URL
}

// Proxy is the edge of a fleet: it sends each request to the service whose path
// it is. What paths there are the services say themselves, in the description
// of their APIs, so nothing here has to be changed when one gets a new route.
// It is an http.Handler.
type Proxy struct {
	*Gateway
	upstreams []*upstream
	client    *http.Client
	routes    atomic.Pointer[routes]
}

// upstream is an [Upstream] as the proxy uses it.
type upstream struct {
	Upstream
	forward *httputil.ReverseProxy
	turn    atomic.Uint64
	paths   map[string]json.RawMessage // as it last described them; nil: never yet
	schemas map[string]json.RawMessage
}

// routes are what the services described.
type routes struct {
	mux     *http.ServeMux
	openAPI []byte
	missing []string
}

const (
	learnSoon  = 200 * time.Millisecond // as long as a service has not been found
	learnAgain = 10 * time.Second
	// maxDescription is how long a service's description of itself may be.
	maxDescription = 8 << 20
)

// NewProxy makes a proxy that knows no path yet; see [Proxy.Learn].
func NewProxy(cfg Config, upstreams ...Upstream) (*Proxy, error) {
	p := &Proxy{client: &http.Client{Timeout: patience}}
	cfg.Ready = append(cfg.Ready, Check{Name: "services", Check: p.found})
	g, err := New(cfg)
	if err != nil {
		return nil, err
	}
	p.Gateway = g
	for _, u := range upstreams {
		up := &upstream{Upstream: u}
		up.forward = &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetXForwarded()
				r.Out.Host = r.In.Host
			},
			Transport:    &inTurn{up: up, next: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute}},
			ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { unreachable(w, r, up.Name, err) },
		}
		p.upstreams = append(p.upstreams, up)
	}
	p.rebuild()
	g.mux.HandleFunc("GET /docs/{service}", p.docsOf)
	g.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if operational(r) { // with a method that the router has no route for
			onlyRead(w)
			return
		}
		p.routes.Load().mux.ServeHTTP(w, r)
	})
	return p, nil
}

// Learn asks the services for their paths, again and again, until ctx ends.
func (p *Proxy) Learn(ctx context.Context) {
	for {
		for _, u := range p.upstreams {
			if err := p.learn(ctx, u); err != nil && ctx.Err() == nil {
				p.cfg.Logger.Debug("a service does not describe itself", "service", u.Name, "error", err)
			}
		}
		p.rebuild()
		wait := learnAgain
		if len(p.routes.Load().missing) > 0 {
			wait = learnSoon
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// learn reads the description of one service from the first process that gives
// it. What was known stays as long as none does.
func (p *Proxy) learn(ctx context.Context, u *upstream) error {
	var errs []error
	for _, at := range u.URLs {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.JoinPath("openapi.json").String(), http.NoBody)
		if err != nil {
			return err
		}
		answer, err := p.client.Do(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var doc struct {
			Paths      map[string]json.RawMessage `json:"paths"`
			Components struct {
				Schemas map[string]json.RawMessage `json:"schemas"`
			} `json:"components"`
		}
		err = json.NewDecoder(io.LimitReader(answer.Body, maxDescription)).Decode(&doc)
		_ = answer.Body.Close()
		if err == nil && answer.StatusCode != http.StatusOK {
			err = errors.New(answer.Status)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.URL, err))
			continue
		}
		u.paths, u.schemas = doc.Paths, doc.Components.Schemas
		if u.paths == nil {
			u.paths = map[string]json.RawMessage{}
		}
		return nil
	}
	return errors.Join(errs...)
}

// rebuild makes routes of what is known. It is called by one goroutine at a
// time.
func (p *Proxy) rebuild() {
	next := &routes{mux: http.NewServeMux()}
	paths, schemas := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	var streams []string
	for _, u := range p.upstreams {
		if u.paths == nil {
			next.missing = append(next.missing, u.Name)
			continue
		}
		for _, path := range slices.Sorted(maps.Keys(u.paths)) {
			if _, taken := paths[path]; taken {
				continue
			}
			paths[path] = u.paths[path]
			if p.handle(next.mux, path, u) && streamed(paths[path]) {
				streams = append(streams, path)
			}
		}
		maps.Copy(schemas, u.schemas)
	}
	next.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if len(next.missing) > 0 {
			newProblem(http.StatusServiceUnavailable, "services are starting: "+strings.Join(next.missing, ", ")).write(w)
			return
		}
		newProblem(http.StatusNotFound, "there is nothing at "+r.URL.Path).write(w)
	})
	next.openAPI, _ = json.Marshal(map[string]any{ // of maps and JSON that was read: it cannot fail
		"openapi": "3.1.0", "info": map[string]string{"title": p.cfg.Title, "version": p.cfg.Version},
		"paths": paths, "components": map[string]any{"schemas": schemas},
	})
	p.routes.Store(next)
	p.streams.replace(streams)
}

// handle adds a path, unless the router cannot tell it from another one: what
// services describe is not in our hands, and must not end the process.
func (p *Proxy) handle(mux *http.ServeMux, path string, u *upstream) (ok bool) {
	defer func() {
		if problem := recover(); problem != nil {
			p.cfg.Logger.Error("a path of a service is left out", "service", u.Name, "path", path, "error", problem)
		}
	}()
	mux.Handle(path, u.forward)
	return true
}

func (p *Proxy) found(context.Context) error {
	if missing := p.routes.Load().missing; len(missing) > 0 {
		return fmt.Errorf("not found yet: %s", strings.Join(missing, ", "))
	}
	return nil
}

// ServeHTTP answers for all services.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/openapi.json", "/docs":
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			onlyRead(w)
			return
		}
	}
	switch r.URL.Path {
	case "/openapi.json":
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(p.routes.Load().openAPI) // the caller is gone if it fails
	case "/docs":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", docsPolicy)
		_, _ = io.WriteString(w, "<!doctype html><meta charset=utf-8><title>"+html.EscapeString(p.cfg.Title)+"</title><h1>"+html.EscapeString(p.cfg.Title)+"</h1><ul>")
		for _, u := range p.upstreams {
			_, _ = fmt.Fprintf(w, "<li><a href=\"/docs/%s\">%s</a>", url.PathEscape(u.Name), html.EscapeString(u.Name))
		}
	default:
		p.Gateway.ServeHTTP(w, r)
	}
}

func onlyRead(w http.ResponseWriter) {
	w.Header().Set("Allow", "GET, HEAD")
	newProblem(http.StatusMethodNotAllowed, "this path takes GET, HEAD").write(w)
}

// Server is an http.Server for the proxy; see [Gateway.Server].
func (p *Proxy) Server(addr string) *http.Server {
	s := p.Gateway.Server(addr)
	s.Handler = p
	return s
}

// docsOf shows what one service describes.
func (p *Proxy) docsOf(w http.ResponseWriter, r *http.Request) {
	for _, u := range p.upstreams {
		if u.Name == r.PathValue("service") {
			r.URL.Path, r.URL.RawPath = "/docs", ""
			u.forward.ServeHTTP(w, r)
			return
		}
	}
	newProblem(http.StatusNotFound, "there is no service "+r.PathValue("service")).write(w)
}

// inTurn sends a request to the next process of a service. One that cannot be
// reached has not got it, so another one may; a request that was sent is not
// repeated.
type inTurn struct {
	up   *upstream
	next http.RoundTripper
}

func (t *inTurn) RoundTrip(r *http.Request) (*http.Response, error) {
	// The whole body is here before any of it is sent: a service does not wait
	// for slow callers, and another process can get it when the first is gone.
	// The gateway bounds it.
	var body []byte
	if r.Body != nil && r.Body != http.NoBody {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, &callerError{err}
		}
	}
	first := int(t.up.turn.Add(1) % uint64(len(t.up.URLs))) //nolint:gosec // smaller than a length
	var err error
	for i := range t.up.URLs {
		at := t.up.URLs[(first+i)%len(t.up.URLs)]
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host = at.Scheme, at.Host
		if body != nil {
			out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		var answer *http.Response
		if answer, err = t.next.RoundTrip(out); err == nil {
			return answer, nil
		}
		var network *net.OpError
		if !errors.As(err, &network) || network.Op != "dial" {
			return nil, err
		}
	}
	return nil, err
}

// callerError is that a body did not come as it should.
type callerError struct{ error }

func (e *callerError) Unwrap() error { return e.error }

func unreachable(w http.ResponseWriter, r *http.Request, service string, err error) {
	if r.Context().Err() != nil {
		return // the caller has gone
	}
	var caller *callerError
	if errors.As(err, &caller) {
		if !plainJSON(r.Header) { // what a service says of it first
			w.Header().Set("Accept", jsonType)
			newProblem(http.StatusUnsupportedMediaType, wantJSON).write(w)
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			newProblem(http.StatusRequestTimeout, "the body did not arrive in time").write(w)
			return
		}
		problemOf(err).write(w)
		return
	}
	note(r.Context(), http.StatusServiceUnavailable, []error{err})
	newProblem(http.StatusServiceUnavailable, "service "+service+" did not answer, so it is not known whether this was done; repeat it with the same Idempotency-Key").write(w)
}
