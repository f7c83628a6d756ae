package app

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/postgres"
)

// databaseOf makes a database and returns its URL.
func databaseOf(t *testing.T, name string) (string, *pgx.Conn) {
	t.Helper()
	config, err := pgx.ParseConfig(courantetest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	if _, err := admin.Exec(t.Context(), "create database "+name); err != nil {
		t.Fatal(err)
	}
	url := strings.Replace(courantetest.PostgresURL(t), "/"+config.Database, "/"+name, 1)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return url, conn
}

func tables(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), "select schemaname || '.' || tablename from pg_tables where schemaname !~ '^(pg_|information_schema)' order by 1")
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// looking are the commands that look at a running system, or act on it.
var looking = []string{
	"top --once", "audit", "events tail --from start", "events show book:first", "saga show first",
	"deadletter list", "deadletter show loans/1", "deadletter dry-run loans/1", "deadletter requeue loans/1",
	"projection list", "projection rebuild loans books", "subscriber list", "subscriber repair loans --log loans --to now",
	"subscriber add loans --log loans --from now", "subscriber retire loans",
	"log parts", "log close loans", "log seal loans 1", "log detach loans 1",
}

// TestWrongDatabase: who names another program's database, or one that nothing
// was ever kept in, is told so, and leaves it as it was.
func TestWrongDatabase(t *testing.T) {
	other, otherConn := databaseOf(t, "of_a_garage")
	db, err := postgres.Open(t.Context(), postgres.Config{URL: other, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	for _, log := range []string{"cars", "tyres"} {
		if _, err := db.Store(t.Context(), log); err != nil {
			t.Fatal(err)
		}
	}
	empty, emptyConn := databaseOf(t, "of_nobody")
	older, olderConn := databaseOf(t, "of_last_year")
	for _, sql := range []string{
		"create schema courante", "create table courante.migration (version int, applied timestamptz, source text, name text)",
		"insert into courante.migration values (1, now(), 'courante', 'ticker')",
	} {
		if _, err := olderConn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, database := range []struct {
		url  string
		conn *pgx.Conn
		says []string
	}{
		{other, otherConn, []string{"another program's", "cars, tyres", "this program has loans"}},
		{empty, emptyConn, []string{"no program was ever started on this database"}},
		{older, olderConn, []string{"older than this program", "library migrate"}},
	} {
		before := tables(t, database.conn)
		t.Setenv("COURANTE_POSTGRES_URL", database.url)
		for _, line := range looking {
			out, errs, code := runLibrary(t, strings.Fields(line)...)
			if code != ExitFailed {
				t.Errorf("library %s: code %d, want %d:\n%s%s", line, code, ExitFailed, out, errs)
			}
			for _, says := range database.says {
				if !strings.Contains(out+errs, says) {
					t.Errorf("library %s does not say %q:\n%s%s", line, says, out, errs)
				}
			}
		}
		if after := tables(t, database.conn); !slices.Equal(before, after) {
			t.Errorf("there were the tables %v, and now there are %v", before, after)
		}
	}
}
