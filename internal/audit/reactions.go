package audit

import (
	"strings"
)

// checkReactions checks what each context did about the events of an order
// against what it declares: nothing twice, nothing undeclared, and nothing left
// out by a lane that is past it.
func (a *auditor) checkReactions(d *dossier) {
	for _, s := range a.services {
		i := streamOf(s)
		if i < 0 {
			continue
		}
		d.past[i] = append(d.past[i][:0], 0)
		for j := range d.events[i] {
			e := &d.events[i][j]
			bit := s.bits[e.typ]
			if bit == 0 {
				a.checks.reactions.wrong(e.id, "%s does not declare events of type %s", s.name, e.typ)
			}
			d.past[i] = append(d.past[i], d.past[i][j]|bit)
		}
		a.checkCauses(d, s, i)
		for _, from := range d.events {
			a.checkHandled(d, s, i, from)
		}
	}
}

func streamOf(s *service) int {
	for i := range orderStreams {
		if orderStreams[i].log == s.name {
			return i
		}
	}
	return -1
}

// checkCauses checks the events of one stream, in groups that one cause led to:
// the cause is there, and its steps explain the group.
func (a *auditor) checkCauses(d *dossier, s *service, i int) {
	c := a.checks.reactions
	events := d.events[i]
	for first := 0; first < len(events); {
		n := first + 1
		for n < len(events) && events[n].cause == events[first].cause {
			n++
		}
		e := &events[first]
		c.LookedAt++
		t, known := d.triggerOf(e, i)
		var emitted []set
		for j := first; j < n; j++ {
			if (t.kind == "effect" || t.kind == "deadline") && events[j].typ == closedType {
				continue // the runtime's record that nothing else came of it
			}
			emitted = append(emitted, s.bits[events[j].typ])
		}
		switch {
		case d.twice(i, first, n):
			c.wrong(e.id, "%s came of %s before: it was handled twice", e.typ, e.cause)
		case !known:
			c.wrong(e.id, "its cause %s is not in the log", e.cause)
		case !explains(s.steps[t], d.past[i][first], emitted, 0):
			c.wrong(e.id, "%s declares no step by which %s leads to %s here", s.name, e.cause, types(events[first:n]))
		}
		first = n
	}
}

// twice reports whether the cause of a group led to events of its types before.
// A deadline of one name may be set again and so pass again.
func (d *dossier) twice(i, first, n int) bool {
	events := d.events[i]
	if strings.Contains(events[first].cause, "/deadline/") {
		return false
	}
	for j := first; j < n; j++ {
		for k := range j {
			if events[k].cause == events[j].cause && events[k].typ == events[j].typ {
				return true
			}
		}
	}
	return false
}

// triggerOf tells from its cause what ran the step that emitted an event; false
// if the cause is not there.
func (d *dossier) triggerOf(e *event, stream int) (trigger, bool) {
	if strings.HasPrefix(e.cause, "command:") {
		return trigger{kind: "command"}, true
	}
	if at, ok := d.byID[e.cause]; ok {
		return trigger{"event", d.events[at.stream][at.at].typ}, true
	}
	if name, ok := strings.CutPrefix(e.cause, e.stream+"/deadline/"); ok {
		return trigger{"deadline", name}, true
	}
	for _, id := range d.pending[stream].asked {
		if id == e.cause {
			return trigger{"effect", id[strings.LastIndexByte(id, '/')+1:]}, true
		}
	}
	return trigger{}, false
}

// checkHandled checks that a service did what it is bound to do about the events
// of one stream. Whether a step was bound depends on what had happened before;
// when a lane came to an event without a trace is not recorded, but it was after
// what came of the events before, and before what came of those after it.
func (a *auditor) checkHandled(d *dossier, s *service, i int, from []event) {
	own := d.events[i]
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
		first, last := led(own, e)
		if first >= 0 {
			if reach == ahead && len(a.parked[parkedKey(s.name, e.id)]) == 0 {
				a.checks.reactions.wrong(own[last].id, "%s led to it, but %s is only at %s: its progress was lost", e.id, laneName(lane), a.lanes.last[lane])
			}
			continue
		}
		if aside := a.parked[parkedKey(s.name, e.id)]; len(aside) > 0 {
			d.waits = append(d.waits, wait{what: s.name + " to try " + e.id + " again"})
			continue
		}
		low, high := window(own, from, j)
		bound := a.boundWithin(d, s, steps, i, low, high)
		switch {
		case bound == nil:
		case reach == passed:
			a.checks.reactions.wrong(e.id, "%s is past it, and %s did not %q", laneName(lane), s.name, bound.name)
			d.wrong = true
		default:
			overdue := a.late(e.at)
			what := s.name + " to " + bound.name
			if overdue {
				what += ": " + laneName(lane) + " is at " + a.lanes.last[lane].String() + " and behind " + e.id
			}
			d.waits = append(d.waits, wait{what, overdue})
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

// window is between which of its own events a service came to event j of a
// stream: after low of them at least, and high at most.
func window(own, from []event, j int) (low, high int) {
	high = len(own)
	for k := range from {
		first, last := led(own, &from[k])
		switch {
		case first < 0:
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

// boundWithin returns a step that had to emit something wherever in the window
// the event came; nil if there is a place where none had to.
func (a *auditor) boundWithin(d *dossier, s *service, steps []step, i, low, high int) *step {
	var found *step
	for at := low; at <= high; at++ {
		found = nil
		for k := range steps {
			if steps[k].bound(d.past[i][at]) {
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
