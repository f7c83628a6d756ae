package rabbitmq_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/rabbitmq"
)

// TestSecure has a server that speaks TLS with who shows a certificate, and
// changes a password under a program that runs.
func TestSecure(t *testing.T) {
	t.Parallel()
	certs, others := courantetest.NewCertificates(t), courantetest.NewCertificates(t)
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port.Close()
	secure := port.Addr().String()
	server := courantetest.StartRabbitMQ(t,
		"listeners.ssl.1 = "+secure, "ssl_options.cacertfile = "+certs.CA, "ssl_options.certfile = "+certs.Cert, "ssl_options.keyfile = "+certs.Key,
		"ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = true")
	full := func(c courantetest.Certificates) string {
		return "?" + url.Values{"cacertfile": {certs.CA}, "certfile": {c.Cert}, "keyfile": {c.Key}}.Encode()
	}

	t.Run("with certificates", func(t *testing.T) {
		b := open(t, rabbitmq.Config{URLs: []string{"amqps://guest:guest@" + secure + "/" + full(certs)}, Prefix: courantetest.RabbitMQPrefix()})
		// The server answers on its plain port before it listens on this one.
		eventually(t, "listening for TLS", func() error { return b.Check(t.Context()) })
		flowsThrough(t, b)
	})
	for _, tt := range []struct{ name, url, fix string }{
		{"unknown authority", "amqps://guest:s3cret@" + secure + "/", "?cacertfile="},
		{"without a certificate", "amqps://guest:s3cret@" + secure + "/?cacertfile=" + certs.CA, "certfile=FILE&keyfile=FILE"},
		{"somebody else's certificate", "amqps://guest:s3cret@" + secure + "/" + full(others), "certfile=FILE&keyfile=FILE"},
		{"another name", "amqps://guest:s3cret@" + strings.Replace(secure, "127.0.0.1", "localhost", 1) + "/" + full(certs), "name that is in the server's certificate"},
		{"TLS to a plain port", "amqps://guest:s3cret@" + server.Address() + "/" + full(certs), "does not speak TLS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// A server that refuses a client may close the connection before the
			// client has read why; that looks like a server that is away.
			eventually(t, "told what to do", func() error {
				b, err := rabbitmq.Open(t.Context(), rabbitmq.Config{URLs: []string{tt.url}})
				if err == nil {
					b.Close()
				}
				if err == nil || !strings.Contains(err.Error(), tt.fix) || strings.Contains(err.Error(), "s3cret") {
					return fmt.Errorf("got %w, want an error with %q and without the password", err, tt.fix)
				}
				return nil
			})
		})
	}
	t.Run("a password that changes", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "password")
		change := func(where, password string) {
			if strings.Contains(where, "server") {
				server.Control(t, "change_password", "shop", password)
			}
			if strings.Contains(where, "file") {
				if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		server.Control(t, "add_user", "shop", "first")
		server.Control(t, "set_permissions", "shop", ".*", ".*", ".*")
		change("file", "first")
		b := open(t, rabbitmq.Config{
			URLs: []string{"amqps://" + secure + "/" + full(certs)}, Username: "shop", PasswordFile: file, Prefix: courantetest.RabbitMQPrefix(),
		})
		flowsThrough(t, b)
		change("server", "second")
		flowsThrough(t, b) // connections that there are stay
		server.Control(t, "close_all_connections", "rotation")
		eventually(t, "refused", func() error {
			if err := b.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "password") || !errors.Is(err, courante.ErrTransient) {
				return fmt.Errorf("with the old password: %w, want a transient error that says what to check", err)
			}
			return nil
		})
		change("file", "second")
		eventually(t, "let in", func() error { return b.Check(t.Context()) })
		flowsThrough(t, b)
	})
}

// flowsThrough sends a message and takes it.
func flowsThrough(t *testing.T, b *rabbitmq.Broker) {
	t.Helper()
	q := courante.Queue{Subscriber: "inventory", Lanes: 1}
	c, err := b.Consume(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "published", func() error { return b.Publish(t.Context(), []courante.Message{created(q)}) })
	for {
		list, err := c.Take(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 {
			if err := c.Ack(t.Context(), list[len(list)-1].Tag); err != nil {
				t.Fatal(err)
			}
			return
		}
		select {
		case <-c.Arrived():
		case <-t.Context().Done():
			t.Fatal("nothing comes")
		}
	}
}

// eventually tries until it succeeds: connections have a pace of their own.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.After(flowPatience)
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-pace.C:
		case <-deadline:
			t.Fatalf("not %s: %v", what, err)
		}
	}
}
