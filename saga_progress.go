package courante

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// States of a saga and of its steps.
const (
	SagaRunning     = "running"
	SagaCompleted   = "completed"
	SagaCompensated = "compensated"
	SagaStuck       = "stuck"

	StepDone    = "done"
	StepFailed  = "failed"  // it ended in an outcome that Fails
	StepUndone  = "undone"  // a later step undid it
	StepWaiting = "waiting" // it is due and has not reacted yet
)

// SagaGrace is how late something may be before the saga counts as stuck: a
// deadline that passed and did not fire, a reaction that is due, an effect that
// no deadline bounds and that does not answer.
const SagaGrace = time.Minute

// SagaStatus is where one running saga stands.
type SagaStatus struct {
	Saga    string           `json:"saga"`
	ID      string           `json:"id"` // the correlation id
	State   string           `json:"state"`
	Steps   []SagaStepStatus `json:"steps"`           // in causal order; those that are due come last
	Waiting *SagaWaiting     `json:"waiting"`         // null if nothing is open
	Cause   string           `json:"cause,omitempty"` // why it is stuck
}

// SagaStepStatus is one step that was taken, or is due.
type SagaStepStatus struct {
	Name     string    `json:"name"`
	Service  string    `json:"service"`
	State    string    `json:"state"`
	At       time.Time `json:"at"` // of its first event; of a step that is due: since when
	TraceID  string    `json:"trace_id,omitempty"`
	Events   []string  `json:"events,omitempty"`    // types that it emitted
	CausedBy string    `json:"caused_by,omitempty"` // event, effect, deadline or command, by its id
}

// SagaWaiting says what a saga waits for, and until when at the latest; Until is
// nil if no deadline is open.
type SagaWaiting struct {
	For   string     `json:"for"`
	Until *time.Time `json:"until"`
}

// SagaProgress tells where a saga stands from nothing but its events: those of
// all logs with its correlation id, in any order, and the messages of it that
// are parked. Which step an event comes from follows from its causation; what
// should have reacted and did not follows from the declarations. Events that no
// declared step of the saga explains are left out.
//
// A saga is stuck if a message of it is parked, even one that has ended
// (something of it never happens), or if something is late by more than
// SagaGrace: a deadline, a reaction, or an outside party that does not answer
// and that no deadline bounds.
func SagaProgress(g *SagaGraph, events []Event, parked []Parked, now time.Time) SagaStatus {
	p := newProgress(g, events)
	status := SagaStatus{Saga: g.Name, State: SagaRunning, Steps: p.steps()}
	for i := range p.events {
		if e := &p.events[i]; slices.Contains(g.Completed, e.Type) {
			status.State = SagaCompleted
		} else if slices.Contains(g.Compensated, e.Type) {
			status.State = SagaCompensated
		}
	}
	if len(p.events) > 0 {
		status.ID = p.events[0].Correlation
	}
	ended := status.State != SagaRunning
	due := p.due()
	status.Steps = append(status.Steps, due...)
	var overdue string
	status.Waiting, overdue = p.waiting(due, ended, now)
	if overdue != "" {
		status.State, status.Cause = SagaStuck, overdue
	}
	for i := range parked {
		if m := &parked[i]; m.Event.Correlation == status.ID && m.Cause != "" {
			status.State = SagaStuck
			status.Cause = fmt.Sprintf("%s parked %s (%q): %s", m.Subscriber, m.Event.Type, m.Reaction, m.Cause)
			break
		}
	}
	return status
}

type sagaProgress struct {
	g        *SagaGraph
	events   []Event // causes before effects
	byID     map[string]*Event
	effects  map[string]string          // names of effects by request id
	asked    map[string]time.Time       // by request id
	askers   map[string]*Event          // by request id
	happened map[string]map[string]bool // types by service
	taken    map[string]bool            // service, step and causation
	together map[string][]string        // types by decision, sorted, each once
}

func newProgress(g *SagaGraph, events []Event) *sagaProgress {
	p := &sagaProgress{
		g: g, byID: map[string]*Event{}, effects: map[string]string{}, asked: map[string]time.Time{}, askers: map[string]*Event{},
		happened: map[string]map[string]bool{}, taken: map[string]bool{}, together: map[string][]string{},
	}
	for _, e := range events {
		if id := e.ID(); p.byID[id] == nil {
			p.byID[id] = &e
			p.events = append(p.events, e)
		}
	}
	p.sort()
	for i := range p.events {
		e := &p.events[i]
		if p.happened[e.Log] == nil {
			p.happened[e.Log] = map[string]bool{}
		}
		p.happened[e.Log][e.Type] = true
		if types := p.together[decisionOf(e)]; e.Type != closedType && !slices.Contains(types, e.Type) {
			p.together[decisionOf(e)] = slices.Sorted(slices.Values(append(types, e.Type)))
		}
		if e.Notes != nil {
			for _, r := range e.Notes.Ask {
				p.effects[r.ID], p.asked[r.ID], p.askers[r.ID] = r.Effect, e.Time, e
			}
		}
	}
	return p
}

// sort puts causes before effects, also where the clocks of two services
// disagree: an event counts as no earlier than what caused it.
func (p *sagaProgress) sort() {
	type rank struct {
		at    time.Time
		depth int
	}
	ranks := map[string]rank{}
	var rankOf func(e *Event, limit int) rank
	rankOf = func(e *Event, limit int) rank {
		id := e.ID()
		if r, known := ranks[id]; known || limit == 0 {
			return r
		}
		r := rank{at: e.Time}
		if cause := p.cause(e); cause != nil {
			c := rankOf(cause, limit-1)
			r.depth = c.depth + 1
			if c.at.After(r.at) {
				r.at = c.at
			}
		}
		ranks[id] = r
		return r
	}
	for i := range p.events {
		rankOf(&p.events[i], len(p.events))
	}
	slices.SortFunc(p.events, func(a, b Event) int {
		x, y := ranks[a.ID()], ranks[b.ID()]
		return cmp.Or(x.at.Compare(y.at), cmp.Compare(x.depth, y.depth),
			cmp.Compare(a.Log, b.Log), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Version, b.Version))
	})
}

// cause is the event behind an event's causation; of an outcome of an effect,
// the event that asked for it.
func (p *sagaProgress) cause(e *Event) *Event {
	if cause := p.byID[e.Causation]; cause != nil {
		return cause
	}
	if i := strings.LastIndexByte(e.Causation, '/'); i > 0 {
		return p.byID[e.Causation[:i]]
	}
	return nil
}

// stepOf is the step that emitted an event, or -1. Of several that may have, it
// is the one with an outcome of just what was emitted together.
func (p *sagaProgress) stepOf(e *Event) int {
	kind, name := p.triggerOf(e)
	found := -1
	for i, st := range p.g.Steps {
		if st.Service != e.Log || st.On != kind || name != "" && st.Trigger != name {
			continue
		}
		if e.Type != closedType && !p.g.nodes[i].emits[e.Type] {
			continue
		}
		if p.fits(st, e) {
			return i
		}
		if found < 0 {
			found = i
		}
	}
	return found
}

// fits reports whether an outcome of the step emits just what the decision
// behind an event has emitted, as far as that is this saga's.
func (p *sagaProgress) fits(st SagaStep, e *Event) bool {
	return slices.ContainsFunc(st.Outcomes, func(o Outcome) bool {
		own := slices.DeleteFunc(slices.Clone(o.Emits), func(typ string) bool { return p.g.elsewhere(typ) != "" })
		slices.Sort(own)
		return slices.Equal(slices.Compact(own), p.together[decisionOf(e)])
	})
}

// decisionOf identifies the decision that an event is of.
func decisionOf(e *Event) string { return e.Log + " " + e.Causation }

// triggerOf tells from its causation what made the runtime run the step. The
// name of a command is not in the log: what it emits has to tell.
func (p *sagaProgress) triggerOf(e *Event) (kind, name string) {
	if strings.HasPrefix(e.Causation, "command:") {
		return "command", ""
	}
	if name, ok := p.effects[e.Causation]; ok {
		return "effect", name
	}
	if cause := p.byID[e.Causation]; cause != nil {
		return "event", cause.Type
	}
	if _, name, ok := strings.Cut(e.Causation, "/deadline/"); ok {
		return "deadline", name
	}
	return "event", "" // the cause is not among the events: what it emits has to tell
}

// steps are those that emitted something, in causal order.
func (p *sagaProgress) steps() []SagaStepStatus {
	steps := []SagaStepStatus{}
	at := map[string]int{}   // by service, step and causation
	last := map[string]int{} // by service and step
	for i := range p.events {
		e := &p.events[i]
		s := p.stepOf(e)
		if s < 0 {
			continue
		}
		st := p.g.Steps[s]
		key := st.run(e.Causation)
		n, known := at[key]
		if !known {
			n = len(steps)
			at[key] = n
			p.taken[key] = true
			steps = append(steps, SagaStepStatus{
				Name: st.Name, Service: st.Service, State: StepDone, At: e.Time, TraceID: traceID(e.Trace), CausedBy: e.Causation,
			})
			last[st.Service+"/"+st.Name] = n
		}
		if e.Type != closedType {
			steps[n].Events = append(steps[n].Events, e.Type)
		}
	}
	for n := range steps {
		p.grade(steps, n, at, last)
	}
	return steps
}

// grade sets a step's state by the outcome that it took. An answer that fails
// says so of the step that asked as well: then there was nothing to undo.
func (p *sagaProgress) grade(steps []SagaStepStatus, n int, at, last map[string]int) {
	i := slices.IndexFunc(p.g.Steps, func(s SagaStep) bool { return s.Service == steps[n].Service && s.Name == steps[n].Name })
	st := p.g.Steps[i]
	if st.failed(steps[n].Events) {
		steps[n].State = StepFailed
		if asker := p.askers[steps[n].CausedBy]; asker != nil {
			if s := p.stepOf(asker); s >= 0 {
				steps[at[p.g.Steps[s].run(asker.Causation)]].State = StepFailed
			}
		}
		return
	}
	if st.Undoes == "" {
		return
	}
	for j, other := range p.g.Steps {
		named := slices.ContainsFunc(p.g.nodes, func(o *step) bool {
			return o.service.name == st.Service && o.Name == st.Undoes && alike(o, p.g.nodes[j])
		})
		if undone, ok := last[other.Service+"/"+other.Name]; ok && named && len(steps[n].Events) > 0 && undone < n && steps[undone].State == StepDone {
			steps[undone].State = StepUndone
		}
	}
}

// run identifies one run of the step.
func (st SagaStep) run(causation string) string { return st.Service + "/" + st.Name + "/" + causation }

// failed reports whether the outcome that emits exactly these types Fails.
func (st SagaStep) failed(events []string) bool {
	want := slices.Compact(slices.Sorted(slices.Values(events)))
	for _, o := range st.Outcomes {
		if slices.Equal(slices.Compact(slices.Sorted(slices.Values(o.Emits))), want) {
			return o.Fails
		}
	}
	return false
}

// due are the reactions that the declarations promise and no event shows. A
// reaction that may end in nothing promises nothing.
func (p *sagaProgress) due() []SagaStepStatus {
	var due []SagaStepStatus
	for i := range p.events {
		e := &p.events[i]
		for _, st := range p.g.Steps {
			if st.On != "event" || st.Trigger != e.Type || p.taken[st.run(e.ID())] || !p.promises(st) {
				continue
			}
			due = append(due, SagaStepStatus{Name: st.Name, Service: st.Service, State: StepWaiting, At: e.Time, TraceID: traceID(e.Trace), CausedBy: e.ID()})
		}
	}
	return due
}

// promises reports whether a step, run now, is bound to emit something that is
// the saga's.
func (p *sagaProgress) promises(st SagaStep) bool {
	happened := p.happened[st.Service]
	holds := func(when, unless []string) bool {
		return !slices.ContainsFunc(when, func(typ string) bool { return !happened[typ] }) &&
			!slices.ContainsFunc(unless, func(typ string) bool { return happened[typ] })
	}
	if !holds(st.When, st.Unless) {
		return false
	}
	allowed := 0
	for _, o := range st.Outcomes {
		if !holds(o.When, o.Unless) {
			continue
		}
		if !slices.ContainsFunc(o.Emits, func(typ string) bool { return p.g.elsewhere(typ) == "" }) {
			return false
		}
		allowed++
	}
	return allowed > 0
}

// waiting says what is open, and what of it is overdue.
func (p *sagaProgress) waiting(due []SagaStepStatus, ended bool, now time.Time) (*SagaWaiting, string) {
	type deadline struct {
		service string
		Deadline
	}
	var first *deadline
	var request *Request
	var service string
	streams := map[string]Open{}
	for i := range p.events {
		e := &p.events[i]
		streams[e.Log+"/"+e.Stream] = streams[e.Log+"/"+e.Stream].Apply(e.Notes)
	}
	for _, stream := range slices.Sorted(maps.Keys(streams)) {
		log, _, _ := strings.Cut(stream, "/")
		for _, d := range streams[stream].Deadlines {
			if first == nil || d.Due.Before(first.Due) {
				first = &deadline{log, d}
			}
		}
		for _, r := range streams[stream].Effects {
			if request == nil || p.asked[r.ID].Before(p.asked[request.ID]) {
				request, service = &r, log
			}
		}
	}
	w := &SagaWaiting{}
	if first != nil {
		w.Until = &first.Due
	}
	late := func(at time.Time) bool { return now.Sub(at) > SagaGrace }
	switch {
	case first != nil && late(first.Due):
		w.For = "deadline " + first.Name + " of " + first.service
		return w, w.For + " passed at " + first.Due.Format(time.RFC3339) + " and nothing came of it"
	case request != nil:
		w.For = "effect " + request.Effect + " of " + service
		if first == nil && late(p.asked[request.ID]) {
			return w, w.For + " has not answered since " + p.asked[request.ID].Format(time.RFC3339)
		}
	case len(due) > 0:
		w.For = due[0].Service + " to " + due[0].Name
		if first == nil && late(due[0].At) {
			return w, w.For + ": due since " + due[0].At.Format(time.RFC3339)
		}
	case first != nil:
		w.For = "deadline " + first.Name + " of " + first.service
	case !ended && p.other() != "":
		w.For = "saga " + p.other()
	case !ended && len(p.events) > 0:
		w.For = "nothing that is declared"
		if at := p.events[len(p.events)-1].Time; late(at) {
			return w, "the saga has not ended and nothing is open since " + at.Format(time.RFC3339)
		}
	default:
		return nil, ""
	}
	return w, ""
}

// other is a saga that this one has brought about or gone on, whose own events
// tell where that one stands; "" if there is none.
func (p *sagaProgress) other() string {
	for i := range p.events {
		e := &p.events[i]
		for n, st := range p.g.Steps {
			if !(st.On == "event" && st.Trigger == e.Type || n == p.stepOf(e)) {
				continue
			}
			for _, o := range st.Outcomes {
				for _, typ := range o.Emits {
					if saga := p.g.elsewhere(typ); saga != "" {
						return saga
					}
				}
			}
		}
	}
	return ""
}

// traceID takes the trace id out of a W3C traceparent, "version-traceid-spanid-flags".
func traceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 {
		return ""
	}
	return parts[1]
}
