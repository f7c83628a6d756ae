package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// bareHTTP is how many requests of a load a server of net/http answers that
// reads them, answers the same bytes each time, and does nothing.
func bareHTTP(ctx context.Context, l load, body []byte, lasts time.Duration) (float64, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // ours is the only client
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	ctx, cancel := context.WithTimeout(ctx, lasts)
	defer cancel()
	l.address = listener.Addr().String()
	l.check = func(int, loadAnswer) error { return nil }
	m, err := l.closed(ctx)
	_ = server.Close()
	if failed := <-served; !errors.Is(failed, http.ErrServerClosed) {
		err = errors.Join(err, failed)
	}
	if m.Wrong != "" {
		err = errors.Join(err, errors.New(m.Wrong))
	}
	return m.PerS, err
}

// bareLimit is how many events the limit of appends is measured with.
const bareLimit = 100_000

// bareAppends is how many events a second the system's database takes from as
// many callers, without HTTP and without anything to decide.
func (t *httpTarget) bareAppends(ctx context.Context, callers int) (float64, error) {
	b, err := openBench(ctx, t.p)
	if err != nil {
		return 0, err
	}
	defer b.close(ctx)
	store, err := b.fresh(ctx, "limit")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = appendMany(ctx, store, bareLimit, callers)
	return bareLimit / time.Since(start).Seconds(), err
}
