package audit

import (
	"fmt"

	"github.com/courante-dev/courante"
)

// set is a set of event types of one service, a bit for each.
type set uint64

func (s set) holds(all set) bool { return s&all == all }

// closed is the bit of the runtime's own event, by which it records the end of a
// deadline or an effect that led to nothing else.
const (
	closed     set = 1 << 63
	closedType     = "courante.closed"
)

// service is what a context declares, ready for looking at hundreds of
// thousands of events.
type service struct {
	name  string
	bits  map[string]set     // by event type
	steps map[trigger][]step // by what runs them
	event map[string][]step  // by event type, those of steps that an event runs
}

// trigger is what runs a step: kind is that of courante.ManifestStep.On. The
// name of a command is not in the log, so those have none.
type trigger struct{ kind, name string }

type step struct {
	name         string
	when, unless set
	outcomes     []outcome
}

type outcome struct {
	when, unless set
	emits        set
	events       int
}

func newService(m courante.Manifest) (*service, error) {
	s := &service{name: m.Service, bits: map[string]set{closedType: closed}, steps: map[trigger][]step{}, event: map[string][]step{}}
	if len(m.Events) > 63 {
		return nil, fmt.Errorf("service %s declares %d types of events, and an audit can tell 63 apart", m.Service, len(m.Events))
	}
	for i, t := range m.Events {
		s.bits[t.Name] = 1 << i
	}
	for _, d := range m.Steps {
		st := step{name: d.Name, when: s.set(d.When), unless: s.set(d.Unless)}
		for _, o := range d.Outcomes {
			st.outcomes = append(st.outcomes, outcome{when: s.set(o.When), unless: s.set(o.Unless), emits: s.set(o.Emits), events: len(o.Emits)})
		}
		t := trigger{d.On, d.Trigger}
		switch d.On {
		case "command":
			t.name = ""
		case "event":
			s.event[d.Trigger] = append(s.event[d.Trigger], st)
		}
		s.steps[t] = append(s.steps[t], st)
	}
	return s, nil
}

// set is the bits of the types; those of other services have none.
func (s *service) set(types []string) (all set) {
	for _, t := range types {
		all |= s.bits[t]
	}
	return all
}

func allowed(past, when, unless set) bool { return past.holds(when) && past&unless == 0 }

// bound reports whether the step, run after these events of its service, has to
// emit something.
func (st *step) bound(past set) bool {
	if !allowed(past, st.when, st.unless) {
		return false
	}
	bound := false
	for _, o := range st.outcomes {
		if !allowed(past, o.when, o.unless) {
			continue
		}
		if o.events == 0 {
			return false
		}
		bound = true
	}
	return bound
}

// explains reports whether the events, emitted on one trigger after those of the
// past, are outcomes of the steps that it runs, each at most once. done are the
// steps that are explained, a bit for each.
func explains(steps []step, past set, emitted []set, done uint64) bool {
	if len(emitted) == 0 {
		return true
	}
	for i := range steps {
		if done&(1<<i) != 0 || !allowed(past, steps[i].when, steps[i].unless) {
			continue
		}
		for _, o := range steps[i].outcomes {
			if o.events == 0 || o.events > len(emitted) || !allowed(past, o.when, o.unless) {
				continue
			}
			var got set
			for _, e := range emitted[:o.events] {
				got |= e
			}
			if got == o.emits && explains(steps, past|got, emitted[o.events:], done|1<<i) {
				return true
			}
		}
	}
	return false
}
