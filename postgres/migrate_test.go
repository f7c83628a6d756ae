//go:build linux || darwin

package postgres

import (
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
)

// TestMigrateAtOnce: of many processes that start at once each finds the
// schemas complete, and every migration ran once.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			db, err := Open(t.Context(), config)
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			if _, err := db.Store(t.Context(), "orders"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	db, _ := openConfig(t, config)
	if err := db.Migrate(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
	list, err := db.Migrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, m := range list {
		if m.Applied.IsZero() {
			t.Errorf("%s %03d_%s is not applied", m.Schema, m.Version, m.Name)
		}
		seen[m.Schema] = true
	}
	if !seen[config.Schema] || !seen[config.Schema+"_orders"] {
		t.Errorf("migrations of schemas %v, want those of the ticker and of the store", seen)
	}
}

// TestContextMigrations: a context's own migrations run beside the store's, in
// order, each once, and a file that fails leaves nothing behind.
func TestContextMigrations(t *testing.T) {
	t.Parallel()
	db, s := openTest(t)
	files := fstest.MapFS{
		"001_stock.sql": {Data: []byte("create table {schema}.stock (sku text); insert into {schema}.stock values ('A');")},
	}
	for range 2 {
		if err := db.MigrateSchema(t.Context(), s.Schema(), files); err != nil {
			t.Fatal(err)
		}
	}
	files["002_more.sql"] = &fstest.MapFile{Data: []byte("insert into {schema}.stock values ('B'); select 1/0;")}
	if err := db.MigrateSchema(t.Context(), s.Schema(), files); err == nil {
		t.Error("a migration that fails is no error")
	}
	rows, _ := db.Pool().Query(t.Context(), s.sql("select sku from {schema}.stock order by 1"))
	if got, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(got) != 1 {
		t.Errorf("stock %v (error %v), want A once", got, err)
	}
	for name, bad := range map[string]fstest.MapFS{
		"a gap":         {"001_a.sql": {}, "003_b.sql": {}},
		"a repetition":  {"001_a.sql": {}, "001_b.sql": {}},
		"no number":     {"first.sql": {}},
		"not beginning": {"002_a.sql": {}},
	} {
		if err := db.MigrateSchema(t.Context(), s.Schema(), bad); err == nil {
			t.Errorf("files with %s are accepted", name)
		}
	}
}

func TestConfigChecks(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]Config{
		"no URL":        {},
		"bad schema":    {URL: "postgres://localhost", Schema: `a"b`},
		"no committers": {URL: "postgres://localhost", Committers: -1},
		"one conn":      {URL: "postgres://localhost", MaxConns: 1},
		"lock timeout":  {URL: "postgres://localhost", LockTimeout: 1},
	} {
		if _, err := Open(t.Context(), config); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	db, _ := openTest(t)
	for _, name := range []string{"", "Orders", "a b", `x"y`} {
		if _, err := db.Store(t.Context(), name); err == nil {
			t.Errorf("a log named %q is accepted", name)
		}
	}
}
