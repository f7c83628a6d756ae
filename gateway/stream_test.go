package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante/gateway"
)

type streamOutput struct{ Body func(huma.Context) }

// streaming makes a gateway whose GET /v1/beats sends an event for each beat,
// until the other side is gone.
func streaming(t *testing.T, cfg gateway.Config, beats <-chan string) *gateway.Gateway {
	t.Helper()
	cfg.Title, cfg.Version = "Beats", "1"
	gw, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	huma.Register(gw.API(), huma.Operation{
		OperationID: "beats", Method: http.MethodGet, Path: "/v1/beats",
		Responses: map[string]*huma.Response{"200": {Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}},
	}, func(ctx context.Context, _ *struct{}) (*streamOutput, error) {
		return &streamOutput{func(hc huma.Context) {
			hc.SetHeader("Content-Type", "text/event-stream")
			hc.SetStatus(http.StatusOK)
			w := hc.BodyWriter().(http.ResponseWriter)
			for {
				if http.NewResponseController(w).Flush() != nil {
					return
				}
				select {
				case beat := <-beats:
					_, _ = fmt.Fprintf(w, "data: %s\n\n", beat)
				case <-ctx.Done():
					return
				}
			}
		}}, nil
	})
	return gw
}

// listenTo serves until the test ends.
func listenTo(t *testing.T, s *http.Server) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

// openStream returns the status, and the stream until the test ends.
func openStream(t *testing.T, at *url.URL) (status int, body *bufio.Reader) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.JoinPath("v1/beats").String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if kind := res.Header.Get("Content-Type"); res.StatusCode == http.StatusOK && kind != "text/event-stream" {
		t.Errorf("the stream is of type %q", kind)
	}
	return res.StatusCode, bufio.NewReader(res.Body)
}

// A stream is not cut when a request's time is over, does not wait in buffers,
// also not behind the proxy of a fleet, and ends when either of them shuts down.
func TestStreams(t *testing.T) {
	t.Parallel()
	for _, proxied := range []bool{false, true} {
		t.Run(fmt.Sprintf("proxied: %v", proxied), func(t *testing.T) {
			t.Parallel()
			beats := make(chan string)
			cfg := gateway.Config{Timeout: 50 * time.Millisecond, MaxStreams: 2}
			server := streaming(t, cfg, beats).Server("")
			at := listenTo(t, server)
			if proxied {
				cfg.Title, cfg.Version = "Proxy", "1"
				proxy, err := gateway.NewProxy(cfg, gateway.Upstream{Name: "beats", URLs: []*url.URL{at}})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				t.Cleanup(cancel)
				go proxy.Learn(ctx)
				server = proxy.Server("")
				at = listenTo(t, server)
				awaitReady(t, at)
			}
			status, lines := openStream(t, at)
			if status != http.StatusOK {
				t.Fatalf("got %d", status)
			}
			end := time.Now().Add(4 * cfg.Timeout)
			for i := 0; time.Now().Before(end) || i < 3; i++ {
				beats <- fmt.Sprint(i)
				for _, want := range []string{fmt.Sprintf("data: %d\n", i), "\n"} {
					if line, err := lines.ReadString('\n'); err != nil || line != want {
						t.Fatalf("got %q, %v; want %q", line, err, want)
					}
				}
			}
			openStream(t, at)
			if status, _ := openStream(t, at); status != http.StatusServiceUnavailable {
				t.Errorf("one more than MaxStreams: %d; want 503", status)
			}
			if err := server.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if left, _ := io.ReadAll(lines); len(left) > 0 {
				t.Errorf("after the shutdown: %q", left)
			}
		})
	}
}

// A watcher that does not read loses its connection, and what it costs with it.
func TestStreamThatNobodyReads(t *testing.T) {
	t.Parallel()
	beats := make(chan string)
	gw := streaming(t, gateway.Config{MaxStreams: 1}, beats)
	at := listenTo(t, gw.Server(""))
	openStream(t, at)
	large := strings.Repeat("x", 1<<20)
	for {
		select {
		case beats <- large:
			continue
		case <-time.After(50 * time.Millisecond): // its buffers are full
		}
		if status, _ := openStream(t, at); status == http.StatusOK {
			return // its place is free
		}
	}
}

// awaitReady returns when the proxy has found its services.
func awaitReady(t *testing.T, at *url.URL) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for range poll.C {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.JoinPath("readyz").String(), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return
		}
	}
}
