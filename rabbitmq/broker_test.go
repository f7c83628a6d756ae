package rabbitmq_test

import (
	"log/slog"
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
