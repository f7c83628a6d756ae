package courante

import "slices"

// sagaModel is a saga compiled for exploration: names become numbers, and a
// state of the whole system becomes a string of a fixed length, so that
// hundreds of thousands of them fit into one map.
//
// A state holds facts, one bit each, and channels: for each pair of a service
// that emits and one that reacts, the events on their way, in order. As each
// type happens once, a channel has one byte for each type that it may carry.
type sagaModel struct {
	g        *SagaGraph
	events   []sagaEvent
	steps    []sagaModelStep // as g.Steps
	effects  []sagaWait
	due      []sagaWait // deadlines
	channels []sagaChannel
	sinks    []bool // services that nothing else depends on
	tracked  []int  // steps that some other step undoes
	origins  []int  // steps that emit the first event
	start    int    // the first event

	// Numbers of the facts. Events come first: fact e is "event e happened".
	open    int // + effect: it was asked for and has not answered
	given   int // + effect: a deadline passed while it was open, so somebody gave up waiting
	set     int // + deadline: it is open
	took    int // + tracked step: it took effect
	undone  int // + tracked step: it took effect and was undone
	turned  int // the saga turned back
	crossed int // the pivot took effect
	bytes   int // that the facts take
	size    int // of a state
}

// maxSagaEvents is how many types of events fit into a state: a channel has one
// byte for each event in it, and zero is the empty place.
const maxSagaEvents = 255

type sagaEvent struct {
	name        string
	service     int
	to          []int // channels
	completed   bool
	compensated bool
}

type sagaModelStep struct {
	*step
	home         int // its service
	on           int // the event that triggers it, or -1
	when, unless []int
	impossible   bool // When names an event that never happens in this saga
	free         bool // it may run at any time or never: a command, or what something outside the saga sets off
	outcomes     []sagaOutcome
	tracked      int   // number among the tracked steps, or -1
	undoes       int   // number of the tracked step that it undoes, or -1
	blames       []int // for the answer of an effect: the steps that ask for it
}

type sagaOutcome struct {
	when, unless              []int
	impossible                bool
	emits                     []int
	asks, drops, sets, clears []int
	tracks                    []int // tracked steps whose deed it is
	fails, idle               bool  // idle: it does nothing
	starts                    bool
}

// sagaWait is an effect or a deadline of a service.
type sagaWait struct {
	name     string
	step     int // that handles it
	service  int
	forever  bool // effect: it answers in the end
	recovers bool // effect: a step that undoes asks for it
}

// sagaChannel carries the events of one service to one other, or to itself.
type sagaChannel struct {
	from, to int
	at, size int     // place in the state
	handlers [][]int // by event: the steps that react to it
}

// sagaState is a state; working copies are changed in place.
type sagaState []byte

func (s sagaState) has(fact int) bool { return s[fact/8]&(1<<(fact%8)) != 0 }
func (s sagaState) put(fact int)      { s[fact/8] |= 1 << (fact % 8) }
func (s sagaState) drop(fact int)     { s[fact/8] &^= 1 << (fact % 8) }

func (s sagaState) all(facts []int) bool {
	for _, f := range facts {
		if !s.has(f) {
			return false
		}
	}
	return true
}

func (s sagaState) any(facts []int) bool {
	return slices.ContainsFunc(facts, s.has)
}

func newSagaModel(g *SagaGraph) *sagaModel {
	m := &sagaModel{g: g}
	eventOf := m.compileEvents()
	m.compileWaits()
	m.compileSteps(eventOf)
	m.compileChannels()
	m.findSinks()
	m.layout()
	return m
}

func (m *sagaModel) service(s *Service) int { return slices.Index(m.g.Services, s.name) }

func (m *sagaModel) compileEvents() map[string]int {
	g, of := m.g, map[string]int{}
	for i, st := range g.nodes {
		if st.emits[g.Starts] {
			m.origins = append(m.origins, i)
		}
		for _, typ := range st.names(func(o Outcome) []string { return o.Emits }) {
			if _, known := of[typ]; known {
				continue
			}
			of[typ] = len(m.events)
			m.events = append(m.events, sagaEvent{
				name: typ, service: m.service(st.service),
				completed:   slices.Contains(g.Completed, typ),
				compensated: slices.Contains(g.Compensated, typ),
			})
		}
	}
	m.start = of[g.Starts]
	return of
}

func (m *sagaModel) compileWaits() {
	for i, st := range m.g.nodes {
		t := st.trigger
		if m.g.outer[st] {
			continue
		}
		if t.effect != "" {
			w := sagaWait{name: t.effect, step: i, service: m.service(st.service), forever: st.service.effects[t.effect].forever}
			w.recovers = slices.ContainsFunc(st.service.steps, func(o *step) bool { return o.Undoes != "" && o.asks[t.effect] })
			m.effects = append(m.effects, w)
		}
		if t.deadline != "" {
			m.due = append(m.due, sagaWait{name: t.deadline, step: i, service: m.service(st.service)})
		}
	}
}

func (m *sagaModel) compileSteps(eventOf map[string]int) {
	g := m.g
	events := func(names []string) (found []int, missing bool) {
		for _, name := range names {
			if e, ok := eventOf[name]; ok {
				found = append(found, e)
			} else if g.elsewhere(name) == "" {
				missing = true // what another saga has done may have happened or not
			}
		}
		return found, missing
	}
	waits := func(list []sagaWait, service int, names []string) (found []int) {
		for i, w := range list {
			if w.service == service && slices.Contains(names, w.name) {
				found = append(found, i)
			}
		}
		return found
	}
	for _, st := range g.nodes {
		c := sagaModelStep{step: st, home: m.service(st.service), on: -1, tracked: -1, undoes: -1}
		c.free = st.trigger.command != "" || g.outer[st]
		if e, ok := eventOf[st.trigger.event]; ok {
			c.on = e
		}
		c.when, c.impossible = events(st.When)
		c.unless, _ = events(st.Unless)
		outcomes := st.Outcomes
		if len(outcomes) == 0 {
			outcomes = []Outcome{{}} // a step that only looks
		}
		for _, o := range outcomes {
			var out sagaOutcome
			out.when, out.impossible = events(o.When)
			out.unless, _ = events(o.Unless)
			out.emits, _ = events(o.Emits)
			out.asks, out.drops = waits(m.effects, c.home, o.Asks), waits(m.effects, c.home, o.Drops)
			out.sets, out.clears = waits(m.due, c.home, o.Sets), waits(m.due, c.home, o.Clears)
			out.fails = o.Fails
			out.idle = len(o.Emits)+len(o.Asks)+len(o.Drops)+len(o.Sets)+len(o.Clears) == 0
			out.starts = slices.Contains(o.Emits, g.Starts)
			c.outcomes = append(c.outcomes, out)
		}
		m.steps = append(m.steps, c)
	}
	for i := range m.steps {
		st := &m.steps[i]
		for j := range m.steps {
			other := &m.steps[j]
			if other.home != st.home {
				continue
			}
			if t := st.trigger.effect; t != "" && other.asks[t] {
				st.blames = append(st.blames, j)
			}
			if other.Undoes == st.Name {
				if st.tracked < 0 {
					st.tracked = len(m.tracked)
					m.track(i)
				}
				other.undoes = st.tracked
			}
		}
	}
}

// track keeps book of a step from now on: of all outcomes, its own and those of
// other steps, that are its deed.
func (m *sagaModel) track(i int) {
	st := &m.steps[i]
	for j := range m.steps {
		other := &m.steps[j]
		if other.home != st.home {
			continue
		}
		for n, o := range other.Outcomes {
			own := j == i && !o.Fails && len(o.Emits)+len(o.Asks) > 0
			if own || slices.ContainsFunc(st.Outcomes, o.sameDeed) {
				other.outcomes[n].tracks = append(other.outcomes[n].tracks, st.tracked)
			}
		}
	}
	m.tracked = append(m.tracked, i)
}

func (m *sagaModel) compileChannels() {
	for from := range m.g.Services {
		for to := range m.g.Services {
			c := sagaChannel{from: from, to: to, handlers: make([][]int, len(m.events))}
			for e := range m.events {
				if m.events[e].service != from {
					continue
				}
				for i, st := range m.steps {
					if st.home == to && st.on == e {
						c.handlers[e] = append(c.handlers[e], i)
					}
				}
				if len(c.handlers[e]) > 0 {
					m.events[e].to = append(m.events[e].to, len(m.channels))
					c.size++
				}
			}
			if c.size > 0 {
				m.channels = append(m.channels, c)
			}
		}
	}
}

// findSinks finds the services that nothing else depends on: one that only
// sends mails, say. What they do multiplies the states and changes no other
// service, so the exploration lets them wait until the others have nothing
// left to do; all orders in which their events arrive are then still tried.
func (m *sagaModel) findSinks() {
	m.sinks = make([]bool, len(m.g.Services))
	for i := range m.sinks {
		m.sinks[i] = true
	}
	for _, st := range m.steps {
		if st.Pivot || st.undoes >= 0 || st.tracked >= 0 {
			m.sinks[st.home] = false
		}
		if st.on >= 0 && m.events[st.on].service != st.home {
			m.sinks[m.events[st.on].service] = false
		}
	}
	for _, e := range m.events {
		if e.completed || e.compensated {
			m.sinks[e.service] = false
		}
	}
}

func (m *sagaModel) layout() {
	n := len(m.events)
	next := func(count int) int { at := n; n += count; return at }
	m.open, m.given = next(len(m.effects)), next(len(m.effects))
	m.set = next(len(m.due))
	m.took, m.undone = next(len(m.tracked)), next(len(m.tracked))
	m.turned, m.crossed = next(1), next(1)
	m.bytes = (n + 7) / 8
	m.size = m.bytes
	for i := range m.channels {
		m.channels[i].at = m.size
		m.size += m.channels[i].size
	}
}
