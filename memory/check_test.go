package memory_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

func TestRefusesWhatPostgreSQLRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*courante.Event)
		is     error // nil: any
	}{
		"invalid JSON":             {func(e *courante.Event) { e.Data = []byte(`{`) }, nil},
		"invalid UTF-8 in data":    {func(e *courante.Event) { e.Data = []byte("\"\xff\"") }, nil},
		"escaped zero in data":     {func(e *courante.Event) { e.Data = []byte(`"\\\u0000"`) }, nil},
		"zero character in a text": {func(e *courante.Event) { e.Correlation = "a\x00" }, nil},
		"invalid UTF-8 in a text":  {func(e *courante.Event) { e.Subject = "\xff" }, nil},
		"invalid JSON in notes":    {func(e *courante.Event) { e.Notes = &courante.Notes{Ask: []courante.Request{{Data: []byte(`{`)}}} }, nil},
		"large data":               {func(e *courante.Event) { e.Data = long(1 << 20) }, courante.ErrTooLarge},
		"large notes":              {func(e *courante.Event) { e.Notes = &courante.Notes{Clear: []string{string(long(1 << 20))}} }, courante.ErrTooLarge},
	} {
		s := memory.New(memory.Config{}).Store("ordering")
		e := event("", 0)
		test.change(&e)
		_, err := s.Append(t.Context(), "order:1", 0, event("", 0), e)
		if err == nil || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s: error %v, want one that is %v", name, err, test.is)
		}
		if v := versionOf(t, s, "order:1"); v != 0 {
			t.Errorf("%s: the event before it was stored", name)
		}
	}
	s := memory.New(memory.Config{}).Store("ordering")
	if _, err := s.Append(t.Context(), strings.Repeat("x", 501), 0, event("", 0)); !errors.Is(err, courante.ErrTooLarge) {
		t.Errorf("a long stream name: error %v, want ErrTooLarge", err)
	}
	half := event("", 0)
	half.Data = long(1 << 19)
	if _, err := s.Append(t.Context(), "order:1", 0, half, half, half, half, half, half, half, half); !errors.Is(err, courante.ErrTooLarge) {
		t.Errorf("an append of 4 MiB: error %v, want ErrTooLarge", err)
	}
	fine := event("", 0)
	fine.Data = []byte(`"\\u0000"`) // a backslash and five characters
	empty := event("", 0)
	empty.Data = nil
	if _, err := s.Append(t.Context(), "order:1", 0, fine, empty); err != nil {
		t.Errorf("an escaped backslash before u0000, and no data: %v", err)
	}
	for e, err := range s.ReadStream(t.Context(), "order:1", 1) {
		if err != nil || string(e.Data) != "null" {
			t.Errorf("no data is read as %s (error %v), want null", e.Data, err)
		}
	}
}

func long(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", n) + `"`) }
