package schema_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/schema"
)

// The forms of one event over time. Each is a Go type, as it would stand in the
// code after a change.
type (
	base struct {
		ID    string    `json:"id"`
		Count int64     `json:"count"`
		At    time.Time `json:"at"`
		Note  string    `json:"note,omitempty"`
		Lines []line    `json:"lines"`
	}
	line struct {
		SKU string `json:"sku"`
	}
	named struct{}
)

func (named) EventType() string { return "test.happened" }

// of declares one event type and returns the services that do.
func of(p courante.Payload) *courante.Service {
	s := courante.NewService("test")
	s.Emits(courante.Critical, p)
	return s
}

type happened struct {
	named
	base
}

func TestChanges(t *testing.T) {
	t.Parallel()
	tests := []struct {
		change string
		is     courante.Payload
		state  schema.State
		path   string
		breaks schema.Broken
	}{
		{"none", happened{}, schema.Same, "", ""},
		{"a field that may be left out is added", struct {
			happened
			More string `json:"more,omitempty"`
		}{}, schema.Changed, "more", schema.Nobody},
		{"a field that is expected is added", struct {
			happened
			More string `json:"more"`
		}{}, schema.Breaks, "more", schema.Stored},
		{"a field is gone", struct {
			named
			ID    string    `json:"id"`
			At    time.Time `json:"at"`
			Note  string    `json:"note,omitempty"`
			Lines []line    `json:"lines"`
		}{}, schema.Breaks, "count", schema.Readers},
		{"a field has another type", struct {
			named
			ID    string    `json:"id"`
			Count string    `json:"count"`
			At    time.Time `json:"at"`
			Note  string    `json:"note,omitempty"`
			Lines []line    `json:"lines"`
		}{}, schema.Breaks, "count", schema.Both},
		{"an integer is smaller", struct {
			named
			ID    string    `json:"id"`
			Count int32     `json:"count"`
			At    time.Time `json:"at"`
			Note  string    `json:"note,omitempty"`
			Lines []line    `json:"lines"`
		}{}, schema.Breaks, "count", schema.Stored},
		{"an integer becomes any number", struct {
			named
			ID    string    `json:"id"`
			Count float64   `json:"count"`
			At    time.Time `json:"at"`
			Note  string    `json:"note,omitempty"`
			Lines []line    `json:"lines"`
		}{}, schema.Breaks, "count", schema.Readers},
		{"what was a time is any text", struct {
			named
			ID    string `json:"id"`
			Count int64  `json:"count"`
			At    string `json:"at"`
			Note  string `json:"note,omitempty"`
			Lines []line `json:"lines"`
		}{}, schema.Breaks, "at", schema.Readers},
		{"a field may be left out now", struct {
			named
			ID    string    `json:"id,omitempty"`
			Count int64     `json:"count"`
			At    time.Time `json:"at"`
			Note  string    `json:"note,omitempty"`
			Lines []line    `json:"lines"`
		}{}, schema.Breaks, "id", schema.Readers},
		{"a field is expected now", struct {
			named
			ID    string    `json:"id"`
			Count int64     `json:"count"`
			At    time.Time `json:"at"`
			Note  string    `json:"note"`
			Lines []line    `json:"lines"`
		}{}, schema.Breaks, "note", schema.Stored},
		{"a field of a line is renamed", struct {
			named
			ID    string    `json:"id"`
			Count int64     `json:"count"`
			At    time.Time `json:"at"`
			Note  string    `json:"note,omitempty"`
			Lines []struct {
				SKU string `json:"article"`
			} `json:"lines"`
		}{}, schema.Breaks, "lines[].sku", schema.Readers},
		{"a field may be null", struct {
			named
			ID    *string   `json:"id"`
			Count int64     `json:"count"`
			At    time.Time `json:"at"`
			Note  string    `json:"note,omitempty"`
			Lines []line    `json:"lines"`
		}{}, schema.Breaks, "id", schema.Readers},
	}
	dir := t.TempDir()
	if _, err := schema.Export(dir, of(happened{})); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.change, func(t *testing.T) {
			t.Parallel()
			f := check(t, dir, tt.is)
			if f.State != tt.state {
				t.Fatalf("got %+v, want state %s", f, tt.state)
			}
			if tt.path == "" {
				return
			}
			found := false
			for _, c := range f.Changes {
				found = found || c.Path == tt.path && c.Breaks == tt.breaks
			}
			if !found || f.Fix == "" {
				t.Errorf("got %+v, want %s to break %q, and a fix", f, tt.path, tt.breaks)
			}
			own := t.TempDir()
			for _, p := range []courante.Payload{happened{}, tt.is} {
				if _, err := schema.Export(own, of(p)); err != nil {
					t.Fatal(err)
				}
			}
			if f := check(t, own, tt.is); f.State == schema.Breaks != (tt.state == schema.Breaks) {
				t.Errorf("got %+v after an export, want only what is compatible to be written", f)
			}
		})
	}
}

func check(t *testing.T, dir string, p courante.Payload) schema.Finding {
	t.Helper()
	findings, err := schema.Check(dir, of(p))
	if err != nil || len(findings) != 1 {
		t.Fatalf("got %v, %v; want one finding", findings, err)
	}
	return findings[0]
}

// second is the event at version 2: what was a number is a text.
type second struct {
	named
	Count string `json:"count"`
}

func (second) SchemaVersion() int { return 2 }

// Upcast makes a text of the number.
func (second) Upcast(_ int, data json.RawMessage) (json.RawMessage, error) {
	var was struct {
		Count json.Number `json:"count"`
	}
	if err := json.Unmarshal(data, &was); err != nil {
		return nil, err
	}
	return json.Marshal(second{Count: was.Count.String()})
}

// forgetful is second with an upcaster that does nothing.
type forgetful struct{ second }

// Upcast forgets to.
func (forgetful) Upcast(_ int, data json.RawMessage) (json.RawMessage, error) { return data, nil }

func TestOlderVersions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := schema.Export(dir, of(happened{})); err != nil {
		t.Fatal(err)
	}
	if f := check(t, dir, second{}); f.State != schema.New || f.Version != 2 {
		t.Errorf("got %+v, want a new version", f)
	}
	if _, err := schema.Export(dir, of(second{})); err != nil {
		t.Fatal(err)
	}
	examples := filepath.Join(dir, "examples")
	if err := os.Mkdir(examples, 0o755); err != nil {
		t.Fatal(err)
	}
	example := `{"id":"a","count":17,"at":"2026-01-02T03:04:05Z","lines":[{"sku":"tea"}]}`
	if err := os.WriteFile(filepath.Join(examples, "test.happened.v1.json"), []byte(example), 0o644); err != nil {
		t.Fatal(err)
	}
	if f := check(t, dir, second{}); f.State != schema.Same {
		t.Errorf("got %+v, want nothing to say: the old example is brought up", f)
	}
	f := check(t, dir, forgetful{})
	if f.State != schema.Breaks || len(f.Changes) != 1 || !strings.Contains(f.Changes[0].Detail, "/count is integer and should be string") {
		t.Errorf("got %+v, want the example of version 1 not to fit", f)
	}
	if f := check(t, dir, happened{}); f.State != schema.Breaks {
		t.Errorf("got %+v, want a version that was lowered to break", f)
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := schema.Export(dir, of(happened{})); err != nil {
		t.Fatal(err)
	}
	findings, err := schema.Check(dir, courante.NewService("test"))
	if err != nil || len(findings) != 1 || findings[0].State != schema.Breaks || findings[0].Event != "test.happened" {
		t.Errorf("got %+v, %v; want test.happened to be missed", findings, err)
	}
}

// recursive contains itself.
type recursive struct {
	named
	Parts []recursive `json:"parts"`
}

func TestNoFixedForm(t *testing.T) {
	t.Parallel()
	if _, err := schema.Check(t.TempDir(), of(recursive{})); err == nil || !strings.Contains(err.Error(), "parts") {
		t.Errorf("got %v, want an error that names the field", err)
	}
}
