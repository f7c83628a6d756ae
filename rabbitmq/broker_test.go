package rabbitmq_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/rabbitmq"
)

func TestMain(m *testing.M) { courantetest.Main(m) }

func TestBroker(t *testing.T) {
	t.Parallel()
	courantetest.TestBroker(t, func(t *testing.T) courantetest.BrokerFixture {
		address := courantetest.RabbitMQURL(t)
		prefix := courantetest.RabbitMQPrefix()
		line := newLine(t)
		connect := func(t *testing.T) *rabbitmq.Broker {
			return open(t, rabbitmq.Config{URLs: []string{address}, Prefix: prefix, Dial: line.dial})
		}
		return courantetest.BrokerFixture{
			Connect: func(t *testing.T) courante.Broker { return connect(t) },
			Cut:     func(*testing.T) { line.cut() },
			Delete: func(t *testing.T, q courante.Queue) {
				if err := connect(t).Delete(t.Context(), q); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func open(t testing.TB, config rabbitmq.Config) *rabbitmq.Broker {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	b, err := rabbitmq.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// line is the network between brokers and RabbitMQ.
type line struct {
	mu    sync.Mutex
	conns []net.Conn
}

func newLine(testing.TB) *line { return &line{} }

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, conn)
		l.mu.Unlock()
	}
	return conn, err
}

// cut breaks all connections.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
	l.conns = nil
}
