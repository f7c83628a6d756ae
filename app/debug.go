package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// debugging answers Go's profiler on an address of its own, never on that of
// the API: a profile tells a stranger much, and taking one slows the program.
type debugging struct {
	listener net.Listener
	http     *http.Server
}

// debug starts it if it is asked for; without an address there is none.
func (s *system) debug(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	l, err := listen(ctx, "debug-listen", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	s.debugger = &debugging{l, &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}}
	go func() {
		if err := s.debugger.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.p.Log.Warn("profiles are no longer served", "error", err)
		}
	}()
	s.p.Step("profiles: %s/debug/pprof/", s.debugger.url())
	return nil
}

// url is where it answers, "" if it does not.
func (d *debugging) url() string {
	if d == nil {
		return ""
	}
	return "http://" + d.listener.Addr().String()
}
