//go:build unix

package courantetest

import (
	"errors"
	"os"
	"testing"

	"github.com/courante-dev/courante/internal/redisserver"
)

// Redis is a server of a test's own, to be killed, stopped and started again.
// It is empty after each start.
type Redis struct{ *redisserver.Server }

// StartRedis starts a server of the test's own, from the Redis that is installed
// on the machine, with further settings such as "--maxmemory", "1mb". It takes
// some milliseconds, so tests need not share one.
func StartRedis(t testing.TB, settings ...string) *Redis {
	t.Helper()
	dir, err := os.MkdirTemp("", "courante-redis-")
	if err != nil {
		t.Fatal(err)
	}
	s, err := redisserver.New(dir, settings...)
	if err == nil {
		t.Cleanup(s.Remove)
		err = s.Start()
	} else {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		t.Fatalf("no Redis: %v; install it (Debian: redis-server)", err)
	}
	return &Redis{s}
}

// Start starts the server again, after Kill, with nothing in it.
func (s *Redis) Start(t testing.TB) {
	t.Helper()
	if err := s.Server.Start(); err != nil {
		t.Fatal(err)
	}
}
