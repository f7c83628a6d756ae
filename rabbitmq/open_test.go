package rabbitmq_test

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/rabbitmq"
)

func TestConfigSaysAllThatIsWrong(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		config rabbitmq.Config
		want   []string
	}{
		"nothing given": {rabbitmq.Config{}, []string{"give the URL"}},
		"not an address": {
			rabbitmq.Config{URLs: []string{"http://u:s3cret@h", "amqp://u:s3cret#@h", "amqp://u:s3cret@h:99999999999"}},
			[]string{"address 1", "address 2", "address 3", "percent-encoded"},
		},
		"contradictions": {
			rabbitmq.Config{URLs: []string{"amqp://h"}, Password: "s3cret", PasswordFile: "f", Prefix: "a.b", Prefetch: 70000, Window: -1, Heartbeat: 1},
			[]string{"remove one", "without a user", `"a.b"`, "70000", "-1", "1ns"},
		},
	} {
		_, err := rabbitmq.Open(t.Context(), tt.config)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %q shows a password", name, err)
		}
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	address := strings.Replace(courantetest.RabbitMQURL(t), "guest:guest@", "", 1)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("guest\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Members that do not answer are passed over.
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	b := open(t, rabbitmq.Config{
		URLs:     []string{"amqp://" + dead.Addr().String(), address},
		Username: "guest", PasswordFile: file, Prefix: courantetest.RabbitMQPrefix(),
	})
	if err := b.Declare(t.Context(), courante.Queue{Subscriber: "inventory", Lanes: 1}); err != nil {
		t.Errorf("with the password of a file, at the second address: %v", err)
	}

	for name, config := range map[string]rabbitmq.Config{
		"user": {URLs: []string{address}, Username: "guest", Password: "s3cret"},
		"host": {URLs: []string{address + "nowhere"}},
	} {
		config.Logger = slog.New(slog.DiscardHandler)
		_, err := rabbitmq.Open(t.Context(), config)
		if err == nil || !strings.Contains(err.Error(), "Check") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("wrong %s: %v, want an error that says what to check, and no password", name, err)
		}
	}
}

func TestStartsWithoutRabbitMQ(t *testing.T) {
	t.Parallel()
	address := courantetest.RabbitMQURL(t)
	line := newLine(t)
	line.close()
	b := open(t, rabbitmq.Config{URLs: []string{address}, Prefix: courantetest.RabbitMQPrefix(), Dial: line.dial})
	q := courante.Queue{Subscriber: "inventory", Lanes: 1}
	if _, err := b.Consume(t.Context(), q); !errors.Is(err, courante.ErrTransient) {
		t.Errorf("Consume without RabbitMQ: %v, want a transient error", err)
	}
	line.open()
	for {
		c, err := b.Consume(t.Context(), q)
		if err == nil {
			c.Close()
			break
		}
		if !errors.Is(err, courante.ErrTransient) {
			t.Fatalf("Consume once RabbitMQ is there: %v", err)
		}
	}
	b.Close()
	if _, err := b.Consume(t.Context(), q); !errors.Is(err, courante.ErrClosed) {
		t.Errorf("Consume after Close: %v, want ErrClosed", err)
	}
	if err := b.Publish(t.Context(), []courante.Message{{Links: []courante.Link{{Queue: q}}}}); !errors.Is(err, courante.ErrClosed) {
		t.Errorf("Publish after Close: %v, want ErrClosed", err)
	}
	b.Close() // twice is once
}
