//go:build linux || darwin

package postgres

import "testing"

func TestInspectChangesNothing(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	list, err := Inspect(t.Context(), config, "orders")
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

	openConfig(t, config)
	after, err := Inspect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(list) {
		t.Errorf("got %d migrations, want %d: the registered log is inspected unasked", len(after), len(list))
	}
	for _, m := range after {
		if m.Applied.IsZero() {
			t.Errorf("%s %d is not applied in an open database", m.Schema, m.Version)
		}
	}
}
