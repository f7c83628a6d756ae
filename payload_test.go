package courante_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
)

// moved is at its third schema version: first it had one name, then two, now a
// list.
type moved struct {
	Names []string `json:"names"`
	Who   struct {
		Street string `json:"street" personal:"true"`
	} `json:"who"`
}

func (moved) EventType() string   { return "test.moved" }
func (moved) SchemaVersion() int  { return 3 }
func (moved) PersonalKey() string { return "person/1" }
func (moved) Upcast(from int, data json.RawMessage) (json.RawMessage, error) {
	var old struct{ Name, First, Last string }
	if err := json.Unmarshal(data, &old); err != nil {
		return nil, err
	}
	switch from {
	case 1:
		first, last, _ := strings.Cut(old.Name, " ")
		return json.Marshal(map[string]string{"first": first, "last": last})
	case 2:
		return json.Marshal(map[string][]string{"names": {old.First, old.Last}})
	}
	return nil, errors.New("no such version")
}

func TestStoredVersionsAreUpcastStepByStep(t *testing.T) {
	t.Parallel()
	for schema, data := range map[int]string{
		1: `{"name":"Ada Lovelace"}`, 2: `{"first":"Ada","last":"Lovelace"}`, 3: `{"names":["Ada","Lovelace"]}`,
	} {
		e := courante.Event{Type: "test.moved", Schema: schema, Data: json.RawMessage(data)}
		got, err := courante.Decode[moved](&e)
		if err != nil || strings.Join(got.Names, " ") != "Ada Lovelace" {
			t.Errorf("version %d: %v, %v", schema, got.Names, err)
		}
		if string(e.Data) != data {
			t.Errorf("version %d: decoding changed the stored data to %s", schema, e.Data)
		}
	}
}

func TestDecodeRefusesWhatItCannotKnow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		e    courante.Event
		want string
	}{
		"newer version": {courante.Event{Type: "test.moved", Schema: 4, Data: json.RawMessage(`{}`)}, "deploy the newer one first"},
		"other type":    {courante.Event{Type: "test.else", Schema: 1, Data: json.RawMessage(`{}`)}, "the event is a test.else"},
		"broken data":   {courante.Event{Type: "test.moved", Schema: 3, Data: json.RawMessage(`{"names":1}`)}, "decode"},
	} {
		if _, err := courante.Decode[moved](&c.e); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestEventCarriesItsSubjectsKey(t *testing.T) {
	t.Parallel()
	e, err := courante.NewEvent(moved{})
	if err != nil || e.Subject != "person/1" || e.Schema != 3 {
		t.Errorf("event = %+v, %v; want subject person/1 at schema 3", e, err)
	}
	s := courante.NewService("test")
	s.Emits(courante.Critical, moved{})
	if got := s.Events()[0].Personal; len(got) != 1 || got[0] != "who.street" {
		t.Errorf("personal fields = %v, want who.street", got)
	}
}

type unmarked struct {
	Street string `json:"street" personal:"true"`
}

func (unmarked) EventType() string { return "test.unmarked" }

type stale struct{}

func (stale) EventType() string  { return "test.stale" }
func (stale) SchemaVersion() int { return 2 }

func TestDeclarationMistakesAreReportedTogether(t *testing.T) {
	t.Parallel()
	s := courante.NewService("test")
	s.Emits(courante.Critical, unmarked{}, stale{})
	s.Emits(courante.Need(0), marked{})
	b := inMemory(t)
	_, err := courante.NewRuntime(courante.Config{Database: b.db, Services: []courante.Mount{{Service: s, Store: b.store("test")}}})
	for _, want := range []string{"no PersonalKey", "no Upcast", "declare what delivery it needs"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewRuntime: %v, want it to say %q too", err, want)
		}
	}
}
