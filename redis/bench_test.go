package redis_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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
	for _, level := range readLevels(b) {
		b.Run(level.name, func(b *testing.B) {
			h := level.serve()
			defer h.Close()
			before := level.reads(b)
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
			level.check(b, before, b.N)
		})
	}
}

// BenchmarkWrk is the same with wrk as the callers, which leaves more of the
// machine to who answers. It needs -benchtime 1x: wrk says itself how long.
func BenchmarkWrk(b *testing.B) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		b.Skip("wrk is not installed")
	}
	script := filepath.Join(b.TempDir(), "ids.lua")
	ids := `request = function() return wrk.format("GET", "/" .. math.random(100, 299)) end`
	if err := os.WriteFile(script, []byte(ids), 0o600); err != nil {
		b.Fatal(err)
	}
	said := regexp.MustCompile(`(?s)99%\s+([0-9.]+)(us|ms|s).*?([0-9]+) requests in.*Requests/sec:\s+([0-9.]+)`)
	for _, level := range readLevels(b) {
		b.Run(level.name, func(b *testing.B) {
			h := level.serve()
			defer h.Close()
			for b.Loop() {
				before := level.reads(b)
				out, err := exec.Command(wrk, "-t", "1", "-c", "32", "-d", "5s", "--latency", "-s", script, h.URL).CombinedOutput()
				if err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				m := said.FindStringSubmatch(string(out))
				if m == nil || bytes.Contains(out, []byte("Non-2xx")) || bytes.Contains(out, []byte("Socket errors")) {
					b.Fatalf("wrk says: %s", out)
				}
				p99, err := time.ParseDuration(m[1] + m[2])
				if err != nil {
					b.Fatal(err)
				}
				n, _ := strconv.Atoi(m[3])
				rate, _ := strconv.ParseFloat(m[4], 64)
				b.ReportMetric(rate, "req/s")
				b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
				b.ReportMetric(0, "ns/op")
				level.check(b, before, n)
			}
		})
	}
}

// readLevel is one way to get a document.
type readLevel struct {
	name  string
	level string // what the cache calls it, "" if it is none of its own
	p     *notes
	get   func(context.Context, string) []byte
}

func readLevels(b *testing.B) []readLevel {
	b.Helper()
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
			if err != nil && ctx.Err() == nil { // else the caller hung up
				b.Error(err)
			}
			return d.Data
		}
	}
	return []readLevel{
		{"map", "", nil, func(_ context.Context, id string) []byte { return documents[id] }},
		{"l1", "l1", near, from(near)},
		{"l2", "l2", far, from(far)},
		{"postgres", "source", alone, from(alone)},
	}
}

func (l *readLevel) serve() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(l.get(r.Context(), r.URL.Path[1:]))
	}))
}

func (l *readLevel) reads(b *testing.B) map[string]int64 {
	if l.p == nil {
		return nil
	}
	return l.p.reads(b)
}

// check reports how many of the reads were of the level.
func (l *readLevel) check(b *testing.B, before map[string]int64, reads int) {
	if l.p == nil {
		return
	}
	share := float64(l.reads(b)[l.level]-before[l.level]) / float64(reads)
	b.ReportMetric(100*share, "%level")
	if reads > 1000 && share < 0.5 {
		b.Fatalf("%.2f of the reads were of %s", share, l.level)
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
