package courante

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// manifestForm is the version of a manifest's form. A change that an older
// program would misread counts it up.
const manifestForm = 1

// Manifest is what a service declares, as data: the events it emits, what it
// reacts to and what may come of it. A context that is deployed by itself
// publishes its manifest, and the others are checked against it before they
// are deployed; see [CheckManifests]. The JSON form is stable: lists are in the
// order declared, and fields are added, never renamed.
type Manifest struct {
	Form    int            `json:"manifest"` // version of this form
	Service string         `json:"service"`
	Events  []EventType    `json:"events"`
	Steps   []ManifestStep `json:"steps"`
	Sagas   []Saga         `json:"sagas,omitempty"`

	Evolved map[string][]string `json:"evolved,omitempty"` // categories of sourced states by the event types that change them
}

// ManifestStep is one step of a service.
type ManifestStep struct {
	Name          string    `json:"name"`
	On            string    `json:"on"`                       // "event", "command", "effect" or "deadline"
	Trigger       string    `json:"trigger"`                  // its name
	Schema        int       `json:"schema,omitempty"`         // of an event: the newest schema version that the step can read
	UntilAnswered bool      `json:"until_answered,omitempty"` // of an effect
	When          []string  `json:"when,omitempty"`
	Unless        []string  `json:"unless,omitempty"`
	Outcomes      []Outcome `json:"outcomes,omitempty"`
	Undoes        string    `json:"undoes,omitempty"`
	Pivot         bool      `json:"pivot,omitempty"`
	Repeats       bool      `json:"repeats,omitempty"`
}

// Manifest returns the declarations of the service as data.
func (s *Service) Manifest() Manifest {
	m := Manifest{Form: manifestForm, Service: s.name, Events: s.emitted, Steps: []ManifestStep{}, Sagas: s.sagas, Evolved: s.evolved}
	if m.Events == nil {
		m.Events = []EventType{}
	}
	for _, st := range s.steps {
		d := st.describe("")
		m.Steps = append(m.Steps, ManifestStep{
			Name: d.Name, On: d.On, Trigger: d.Trigger, Schema: st.schema, UntilAnswered: d.Forever,
			When: d.When, Unless: d.Unless, Outcomes: d.Outcomes, Undoes: d.Undoes, Pivot: d.Pivot, Repeats: d.Repeats,
		})
	}
	return m
}

// ReadManifest reads a manifest's JSON form. Fields that it does not know are
// left out; a form that is newer than this program is refused.
func ReadManifest(data []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("read manifest: %w", err)
	}
	if m.Form < 1 || m.Form > manifestForm || m.Service == "" {
		return m, fmt.Errorf("read manifest of %q: its form is %d, this program knows 1 to %d", m.Service, m.Form, manifestForm)
	}
	return m, nil
}

// Declared makes a service of a manifest. It has declarations and no handlers:
// good for [BuildSaga], not for [NewRuntime].
func (m Manifest) Declared() (*Service, error) {
	s := NewService(m.Service)
	for _, t := range m.Events {
		if _, twice := s.events[t.Name]; twice {
			s.problem("event type %s is declared twice", t.Name)
			continue
		}
		s.events[t.Name] = t
		s.emitted = append(s.emitted, t)
	}
	for _, d := range m.Steps {
		decl := Step{Name: d.Name, When: d.When, Unless: d.Unless, Outcomes: d.Outcomes, Undoes: d.Undoes, Pivot: d.Pivot, Repeats: d.Repeats}
		switch d.On {
		case "event":
			s.addStep(decl, trigger{event: d.Trigger}).schema = d.Schema
			if !slices.Contains(s.types, d.Trigger) {
				s.types = append(s.types, d.Trigger)
			}
		case "effect":
			s.effects[d.Trigger] = &effect{step: s.addStep(decl, trigger{effect: d.Trigger}), name: d.Trigger, forever: d.UntilAnswered}
		case "deadline":
			s.addStep(decl, trigger{deadline: d.Trigger})
		case "command":
			s.addStep(decl, trigger{command: d.Trigger})
		default:
			s.problem("step %q is run by a %q, which this program does not know", d.Name, d.On)
		}
	}
	s.sagas, s.evolved = m.Sagas, m.Evolved
	return s, errors.Join(s.problems...)
}

// CheckManifests tells whether services, here or deployed elsewhere, fit
// together: each event type has one owner, what is reacted to is emitted, not
// private, and readable in the schema version that its owner writes; and
// every saga passes its check. The reports are those of the sagas.
func CheckManifests(manifests ...Manifest) ([]*SagaReport, error) {
	var problems []error
	var services []*Service
	owner, types := map[string]string{}, map[string]EventType{}
	for _, m := range manifests {
		s, err := m.Declared()
		if err != nil {
			problems = append(problems, err)
		}
		services = append(services, s)
		for _, t := range m.Events {
			if other, taken := owner[t.Name]; taken && other != m.Service {
				problems = append(problems, fmt.Errorf("event type %s is emitted by both %s and %s; an event has one owner", t.Name, other, m.Service))
				continue
			}
			owner[t.Name], types[t.Name] = m.Service, t
		}
	}
	for _, m := range manifests {
		for _, st := range m.Steps {
			if st.On != "event" {
				continue
			}
			t, emitted := types[st.Trigger]
			switch from := owner[st.Trigger]; {
			case !emitted:
				problems = append(problems, fmt.Errorf("%s: step %q reacts to %s, which nobody emits", m.Service, st.Name, st.Trigger))
			case t.Need == Private && from != m.Service:
				problems = append(problems, fmt.Errorf("%s: step %q reacts to %s, which is private to %s", m.Service, st.Name, st.Trigger, from))
			case st.Schema > 0 && t.Schema > st.Schema:
				problems = append(problems, fmt.Errorf("%s: step %q reads %s up to schema version %d, and %s writes version %d; deploy a newer %s before %s",
					m.Service, st.Name, st.Trigger, st.Schema, from, t.Schema, m.Service, from))
			}
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return CheckSagas(services, 0)
}

// UnmarshalText reads what MarshalText writes.
func (n *Need) UnmarshalText(text []byte) error {
	for need, name := range needNames {
		if name == string(text) {
			*n = need
			return nil
		}
	}
	return fmt.Errorf("delivery need %q is none of critical, realtime, bulk, private", text)
}
