package courante

import "slices"

// Decided is one decision of a unit, as [Config].Observe is told of it.
type Decided struct {
	Service string
	Step    string
	Event   *Event  // the delivered event; nil for a command, a deadline or an outcome
	Did     Outcome // what came of it; only Emits, Asks, Drops, Sets and Clears are set
}

// observe tells whoever watches what is about to be committed. An item that
// was left out because its handler failed is not decided on.
func (n *node) observe(w *work) {
	if n.rt.cfg.Observe == nil {
		return
	}
	var list []Decided
	for _, it := range w.items {
		if it.decision != nil {
			list = append(list, Decided{Service: n.svc.name, Step: it.step.Name, Event: it.event, Did: *it.decision.did})
		}
	}
	n.rt.cfg.Observe(list)
}

// add notes an event that is about to be emitted on a stream with these
// deadlines and effects open.
func (o *Outcome) add(open Open, e *Event) {
	if e.Type != closedType {
		o.Emits = append(o.Emits, e.Type)
	}
	if e.Notes == nil {
		return
	}
	for _, d := range e.Notes.Set {
		o.Sets = append(o.Sets, d.Name)
	}
	o.Clears = append(o.Clears, e.Notes.Clear...)
	for _, r := range e.Notes.Ask {
		o.Asks = append(o.Asks, r.Effect)
	}
	for _, id := range e.Notes.Done {
		if r, ok := open.Effect(id); ok && !slices.Contains(o.Drops, r.Effect) {
			o.Drops = append(o.Drops, r.Effect)
		}
	}
}

// Steps returns the declared steps of the service, in the order declared.
func (s *Service) Steps() []SagaStep {
	steps := make([]SagaStep, len(s.steps))
	for i, st := range s.steps {
		steps[i] = st.describe("")
	}
	return steps
}
