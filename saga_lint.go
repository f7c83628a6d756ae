package courante

import (
	"fmt"
	"slices"
	"strings"
)

// lint finds names in declarations that lead nowhere, without exploring.
func (g *SagaGraph) lint() []SagaProblem {
	l := &sagaLint{g: g, emitters: map[string][]string{}, declared: map[string]EventType{}, heard: map[string]bool{}}
	for _, s := range g.all {
		for _, t := range s.emitted {
			l.declared[t.Name] = t
		}
		for _, st := range s.steps {
			for typ := range st.emits {
				l.emitters[typ] = append(l.emitters[typ], s.name)
			}
		}
		for _, typ := range s.types {
			l.heard[typ] = true
		}
		for _, p := range s.projections {
			for _, typ := range p.Types {
				l.heard[typ] = l.heard[typ] || s.events[typ].Name == "" // another service's
			}
		}
	}
	l.ends()
	for _, s := range g.all {
		if !slices.Contains(g.Services, s.name) {
			continue
		}
		for _, st := range s.steps {
			l.step(s, st)
		}
		l.handlers(s)
	}
	l.unheard()
	return l.problems
}

type sagaLint struct {
	g        *SagaGraph
	declared map[string]EventType // by name
	emitters map[string][]string  // services with a step that emits the type
	heard    map[string]bool      // types that somebody reacts to
	problems []SagaProblem
}

func (l *sagaLint) add(st *step, warning bool, format string, args ...any) {
	p := SagaProblem{Rule: RuleDeclared, Warning: warning, Text: fmt.Sprintf(format, args...)}
	if st != nil {
		p.Service, p.Step = st.service.name, st.Name
	}
	l.problems = append(l.problems, p)
}

func (l *sagaLint) ends() {
	g := l.g
	if len(g.Completed) == 0 {
		l.add(nil, false, "the saga declares no Completed event; name the event that ends it well")
	}
	for _, typ := range append(slices.Clone(g.Completed), g.Compensated...) {
		if len(l.emitters[typ]) == 0 {
			l.add(nil, false, "the saga ends with %s, which is never emitted: no step has it in an outcome", typ)
		}
	}
	for _, typ := range g.Completed {
		if slices.Contains(g.Compensated, typ) {
			l.add(nil, false, "%s is both a Completed and a Compensated end; it can mean only one of them", typ)
		}
	}
}

func (l *sagaLint) step(s *Service, st *step) {
	if typ := st.trigger.event; typ != "" {
		if _, ok := l.declared[typ]; !ok {
			l.add(st, false, "%s: step %q reacts to %s, which is never emitted: no service declares it with Emits", s.name, st.Name, typ)
		} else if len(l.emitters[typ]) == 0 {
			l.add(st, false, "%s: step %q reacts to %s, which is never emitted: no step has it in an outcome", s.name, st.Name, typ)
		}
	}
	guards := append(slices.Clone(st.When), st.Unless...)
	for _, o := range st.Outcomes {
		guards = append(append(guards, o.When...), o.Unless...)
		for _, typ := range o.Emits {
			if _, ok := s.events[typ]; !ok {
				l.add(st, false, "%s: step %q emits %s, which the service does not declare with Emits", s.name, st.Name, typ)
			}
		}
		for _, name := range o.Asks {
			if s.effects[name] == nil {
				l.add(st, false, "%s: step %q asks for effect %q, which has no handler; declare it with NewEffect", s.name, st.Name, name)
			}
		}
		for _, name := range o.Drops {
			if s.effects[name] == nil {
				l.add(st, false, "%s: step %q drops effect %q, which is not declared", s.name, st.Name, name)
			}
		}
		for _, name := range o.Sets {
			if len(s.stepsOn(trigger{deadline: name})) == 0 {
				l.add(st, false, "%s: step %q sets deadline %q, which has no handler; declare it with OnDeadline", s.name, st.Name, name)
			}
		}
		for _, name := range o.Clears {
			if len(s.stepsOn(trigger{deadline: name})) == 0 {
				l.add(st, false, "%s: step %q clears deadline %q, which is not declared", s.name, st.Name, name)
			}
		}
	}
	for i, typ := range guards {
		if _, own := s.events[typ]; own || slices.Contains(guards[:i], typ) {
			continue
		}
		whose := "nobody emits"
		if len(l.emitters[typ]) > 0 {
			whose = "belongs to " + strings.Join(l.emitters[typ][:1], "")
		}
		l.add(st, false, "%s: step %q has %s in When or Unless, which %s; they can only name events of %s itself: record the arrival with an own event",
			s.name, st.Name, typ, whose, s.name)
	}
	if st.Undoes != "" && !slices.ContainsFunc(s.steps, func(o *step) bool { return o.Name == st.Undoes }) {
		l.add(st, false, "%s: step %q undoes %q, which is no step of %s", s.name, st.Name, st.Undoes, s.name)
	}
}

// handlers finds effects and deadlines that nobody asks for or sets.
func (l *sagaLint) handlers(s *Service) {
	used := func(has func(*step) bool) bool { return slices.ContainsFunc(s.steps, has) }
	for i, st := range s.steps {
		t := st.trigger
		if t.effect != "" && !used(func(o *step) bool { return o.asks[t.effect] }) {
			l.add(st, false, "%s: effect %q is declared and no outcome Asks for it; add it to Asks of the outcome whose event asks for it", s.name, t.effect)
		}
		if t.deadline == "" {
			continue
		}
		if !used(func(o *step) bool { return o.sets[t.deadline] }) {
			l.add(st, false, "%s: deadline %q is declared and no outcome Sets it; add it to Sets of the outcome whose event sets it", s.name, t.deadline)
		}
		if s.stepsOn(t)[0] != s.steps[i] {
			l.add(st, false, "%s: deadline %q is declared for two categories, and outcomes cannot tell them apart; give one another name", s.name, t.deadline)
		}
	}
}

// unheard warns of events that are carried with care to nobody.
func (l *sagaLint) unheard() {
	ends := append(slices.Clone(l.g.Completed), l.g.Compensated...)
	seen := map[string]bool{}
	for _, st := range l.g.nodes {
		for _, typ := range st.names(func(o Outcome) []string { return o.Emits }) {
			if seen[typ] || l.heard[typ] || slices.Contains(ends, typ) || l.declared[typ].Need != Critical {
				continue
			}
			seen[typ] = true
			l.add(st, true, "%s: %s is Critical, and nobody reacts to it and it is no end of the saga; if only %s itself needs it, declare it Private",
				st.service.name, typ, st.service.name)
		}
	}
}

func (s *Service) stepsOn(t trigger) []*step {
	var steps []*step
	for _, st := range s.steps {
		if st.trigger == t {
			steps = append(steps, st)
		}
	}
	return steps
}
