//go:build linux || darwin

package postgres

import (
	"io/fs"
	"testing"
	"testing/fstest"
)

func TestInspectChangesNothing(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	own := fstest.MapFS{"001_stock.sql": {Data: []byte("create table {schema}.stock (sku text)")}}
	list, err := Inspect(t.Context(), config, map[string]fs.FS{"orders": own})
	if err != nil {
		t.Fatal(err)
	}
	schemas := map[string]int{}
	for _, m := range list {
		schemas[m.Schema]++
		if !m.Applied.IsZero() {
			t.Errorf("%s %d is applied in a database that nobody used", m.Schema, m.Version)
		}
	}
	if schemas[config.Schema] == 0 || schemas[config.Schema+"_orders"] == 0 || len(schemas) != 2 {
		t.Errorf("got migrations by schema %v, want those of the ticker and of the log", schemas)
	}
	var there bool
	if err := testConn(t).QueryRow(t.Context(), "select exists (select from pg_namespace where starts_with(nspname, $1))", config.Schema).Scan(&there); err != nil {
		t.Fatal(err)
	}
	if there {
		t.Error("a schema was made")
	}

	db, s := openConfig(t, config)
	after, err := Inspect(t.Context(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(list)-1 {
		t.Errorf("got %d migrations, want %d: the registered log is inspected unasked, but for the context's own", len(after), len(list)-1)
	}
	if err := db.MigrateSchema(t.Context(), s.Schema(), own); err != nil {
		t.Fatal(err)
	}
	after, err = Inspect(t.Context(), config, map[string]fs.FS{"orders": own})
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range list { // in the same order
		if i >= len(after) || m.Schema != after[i].Schema || m.Source != after[i].Source || m.Version != after[i].Version {
			t.Fatalf("got migrations %+v, want those of before, %+v", after, list)
		}
	}
	for _, m := range after {
		if m.Applied.IsZero() {
			t.Errorf("%s %d is not applied in an open database", m.Schema, m.Version)
		}
	}
}
