package redis_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/redis"
)

// Each outage is told of once, and its end once.
func TestOutagesAreToldOnce(t *testing.T) {
	t.Parallel()
	server := courantetest.StartRedis(t)
	var said logLines
	c, err := redis.Open(redis.Config{URLs: []string{"redis://" + server.Address()}, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	const outages = 2
	for range outages {
		server.Pause()
		until(t, "Redis is left out", func() bool { return c.Check(t.Context()) != nil })
		server.Resume()
		until(t, "Redis is used again", func() bool { return c.Check(t.Context()) == nil })
	}
	lines := said.all()
	for i, line := range lines {
		want := "Redis answers again"
		if i%2 == 0 {
			want = "no answer within 50ms"
		}
		if !strings.Contains(line, want) {
			t.Errorf("line %d is %s, want %q", i+1, line, want)
		}
	}
	if len(lines) < 2*outages { // a machine that stands still adds some
		t.Errorf("%d outages are told of in %q", outages, lines)
	}
}

// logLines keeps what is logged.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *logLines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines
}
