package courantetest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
	"github.com/jackc/pgx/v5"
)

// server is the PostgreSQL that the tests of one process share.
var server struct {
	once    sync.Once
	running *postgres.Server
	dir     string
	url     string
	err     error
}

// Main runs the tests of a package that uses [PostgresURL] or [RabbitMQURL] and
// stops the servers afterwards. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if server.running != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := server.running.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "stop the test server:", err)
			code = max(code, 1)
		}
		_ = os.RemoveAll(server.dir)
	}
	if rabbit.running != nil {
		rabbit.running.Remove()
	}
	os.Exit(code) //nolint:gocritic // the deferred cancel has nothing left to do
}

// PostgresURL is the server for tests: that of COURANTE_TEST_POSTGRES_URL, or
// one that the first test of the process starts: from the PostgreSQL installed on
// the machine, or, where there is none, from one that it fetches.
func PostgresURL(t testing.TB) string {
	t.Helper()
	s := &server
	s.once.Do(func() {
		if s.url = os.Getenv("COURANTE_TEST_POSTGRES_URL"); s.url != "" {
			return
		}
		if s.dir, s.err = os.MkdirTemp("", "courante-test-"); s.err != nil {
			return
		}
		// Root runs the server as another user, which has to get in.
		if s.err = os.Chmod(s.dir, 0o755); s.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s.running, s.err = postgres.StartServer(ctx, postgres.ServerConfig{
			Dir: s.dir, Logger: slog.New(slog.DiscardHandler), Settings: map[string]string{"max_connections": "300"},
		})
		if s.err == nil {
			s.url = s.running.URL("postgres")
		}
	})
	if s.err != nil {
		t.Fatalf("no test server: %v; install PostgreSQL, or set COURANTE_TEST_POSTGRES_URL", s.err)
	}
	return s.url
}

var lastSchema atomic.Int64

// PostgresConfig is a database of the test's own: schemas that no other test
// uses and that are dropped when it ends. Several postgres.Open with one
// config are several processes on one database.
func PostgresConfig(t testing.TB) postgres.Config {
	t.Helper()
	url := PostgresURL(t)
	schema := fmt.Sprintf("t%d_%d", os.Getpid(), lastSchema.Add(1))
	t.Cleanup(func() {
		if err := dropSchemas(url, schema); err != nil {
			t.Errorf("drop the test's schemas: %v", err)
		}
	})
	return postgres.Config{URL: url, Schema: schema, Logger: slog.New(slog.DiscardHandler)}
}

// Postgres opens a database of the test's own.
func Postgres(t testing.TB) *postgres.Database {
	t.Helper()
	db, err := postgres.Open(t.Context(), PostgresConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// PostgresStore opens the store of a context.
func PostgresStore(t testing.TB, db *postgres.Database, name string) courante.Store {
	t.Helper()
	s, err := db.Store(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dropSchemas(url, prefix string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, _ := conn.Query(ctx, "select nspname::text from pg_namespace where nspname = $1 or starts_with(nspname, $1 || '_')", prefix)
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, schema := range schemas {
		if _, err := conn.Exec(ctx, "drop schema "+pgx.Identifier{schema}.Sanitize()+" cascade"); err != nil {
			return err
		}
	}
	return nil
}
