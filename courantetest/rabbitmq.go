//go:build unix

package courantetest

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante/internal/rabbitserver"
)

// rabbit is the RabbitMQ that the tests of one process share.
var rabbit struct {
	once    sync.Once
	running *RabbitMQ
	url     string
	err     error
}

// RabbitMQURL is the server for tests: that of COURANTE_TEST_RABBITMQ_URL, or
// one that the first test of the process starts from the RabbitMQ installed on
// the machine, which takes some seconds. Tests share it, so each has a prefix
// of its own; see [RabbitMQPrefix]. The package's TestMain has to call [Main].
func RabbitMQURL(t testing.TB) string {
	t.Helper()
	r := &rabbit
	r.once.Do(func() {
		if r.url = os.Getenv("COURANTE_TEST_RABBITMQ_URL"); r.url != "" {
			return
		}
		if r.running, r.err = newRabbitMQ(); r.err == nil {
			r.url, r.err = r.running.URL(), r.running.Server.Start()
		}
	})
	if r.err != nil {
		t.Fatalf("no RabbitMQ: %v; install it (Debian: rabbitmq-server), or set COURANTE_TEST_RABBITMQ_URL", r.err)
	}
	return r.url
}

// RabbitMQHost is the server of [RabbitMQURL] with a virtual host that no other
// test uses: for tests of whole programs, whose names are always the same.
func RabbitMQHost(t testing.TB) string {
	t.Helper()
	address := RabbitMQURL(t)
	if rabbit.running == nil {
		t.Fatal("this test needs a RabbitMQ that it can make a virtual host on; unset COURANTE_TEST_RABBITMQ_URL")
	}
	name := RabbitMQPrefix()
	rabbit.running.Control(t, "add_vhost", name)
	rabbit.running.Control(t, "set_permissions", "-p", name, "guest", ".*", ".*", ".*")
	t.Cleanup(func() { _, _ = rabbit.running.Server.Control("delete_vhost", name) })
	return address + name
}

// RabbitMQPrefix is a prefix of names that no other test uses.
func RabbitMQPrefix() string {
	return fmt.Sprintf("t%d-%d-%d", os.Getpid(), time.Now().UnixMilli(), lastSchema.Add(1))
}

// RabbitMQ is a server of a test's own, to be killed, stopped and started
// again. It keeps its data until the test ends.
type RabbitMQ struct{ *rabbitserver.Server }

// StartRabbitMQ starts a server of the test's own, with further lines of its
// rabbitmq.conf.
func StartRabbitMQ(t testing.TB, settings ...string) *RabbitMQ {
	t.Helper()
	s, err := newRabbitMQ(settings...)
	if err == nil {
		t.Cleanup(s.Remove)
		err = s.Server.Start()
	}
	if err != nil {
		t.Fatalf("no RabbitMQ: %v; install it (Debian: rabbitmq-server)", err)
	}
	return s
}

// Start starts the server again, after Kill, on what it had written.
func (s *RabbitMQ) Start(t testing.TB) {
	t.Helper()
	if err := s.Server.Start(); err != nil {
		t.Fatal(err)
	}
}

// Control runs rabbitmqctl.
func (s *RabbitMQ) Control(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.Server.Control(args...)
	if err != nil {
		t.Fatalf("rabbitmqctl %q: %v\n%s", args, err, out)
	}
	return out
}

// RabbitMQCluster are servers of a test's own that keep queues together.
type RabbitMQCluster struct{ *rabbitserver.Cluster }

// StartRabbitMQCluster starts a cluster of so many members.
func StartRabbitMQCluster(t testing.TB, members int) *RabbitMQCluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "courante-rabbitmq-")
	if err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755) //nolint:gosec // the servers run as somebody else
	}
	var c *rabbitserver.Cluster
	if err == nil {
		c, err = rabbitserver.NewCluster(dir, members)
	}
	if err == nil {
		t.Cleanup(c.Remove)
		err = c.Start()
	}
	if err != nil {
		t.Fatalf("no cluster of RabbitMQ: %v; install it (Debian: rabbitmq-server)", err)
	}
	return &RabbitMQCluster{c}
}

// Control runs rabbitmqctl on a member that runs.
func (c *RabbitMQCluster) Control(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.Cluster.Control(args...)
	if err != nil {
		t.Fatalf("rabbitmqctl %q: %v\n%s", args, err, out)
	}
	return out
}

// Leader is the member that leads most of the queues with the part in their
// names.
func (c *RabbitMQCluster) Leader(t testing.TB, part string) *RabbitMQ {
	t.Helper()
	s, err := c.Cluster.Leader(part)
	if err != nil {
		t.Fatal(err)
	}
	return &RabbitMQ{s}
}

func newRabbitMQ(settings ...string) (*RabbitMQ, error) {
	dir, err := os.MkdirTemp("", "courante-rabbitmq-")
	if err != nil {
		return nil, err
	}
	s, err := rabbitserver.New(dir, settings...)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &RabbitMQ{s}, nil
}
