package courante

import (
	"fmt"
	"slices"
	"strings"
)

// sagaMove is what leads from one state to the next.
type sagaMove struct {
	kind      moveKind
	service   int // where it happens
	what      int // event, effect, deadline or step, by kind
	certain   bool
	ran       []sagaRun // the steps that were not idle; valid during the visit
	repeated  int       // an event that the move emits and that had happened, or -1
	repeating int       // the step that does
}

type moveKind int

const (
	moveStart moveKind = iota
	moveDeliver
	moveAgain // deliver a second time
	moveFire
	moveAnswer
	moveCommand
)

// sagaRun is one run of a step, with the outcome that it took.
type sagaRun struct{ step, outcome int }

// sagaMover generates the moves of states. It keeps its scratch space.
type sagaMover struct {
	*sagaModel
	visit   func(*sagaMove, sagaState)
	move    sagaMove
	scratch []sagaState // by depth
	ran     []sagaRun
}

// starts visits the states in which a saga may begin.
func (m *sagaMover) starts() {
	for _, i := range m.origins {
		for o := range m.steps[i].outcomes {
			if !m.steps[i].outcomes[o].starts {
				continue
			}
			m.move = sagaMove{kind: moveStart, service: m.steps[i].home, what: i, repeated: -1}
			s := make(sagaState, m.size)
			m.apply(s, i, o)
			m.ran = append(m.ran[:0], sagaRun{i, o})
			m.arrive(s)
		}
	}
}

// next visits the states that follow s. certain reports whether some move is
// sure to happen.
func (m *sagaMover) next(s sagaState) (certain bool) {
	if m.nextOf(s, false) {
		m.optional(s)
		return true
	}
	certain = m.nextOf(s, true)
	m.optional(s)
	return certain
}

// nextOf makes the moves that are sure to happen, and the answers of effects,
// in the sinks or elsewhere.
func (m *sagaMover) nextOf(s sagaState, sinks bool) (certain bool) {
	for i := range m.channels {
		c := &m.channels[i]
		if m.sinks[c.to] != sinks || s[c.at] == 0 {
			continue
		}
		certain = true
		e := int(s[c.at]) - 1
		m.begin(moveDeliver, c.to, e, true)
		to := m.copy(0, s)
		c.pop(to)
		m.run(to, c.handlers[e], 1)
	}
	for d, w := range m.due {
		if m.sinks[w.service] != sinks || !s.has(m.set+d) {
			continue
		}
		certain = true
		m.begin(moveFire, w.service, d, true)
		to := m.copy(0, s)
		to.drop(m.set + d)
		m.run(to, []int{w.step}, 1)
	}
	for f, w := range m.effects {
		if m.sinks[w.service] != sinks || !s.has(m.open+f) {
			continue
		}
		certain = certain || w.forever
		m.begin(moveAnswer, w.service, f, w.forever)
		to := m.copy(0, s)
		to.drop(m.open + f)
		to.drop(m.given + f)
		m.run(to, []int{w.step}, 1)
	}
	return certain
}

// optional makes the moves that may happen at any time or never: commands, what
// other sagas do, and events that arrive again.
func (m *sagaMover) optional(s sagaState) {
	for i := range m.steps {
		st := &m.steps[i]
		switch {
		case st.free && !m.idle(s, i):
			m.begin(moveCommand, st.home, i, false)
			m.run(m.copy(0, s), []int{i}, 1)
		case st.on >= 0 && !m.idle(s, i) && m.delivered(s, i):
			m.begin(moveAgain, st.home, st.on, false)
			m.run(m.copy(0, s), []int{i}, 1)
		}
	}
}

// delivered reports whether the event that triggers the step has happened and
// is no longer on its way.
func (m *sagaMover) delivered(s sagaState, step int) bool {
	e := m.steps[step].on
	if !s.has(e) {
		return false
	}
	for _, i := range m.events[e].to {
		c := &m.channels[i]
		if c.to == m.steps[step].home {
			return slices.Index(s[c.at:c.at+c.size], byte(e+1)) < 0
		}
	}
	return false
}

func (m *sagaMover) begin(kind moveKind, service, what int, certain bool) {
	m.move = sagaMove{kind: kind, service: service, what: what, certain: certain, repeated: -1}
	m.ran = m.ran[:0]
}

// run takes the steps one after the other, each with every outcome that it may
// have, and visits what comes of it. It may change s.
func (m *sagaMover) run(s sagaState, steps []int, depth int) {
	if len(steps) == 0 {
		m.arrive(s)
		return
	}
	i := steps[0]
	ran := false
	if !m.idle(s, i) {
		for o := range m.steps[i].outcomes {
			if !m.allowed(s, &m.steps[i].outcomes[o]) {
				continue
			}
			ran = true
			to := m.copy(depth, s)
			before := m.move
			m.apply(to, i, o)
			m.ran = append(m.ran, sagaRun{i, o})
			m.run(to, steps[1:], depth+1)
			m.ran = m.ran[:len(m.ran)-1]
			m.move = before
		}
	}
	if !ran {
		m.run(s, steps[1:], depth)
	}
}

// arrive visits a state that a move has led to.
func (m *sagaMover) arrive(s sagaState) {
	// An event whose handlers are idle for good changes nothing whenever it
	// arrives: let it arrive at once.
	for i := range m.channels {
		c := &m.channels[i]
		for s[c.at] != 0 && !slices.ContainsFunc(c.handlers[s[c.at]-1], func(st int) bool { return !m.finished(s, st) }) {
			c.pop(s)
		}
	}
	m.move.ran = m.ran
	m.visit(&m.move, s)
}

func (m *sagaMover) copy(depth int, s sagaState) sagaState {
	for len(m.scratch) <= depth {
		m.scratch = append(m.scratch, make(sagaState, m.size))
	}
	copy(m.scratch[depth], s)
	return m.scratch[depth]
}

func (c *sagaChannel) pop(s sagaState) {
	queue := s[c.at : c.at+c.size]
	copy(queue, queue[1:])
	queue[len(queue)-1] = 0
}

func (c *sagaChannel) push(s sagaState, e int) {
	for i := c.at; i < c.at+c.size; i++ {
		if s[i] == 0 {
			s[i] = byte(e + 1)
			return
		}
	}
}

func (m *sagaModel) idle(s sagaState, step int) bool {
	st := &m.steps[step]
	return st.impossible || !s.all(st.when) || s.any(st.unless)
}

// finished reports whether the step is idle from now on: what has happened
// does not unhappen.
func (m *sagaModel) finished(s sagaState, step int) bool {
	st := &m.steps[step]
	if st.impossible || s.any(st.unless) {
		return true
	}
	for i := range st.outcomes {
		if o := &st.outcomes[i]; !o.idle && !o.starts && !o.impossible && !s.any(o.unless) {
			return false
		}
	}
	return true
}

func (m *sagaModel) allowed(s sagaState, o *sagaOutcome) bool {
	return !o.starts && !o.impossible && s.all(o.when) && !s.any(o.unless)
}

// apply changes s by one outcome of a step.
func (m *sagaMover) apply(s sagaState, step, outcome int) {
	st := &m.steps[step]
	o := &st.outcomes[outcome]
	for _, e := range o.emits {
		if s.has(e) {
			m.move.repeated, m.move.repeating = e, step
			continue
		}
		s.put(e)
		for _, i := range m.events[e].to {
			m.channels[i].push(s, e)
		}
	}
	for _, d := range o.clears {
		s.drop(m.set + d)
	}
	for _, d := range o.sets {
		s.put(m.set + d)
	}
	for _, f := range o.drops {
		s.drop(m.open + f)
		s.drop(m.given + f)
	}
	for _, f := range o.asks {
		s.put(m.open + f)
		s.drop(m.given + f)
	}
	if m.move.kind == moveFire && !o.idle {
		for f := range m.effects {
			if s.has(m.open+f) && !slices.Contains(o.asks, f) {
				s.put(m.given + f)
			}
		}
	}
	m.account(s, st, o)
}

// account keeps book of what took effect and what was undone.
func (m *sagaMover) account(s sagaState, st *sagaModelStep, o *sagaOutcome) {
	effective := len(o.emits)+len(o.asks) > 0
	if o.fails {
		s.put(m.turned)
		for _, j := range st.blames {
			asker := &m.steps[j]
			if asker.tracked >= 0 {
				s.drop(m.took + asker.tracked)
				s.drop(m.undone + asker.tracked)
			}
			if asker.undoes >= 0 {
				s.drop(m.undone + asker.undoes)
			}
		}
		return
	}
	if m.move.kind == moveFire && !o.idle {
		s.put(m.turned)
	}
	if !effective {
		return
	}
	for _, t := range o.tracks {
		s.put(m.took + t)
		s.drop(m.undone + t)
	}
	if st.undoes >= 0 {
		s.put(m.turned)
		if s.has(m.took + st.undoes) {
			s.put(m.undone + st.undoes)
		}
	}
	if st.Pivot {
		s.put(m.crossed)
	}
}

// describe says what a move is, for a path that people read.
func (m *sagaModel) describe(mv *sagaMove) string {
	var b strings.Builder
	b.WriteString(m.g.Services[mv.service])
	switch mv.kind {
	case moveDeliver:
		fmt.Fprintf(&b, " gets %s", short(m.events[mv.what].name))
	case moveAgain:
		fmt.Fprintf(&b, " gets %s again", short(m.events[mv.what].name))
	case moveFire:
		fmt.Fprintf(&b, ": deadline %s passes", m.due[mv.what].name)
	case moveAnswer:
		fmt.Fprintf(&b, ": effect %s answers", m.effects[mv.what].name)
	case moveCommand:
		if m.g.outer[m.steps[mv.what].step] {
			b.WriteString(" acts for another saga")
		} else {
			b.WriteString(" is commanded")
		}
	case moveStart:
		b.WriteString(" begins")
	}
	if len(mv.ran) == 0 {
		b.WriteString("; nothing comes of it")
	}
	for i, r := range mv.ran {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		st := &m.steps[r.step]
		b.WriteString(sep + st.Name + " -> ")
		if st.outcomes[r.outcome].idle {
			b.WriteString("nothing")
		} else {
			b.WriteString(st.Outcomes[r.outcome].String())
		}
	}
	return b.String()
}

// String says what the outcome does: "payment_started, asks charge, sets charge".
func (o Outcome) String() string {
	parts := shorts(o.Emits)
	for _, list := range []struct {
		verb  string
		names []string
	}{{"asks", o.Asks}, {"drops", o.Drops}, {"sets", o.Sets}, {"clears", o.Clears}} {
		if len(list.names) > 0 {
			parts = append(parts, list.verb+" "+strings.Join(list.names, " and "))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
