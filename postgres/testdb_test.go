//go:build linux || darwin

package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// sharedServer is the server that the tests of this process share, each in
// schemas of its own. It is that of COURANTE_TEST_POSTGRES_URL, or one that is
// started by the first test that wants it.
var sharedServer struct {
	once   sync.Once
	url    string
	err    error
	server *Server
	dir    string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if sharedServer.server != nil {
		sharedServer.server.Stop(context.Background())
	}
	if sharedServer.dir != "" {
		os.RemoveAll(sharedServer.dir)
	}
	os.Exit(code)
}

func sharedURL(t testing.TB) string {
	t.Helper()
	s := &sharedServer
	s.once.Do(func() {
		if s.url = os.Getenv("COURANTE_TEST_POSTGRES_URL"); s.url != "" {
			return
		}
		if s.dir, s.err = os.MkdirTemp("", "courante-test-"); s.err != nil {
			return
		}
		if s.err = os.Chmod(s.dir, 0o755); s.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s.server, s.err = StartServer(ctx, ServerConfig{Dir: s.dir, Offline: true, Logger: slog.New(slog.DiscardHandler),
			Settings: map[string]string{"max_connections": "300"}})
		if s.err == nil {
			s.url = s.server.URL("postgres")
		}
	})
	if s.err != nil {
		t.Fatalf("no test server: %v; install PostgreSQL, or set COURANTE_TEST_POSTGRES_URL", s.err)
	}
	return s.url
}

var lastSchema atomic.Int64

// NewTestConfig is the configuration of a database of the test's own: schemas
// that no other test uses, and that go when the test ends.
func NewTestConfig(t testing.TB) Config {
	t.Helper()
	schema := fmt.Sprintf("t%d_%d", os.Getpid(), lastSchema.Add(1))
	url := sharedURL(t)
	t.Cleanup(func() { dropSchemas(t, url, schema) })
	return Config{URL: url, Schema: schema, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func dropSchemas(t testing.TB, url, prefix string) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(ctx)
	rows, _ := conn.Query(ctx, "select nspname::text from pg_namespace where nspname = $1 or starts_with(nspname, $1 || '_')", prefix)
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Error(err)
	}
	for _, schema := range schemas {
		if _, err := conn.Exec(ctx, "drop schema "+pgx.Identifier{schema}.Sanitize()+" cascade"); err != nil {
			t.Error(err)
		}
	}
}

// openTest opens a database and the store "orders" in it, changed by the
// options.
func openTest(t testing.TB, options ...func(*Config)) (*Database, *Store) {
	t.Helper()
	return openWith(t, openConfig, options...)
}

func openWith(t testing.TB, open opener, options ...func(*Config)) (*Database, *Store) {
	t.Helper()
	config := NewTestConfig(t)
	for _, option := range options {
		option(&config)
	}
	return open(t, config)
}

// openConfig is what one more process does that opens the database.
func openConfig(t testing.TB, config Config) (*Database, *Store) {
	t.Helper()
	db, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	store, err := db.Store(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	return db, store
}

// testConn is a connection of somebody else.
func testConn(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), sharedURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// mustExec runs SQL on the connection, with {schema} for the store's.
func mustExec(t testing.TB, conn *pgx.Conn, s *Store, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), strings.ReplaceAll(sql, "{schema}", s.quoted), args...); err != nil {
		t.Fatal(err)
	}
}
