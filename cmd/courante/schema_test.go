//go:build linux || darwin

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/courante-dev/courante/schema"

	"github.com/courante-dev/courante/app"
)

const schemas = "../../docs/schemas"

// TestSchemas is the gate: an event type that breaks what is stored or who
// reads it, or that is not written down, does not pass.
func TestSchemas(t *testing.T) {
	t.Parallel()
	findings, err := schema.Check(schemas, declaredShop()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if _, err := os.Stat(filepath.Join(schemas, "examples", fmt.Sprintf("%s.v%d.json", f.Event, f.Version))); err != nil {
			t.Errorf("%s version %d has no example: go test ./cmd/courante -run TestKilled -update keeps those that it sees", f.Event, f.Version)
		}
		switch f.State {
		case schema.Same:
		case schema.Breaks:
			t.Errorf("%s version %d breaks: %+v; %s", f.Event, f.Version, f.Changes, f.Fix)
		default:
			t.Errorf("%s version %d is %s: %+v; to write it down: go run ./cmd/courante schema export", f.Event, f.Version, f.State, f.Changes)
		}
	}
}

func TestSchemaCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, _, code := runHere(t, "schema", "check", "--dir", dir); code != app.ExitFailed || !strings.Contains(out, "courante schema export") {
		t.Errorf("schema check of an empty folder: %d %s, want it to fail and to say the fix", code, out)
	}
	if out, said, code := runHere(t, "schema", "export", "--out", dir); code != app.ExitOK || !strings.Contains(out, "written") {
		t.Errorf("schema export: %d %s %s", code, out, said)
	}
	if out, said, code := runHere(t, "schema", "check", "--dir", dir); code != app.ExitOK {
		t.Errorf("schema check: %d %s %s", code, out, said)
	}
	file := filepath.Join(dir, "shop.order_created.v1.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), `"fingerprint"`, `"hash"`, 2)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _, code := runHere(t, "schema", "check", "--dir", dir)
	for _, want := range []string{"shop.order_created", "hash: it is gone (breaks readers)", "fingerprint: it is new and expected", "(breaks stored events)", "fix: "} {
		if code != app.ExitFailed || !strings.Contains(out, want) {
			t.Errorf("schema check of a renamed field: %d\n%s\nwant it to fail and to say %q", code, out, want)
		}
	}
	if out, _, code := runHere(t, "schema", "export", "--out", dir); code != app.ExitFailed || !strings.Contains(out, "1 break") {
		t.Errorf("schema export over a type that breaks: %d\n%s", code, out)
	}
	if _, said, code := runHere(t, "schema", "export", "--event", "shop.nothing"); code != app.ExitUsage || !strings.Contains(said, "courante routes") {
		t.Errorf("schema export of no event: %d %s", code, said)
	}
}

// checkSchemas holds every event that a running shop has stored to its schema.
// With -update, the first of each type is kept as the example of its version.
func checkSchemas(t *testing.T, p *process) {
	t.Helper()
	db := p.database()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiled := map[string]*jsonschema.Schema{}
	for _, log := range []string{"ordering", "inventory", "payment", "shipping", "notification"} {
		rows, err := db.Query(t.Context(), "select type || '.v' || schema, data::text from "+log+".event where type not like 'courante.%'")
		if err != nil {
			t.Fatal(err)
		}
		var name, data string
		if _, err := pgx.ForEachRow(rows, []any{&name, &data}, func() error {
			s := compiled[name]
			if s == nil {
				var err error
				if s, err = compiler.Compile(filepath.Join(schemas, name+".json")); err != nil {
					return err
				}
				compiled[name] = s
				keepExample(t, name, data)
			}
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(data))
			if err != nil {
				return err
			}
			if err := s.Validate(value); err != nil {
				t.Errorf("%s: %v\n%s", name, err, data)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(compiled) == 0 {
		t.Error("no event was held to its schema")
	}
}

// keepExample writes an example that is not there yet. One that is there stays:
// it is what was stored when its version was new.
func keepExample(t *testing.T, name, data string) {
	t.Helper()
	file := filepath.Join(schemas, "examples", name+".json")
	if _, err := os.Stat(file); err == nil || !*update {
		return
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(data+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}
