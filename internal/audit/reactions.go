package audit

import (
	"slices"
	"strings"
)

// checkReactions checks what each context did in a saga against what it
// declares: nothing twice, nothing undeclared, and nothing left out by a lane
// that is past it.
func (a *auditor) checkReactions(d *dossier, t *thread) {
	for i, name := range names {
		s := a.service(name)
		if s == nil {
			continue
		}
		declared := true
		t.past[i] = append(t.past[i], 0)
		for j := range t.events[i] {
			e := &t.events[i][j]
			bit := s.bits[e.typ]
			if bit == 0 {
				a.checks.reactions.wrong(e.id, "%s does not declare events of type %s", s.name, e.typ)
				declared = false
			}
			t.past[i] = append(t.past[i], t.past[i][j]|bit)
		}
		if !declared {
			continue // what else happened, or had to, cannot be told
		}
		a.checkCauses(d, t, s, i)
		for _, from := range t.events {
			a.checkHandled(d, t, s, i, from)
		}
	}
}

// service is the service of that name; nil if no manifest is of it.
func (a *auditor) service(name string) *service {
	for _, s := range a.services {
		if s.name == name {
			return s
		}
	}
	return nil
}

// checkCauses checks the events of one context, in groups that one cause led to:
// the cause is there, and its steps explain the group.
func (a *auditor) checkCauses(d *dossier, t *thread, s *service, i int) {
	c := a.checks.reactions
	events := t.events[i]
	for first := 0; first < len(events); {
		n := first + 1
		for n < len(events) && events[n].cause == events[first].cause {
			n++
		}
		e := &events[first]
		c.LookedAt++
		trigger, known := d.triggerOf(e, &t.pending[i])
		var emitted []set
		for j := first; j < n; j++ {
			if (trigger.kind == "effect" || trigger.kind == "deadline") && events[j].typ == closedType {
				continue // the runtime's record that nothing else came of it
			}
			emitted = append(emitted, s.bits[events[j].typ])
		}
		switch again := twice(events, first, n); {
		case again != nil:
			c.wrong(again.id, "%s came of %s before: it was handled twice", again.typ, again.cause)
		case !known:
			c.wrong(e.id, "its cause %s is not in the log", e.cause)
		case !explains(s.steps[trigger], t.past[i][first], emitted, 0):
			c.wrong(e.id, "%s declares no step by which %s leads to %s here", s.name, e.cause, types(events[first:n]))
		}
		first = n
	}
}

// twice returns the first event of a group whose cause led to one of its type
// before; nil if there is none. A deadline of one name may be set again and so
// pass again.
func twice(events []event, first, n int) *event {
	if strings.Contains(events[first].cause, "/deadline/") {
		return nil
	}
	for j := first; j < n; j++ {
		for k := range j {
			if events[k].cause == events[j].cause && events[k].typ == events[j].typ {
				return &events[j]
			}
		}
	}
	return nil
}

// triggerOf tells from its cause what ran the step that emitted an event; false
// if the cause is not there.
func (d *dossier) triggerOf(e *event, p *pending) (trigger, bool) {
	if strings.HasPrefix(e.cause, "command:") {
		return trigger{kind: "command"}, true
	}
	if cause := d.byID[e.cause]; cause != nil {
		return trigger{"event", cause.typ}, true
	}
	if name, ok := strings.CutPrefix(e.cause, e.stream+"/deadline/"); ok {
		return trigger{"deadline", name}, true
	}
	for _, id := range p.asked {
		if id == e.cause {
			return trigger{"effect", id[strings.LastIndexByte(id, '/')+1:]}, true
		}
	}
	return trigger{}, false
}

// checkHandled checks that a service did what it is bound to do about the events
// of one context. Whether a step was bound depends on what had happened before;
// when a lane came to an event without a trace is not recorded, but it was after
// what came of the events before, and before what came of those after it.
func (a *auditor) checkHandled(d *dossier, t *thread, s *service, i int, from []event) {
	own := t.events[i]
	for j := range from {
		e := &from[j]
		steps := s.event[e.typ]
		if len(steps) == 0 {
			continue
		}
		reach, lane := a.lanes.reachOf(s.name, e)
		if reach == notSent {
			continue
		}
		a.checks.reactions.LookedAt++
		messages := a.parked[parkedKey(s.name, e.id)]
		aside := len(messages) > 0
		if first, last := led(own, e); first >= 0 {
			if reach == ahead && !aside {
				a.checks.reactions.wrong(own[last].id, "%s led to it, but %s is only at %s: its progress was lost", e.id, laneName(lane), a.lanes.last[lane])
			}
			continue
		}
		if slices.ContainsFunc(messages, func(p parked) bool { return p.discarded != "" }) {
			continue // what comes of that is the operator's decision
		}
		if aside {
			d.waits = append(d.waits, wait{what: s.name + " to try " + e.id + " again"})
			continue
		}
		low, high := window(own, from, j)
		bound := boundWithin(steps, t.past[i][low:high+1])
		switch {
		case bound == nil:
		case reach == passed:
			a.checks.reactions.wrong(e.id, "%s is past it, and %s did not %q", laneName(lane), s.name, bound.name)
			d.wrong = true
		case a.late(e.at):
			d.waits = append(d.waits, wait{s.name + " to " + bound.name + ": " + laneName(lane) + " is at " + a.lanes.last[lane].String() + " and behind " + e.id, true})
		default:
			d.waits = append(d.waits, wait{what: s.name + " to " + bound.name})
		}
	}
}

// led returns the first and the last of the events that another one led to; -1
// if there is none.
func led(own []event, by *event) (first, last int) {
	first, last = -1, -1
	for k := range own {
		if own[k].cause == by.id {
			if first < 0 {
				first = k
			}
			last = k
		}
	}
	return first, last
}

// window is between which of its own events a service came to event j of those
// that it gets: after low of them at least, and high at most. It came to those
// of the same stream in their order.
func window(own, from []event, j int) (low, high int) {
	high = len(own)
	for k := range from {
		first, last := led(own, &from[k])
		switch {
		case first < 0 || from[k].stream != from[j].stream:
		case k < j:
			low = max(low, last+1)
		case k > j:
			high = min(high, first)
		}
	}
	if len(own) > 0 && own[0].log == from[j].log { // it reacts to its own events: after them
		low = max(low, j+1)
	}
	return low, max(low, high)
}

// boundWithin returns a step that had to emit something after whichever of the
// pasts the event came; nil if there is one after which none had to.
func boundWithin(steps []step, pasts []set) (found *step) {
	for _, past := range pasts {
		found = nil
		for k := range steps {
			if steps[k].bound(past) {
				found = &steps[k]
				break
			}
		}
		if found == nil {
			return nil
		}
	}
	return found
}

func types(events []event) string {
	var list []string
	for i := range events {
		list = append(list, events[i].typ)
	}
	return strings.Join(list, ", ")
}
