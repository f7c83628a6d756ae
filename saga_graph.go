package courante

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// SagaGraph is a saga as its services declare it: steps, and what leads from
// one to the next. It is made from declarations alone; nothing is run. It must
// not be changed.
type SagaGraph struct {
	Saga
	Owner    string     `json:"owner"`    // service that declares the saga
	Services []string   `json:"services"` // that take part, in the order given
	Steps    []SagaStep `json:"steps"`    // service by service, in the order declared
	Edges    []SagaEdge `json:"edges"`

	all   []*Service     // every service given, also those that take no part
	nodes []*step        // as Steps
	outer map[*step]bool // steps that something outside the saga sets off, and that act on what it lives on
	index map[*step]int
}

// SagaStep is one step of a saga.
type SagaStep struct {
	Service  string    `json:"service"`
	Name     string    `json:"name"`
	On       string    `json:"on"`      // "event", "command", "effect" or "deadline"
	Trigger  string    `json:"trigger"` // its name
	When     []string  `json:"when,omitempty"`
	Unless   []string  `json:"unless,omitempty"`
	Outcomes []Outcome `json:"outcomes,omitempty"`
	Undoes   string    `json:"undoes,omitempty"`
	Pivot    bool      `json:"pivot,omitempty"`
	Repeats  bool      `json:"repeats,omitempty"`
	Starts   bool      `json:"starts,omitempty"` // it emits the event that begins the saga
	Forever  bool      `json:"until_answered,omitempty"`
}

// SagaEdge leads from a step to a step that it may bring about, or to an end.
type SagaEdge struct {
	From  int    `json:"from"` // index of a step
	To    int    `json:"to"`   // index of a step, or -1 for an end
	Kind  string `json:"kind"` // "event", "effect" or "deadline"
	Name  string `json:"name"`
	Fails bool   `json:"fails,omitempty"` // it belongs to the way back: a failure or a compensation
}

// BuildSaga collects the saga of that name from the declarations of all
// services: what reacts to its first event, what these steps emit, ask for and
// set, what reacts to that, and so on. A command belongs to it if it emits one
// of its events; and so does a step of another saga that emits an event to the
// states that this one lives on (see [Saga]). A saga that nobody declares, or whose first event nobody
// emits, is an error; everything else is for [SagaGraph.Check] to say.
func BuildSaga(services []*Service, name string) (*SagaGraph, error) {
	names := map[string]bool{}
	var problems []error
	for _, s := range services {
		if names[s.name] {
			problems = append(problems, fmt.Errorf("saga %s: two services are called %s", name, s.name))
		}
		names[s.name] = true
		problems = append(problems, s.problems...)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	for _, s := range services {
		for _, saga := range s.sagas {
			if saga.Name == name {
				return buildSaga(services, s, saga)
			}
		}
	}
	return nil, fmt.Errorf("saga %s: no service declares it; the one that owns its first event should, with Service.Saga", name)
}

// BuildSagas builds every saga that the services declare.
func BuildSagas(services []*Service) ([]*SagaGraph, error) {
	var graphs []*SagaGraph
	var problems []error
	seen := map[string]string{}
	for _, s := range services {
		for _, saga := range s.sagas {
			if other, twice := seen[saga.Name]; twice {
				problems = append(problems, fmt.Errorf("saga %s: declared by %s and again by %s", saga.Name, other, s.name))
				continue
			}
			seen[saga.Name] = s.name
			g, err := BuildSaga(services, saga.Name)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			graphs = append(graphs, g)
		}
	}
	return graphs, errors.Join(problems...)
}

func buildSaga(services []*Service, owner *Service, saga Saga) (*SagaGraph, error) {
	g := &SagaGraph{Saga: saga, Owner: owner.name, all: services, index: map[*step]int{}}
	part := g.collect()
	started := false
	for _, s := range services {
		for _, st := range s.steps {
			if !part[st] {
				continue
			}
			if !slices.Contains(g.Services, s.name) {
				g.Services = append(g.Services, s.name)
			}
			g.index[st] = len(g.nodes)
			g.nodes = append(g.nodes, st)
			g.Steps = append(g.Steps, st.describe(saga.Starts))
			started = started || st.emits[saga.Starts]
		}
	}
	if !started {
		return nil, fmt.Errorf("saga %s: it starts with %s, which no step of any service emits", saga.Name, saga.Starts)
	}
	types := map[string]bool{}
	for _, st := range g.nodes {
		for typ := range st.emits {
			types[typ] = true
		}
	}
	if len(types) > maxSagaEvents {
		return nil, fmt.Errorf("saga %s: its steps emit %d types of events, and the check takes up to %d; split the saga", saga.Name, len(types), maxSagaEvents)
	}
	g.connect()
	return g, nil
}

// collect returns the steps that belong to the saga: the closure, over all
// services, of what its first event brings about, and what acts on the states
// that it lives on from outside.
func (g *SagaGraph) collect() map[*step]bool {
	part, events := map[*step]bool{}, map[string]bool{g.Starts: true}
	g.outer = map[*step]bool{}
	for g.follow(part, events); g.letIn(part, events); {
		g.follow(part, events)
	}
	for st := range g.outer {
		if g.belongs(st.service, st, part, events) {
			delete(g.outer, st) // something that came in later sets it off
		}
	}
	return part
}

// follow adds what follows from what is there.
func (g *SagaGraph) follow(part map[*step]bool, events map[string]bool) {
	for grown := true; grown; {
		grown = false
		for _, s := range g.all {
			for _, st := range s.steps {
				if part[st] || !g.belongs(s, st, part, events) {
					continue
				}
				part[st], grown = true, true
				for _, o := range st.Outcomes {
					// A step that begins the saga may do other things as
					// well, which are no part of it.
					if st.emits[g.Starts] && !slices.Contains(o.Emits, g.Starts) {
						continue
					}
					for _, typ := range o.Emits {
						// So may a command that acts on several sagas.
						if st.trigger.command == "" || g.elsewhere(typ) == "" {
							events[typ] = true
						}
					}
				}
			}
		}
	}
}

// letIn adds the steps that act on what the saga lives on and that nothing in it
// sets off.
func (g *SagaGraph) letIn(part map[*step]bool, events map[string]bool) (grown bool) {
	for _, s := range g.all {
		for _, st := range s.steps {
			for typ := range st.emits {
				if g.livesOn(typ) == g.Name && !part[st] {
					part[st], g.outer[st], grown = true, true, true
				}
				if part[st] && g.outer[st] && g.livesOn(typ) == g.Name {
					events[typ] = true
				}
			}
		}
	}
	return grown
}

func (g *SagaGraph) belongs(s *Service, st *step, part map[*step]bool, events map[string]bool) bool {
	if st.emits[g.Starts] {
		return true
	}
	t := st.trigger
	if t.event != "" {
		return events[t.event]
	}
	if t.command != "" {
		for typ := range st.emits {
			if events[typ] || slices.Contains(g.Completed, typ) || slices.Contains(g.Compensated, typ) {
				return true
			}
		}
		return false
	}
	for _, other := range s.steps {
		if part[other] && (t.effect != "" && other.asks[t.effect] || t.deadline != "" && other.sets[t.deadline]) {
			return true
		}
	}
	return false
}

func (t trigger) kindAndName() (kind, name string) {
	switch {
	case t.event != "":
		return "event", t.event
	case t.effect != "":
		return "effect", t.effect
	case t.deadline != "":
		return "deadline", t.deadline
	default:
		return "command", t.command
	}
}

func (st *step) describe(starts string) SagaStep {
	kind, name := st.trigger.kindAndName()
	return SagaStep{
		Service: st.service.name, Name: st.Name, On: kind, Trigger: name,
		When: st.When, Unless: st.Unless, Outcomes: st.Outcomes, Undoes: st.Undoes, Pivot: st.Pivot, Repeats: st.Repeats,
		Starts:  st.emits[starts],
		Forever: kind == "effect" && st.service.effects[name].forever,
	}
}

// connect draws the edges, in the order of the steps that they come from.
func (g *SagaGraph) connect() {
	for from, st := range g.nodes {
		for _, typ := range st.names(func(o Outcome) []string { return o.Emits }) {
			back := st.turnsBack(typ)
			for to, other := range g.nodes {
				if other.trigger.event == typ {
					g.Edges = append(g.Edges, SagaEdge{from, to, "event", typ, back || other.Undoes != ""})
				}
			}
			if slices.Contains(g.Completed, typ) || slices.Contains(g.Compensated, typ) {
				g.Edges = append(g.Edges, SagaEdge{from, -1, "event", typ, slices.Contains(g.Compensated, typ)})
			}
		}
		for to, other := range g.nodes {
			if other.service != st.service {
				continue
			}
			if t := other.trigger; st.asks[t.effect] {
				g.Edges = append(g.Edges, SagaEdge{from, to, "effect", t.effect, st.Undoes != "" || other.Undoes != ""})
			} else if st.sets[t.deadline] {
				g.Edges = append(g.Edges, SagaEdge{from, to, "deadline", t.deadline, true})
			}
		}
	}
	g.spreadBack()
}

// spreadBack marks what follows only from the way back as the way back.
func (g *SagaGraph) spreadBack() {
	for grown := true; grown; {
		grown = false
		forward, back := make([]bool, len(g.Steps)), make([]bool, len(g.Steps))
		for _, e := range g.Edges {
			if e.To >= 0 {
				forward[e.To] = forward[e.To] || !e.Fails
				back[e.To] = back[e.To] || e.Fails
			}
		}
		for i := range g.Edges {
			if e := &g.Edges[i]; !e.Fails && back[e.From] && !forward[e.From] && !g.Steps[e.From].Starts {
				e.Fails, grown = true, true
			}
		}
	}
}

// alike reports whether two steps can do the same deed: an outcome of each emits
// and asks for the same and is no failure. A charge that either of two events
// may set off, whichever comes last, is one deed of two steps, and what undoes
// the one undoes the other.
func alike(a, b *step) bool {
	return a.service == b.service && (a == b || slices.ContainsFunc(a.Outcomes, func(o Outcome) bool {
		return slices.ContainsFunc(b.Outcomes, o.sameDeed)
	}))
}

func (o Outcome) sameDeed(p Outcome) bool {
	sorted := func(names []string) []string { return slices.Sorted(slices.Values(names)) }
	return !o.Fails && !p.Fails && len(o.Emits)+len(o.Asks) > 0 &&
		slices.Equal(sorted(o.Emits), sorted(p.Emits)) && slices.Equal(sorted(o.Asks), sorted(p.Asks))
}

// turnsBack reports whether an event of the step always means the way back.
func (st *step) turnsBack(typ string) bool {
	if st.Undoes != "" {
		return true
	}
	for _, o := range st.Outcomes {
		if slices.Contains(o.Emits, typ) && !o.Fails {
			return false
		}
	}
	return true
}

// names returns what the outcomes name, each once, in the order declared.
func (st *step) names(of func(Outcome) []string) []string {
	var names []string
	for _, o := range st.Outcomes {
		for _, name := range of(o) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// short is the part of an event type that people say: what follows the last
// dot.
func short(typ string) string { return typ[strings.LastIndexByte(typ, '.')+1:] }

func shorts(types []string) []string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = short(t)
	}
	return names
}
