package redis_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/redis"
)

// benchID is one of the ids of 200 documents, all of one length.
func benchID(i int) string { return fmt.Sprint(100 + i%200) }

// BenchmarkHTTP answers requests for the same 200 kilobytes from a map, from the
// process's memory, from Redis and from PostgreSQL: what each level costs, over
// real connections. Its callers speak just enough HTTP, so that most of what is
// measured is the server.
func BenchmarkHTTP(b *testing.B) {
	server := courantetest.StartRedis(b)
	db := newDatabase(b)
	near := startNotes(b, db, redis.Config{URLs: []string{server.URL()}})
	// A memory that holds next to nothing leaves reads to Redis.
	far := startNotes(b, db, redis.Config{URLs: []string{server.URL()}, Memory: 1})
	// Nobody answers here, so that each read goes to PostgreSQL.
	alone := startNotes(b, newDatabase(b), redis.Config{URLs: []string{"redis://127.0.0.1:1"}})
	documents := map[string][]byte{}
	for i := range 200 {
		id := benchID(i)
		mustSet(b, near, id, strings.Repeat("x", 1000))
		mustSet(b, alone, id, strings.Repeat("x", 1000))
		near.warm(b, id)
		d, err := near.views.Get(context.Background(), id, "", 0)
		if err != nil {
			b.Fatal(err)
		}
		documents[id] = d.Data
	}
	until(b, "Redis is read", func() bool {
		_, err := far.read(context.Background(), benchID(0), "")
		return err == nil && far.reads(b)["l2"] > 0
	})
	from := func(p *notes) func(context.Context, string) []byte {
		return func(ctx context.Context, id string) []byte {
			d, err := p.views.Get(ctx, id, "", time.Second)
			if err != nil {
				b.Error(err)
			}
			return d.Data
		}
	}
	for _, level := range []struct {
		name  string
		level string
		p     *notes
		get   func(context.Context, string) []byte
	}{
		{"map", "", nil, func(_ context.Context, id string) []byte { return documents[id] }},
		{"l1", "l1", near, from(near)},
		{"l2", "l2", far, from(far)},
		{"postgres", "source", alone, from(alone)},
	} {
		b.Run(level.name, func(b *testing.B) {
			h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(level.get(r.Context(), r.URL.Path[1:]))
			}))
			defer h.Close()
			before := map[string]int64{}
			if level.p != nil {
				before = level.p.reads(b)
			}
			var failed atomic.Pointer[error]
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				if err := request(h.Listener.Addr().String(), pb.Next); err != nil {
					failed.Store(&err)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
			if err := failed.Load(); err != nil {
				b.Fatal(*err)
			}
			if level.p != nil {
				share := float64(level.p.reads(b)[level.level]-before[level.level]) / float64(b.N)
				b.ReportMetric(100*share, "%level")
				if b.N > 1000 && share < 0.5 {
					b.Fatalf("%.2f of the reads were of %s", share, level.level)
				}
			}
		})
	}
}

// request asks for one document after the other over one connection as long as next says so.
func request(address string, next func() bool) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var size int // of an answer: all are the same
	for i := rand.IntN(200); next(); i++ {
		if _, err := io.WriteString(conn, "GET /"+benchID(i)+" HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
			return err
		}
		if size == 0 {
			if _, err := in.Peek(1); err != nil {
				return err
			}
			size = in.Buffered()
		}
		if _, err := in.Discard(size); err != nil {
			return err
		}
	}
	return nil
}
