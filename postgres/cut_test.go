//go:build linux || darwin

package postgres

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// wire stands between a store and its server and can cut all connections.
type wire struct {
	mu    sync.Mutex
	conns []net.Conn
}

// newWire returns a wire to the server and the URL at which it is reached.
func newWire(t testing.TB) (*wire, string) {
	t.Helper()
	config, err := pgconn.ParseConfig(sharedURL(t))
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	t.Cleanup(func() { listener.Close(); w.cut() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, address)
			if err != nil {
				client.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, client, server)
			w.mu.Unlock()
			go func() { _, _ = io.Copy(server, client); server.Close() }()
			go func() { _, _ = io.Copy(client, server); client.Close() }()
		}
	}()
	u := url.URL{Scheme: "postgres", Host: listener.Addr().String(), Path: "/" + config.Database,
		User: url.UserPassword(config.User, config.Password), RawQuery: "sslmode=disable"}
	return w, u.String()
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func testLostAnswer(t *testing.T, open opener) {
	config := NewTestConfig(t)
	var w *wire
	w, config.URL = newWire(t)
	config.Committers, config.LockTimeout, config.AppendTimeout = 1, time.Minute, time.Minute
	_, s := open(t, config)
	conn := testConn(t)
	tx := hold(t, s, "order:1", 1)
	results := appendAll(t.Context(), s, 0, "order:1")
	eventually(t, "the append to wait", waiting(t, conn, s, 1))
	w.cut()
	if r := <-results; !errors.Is(r.err, courante.ErrUnknownOutcome) {
		t.Errorf("error %v, want an unknown outcome", r.err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It may have gone through or not; the next append is on a new connection.
	_, err := s.Append(t.Context(), "order:2", 0, noted())
	if err != nil {
		t.Error(err)
	}
	// Cut while idle: what is sent next may be noticed to have gone nowhere, or
	// not; nobody is told that it was written when it was not.
	w.cut()
	written := int64(0)
	if _, err := s.Append(t.Context(), "order:3", 0, noted()); err == nil {
		written = 1
	} else if !errors.Is(err, courante.ErrUnknownOutcome) {
		t.Errorf("error %v, want none or an unknown outcome", err)
	}
	wantVersionsAt(t, conn, s, "order:3", written)
	mustAppend(t, s, "order:4", 0, 1)
}

func wantVersionsAt(t testing.TB, conn *pgx.Conn, s *Store, stream string, want int64) {
	t.Helper()
	var n int64
	if err := conn.QueryRow(t.Context(), s.sql("select count(*) from {schema}.event where stream = $1"), stream).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != want {
		t.Errorf("%s has %d events, want %d", stream, n, want)
	}
}

// TestUnreachable: a server that is away is told as transient, at once, and the
// password stays out of it.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	_, err = Open(t.Context(), Config{URL: fmt.Sprintf("postgres://user:sesame@%s/db", address)})
	if !errors.Is(err, courante.ErrTransient) {
		t.Errorf("error %v, want a transient one", err)
	}
	_, badURL := Open(t.Context(), Config{URL: "postgres://user:sesame@host:none/db"})
	for _, err := range []error{err, badURL} {
		if err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("error %v, want one without the password", err)
		}
	}
}
