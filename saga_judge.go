package courante

import (
	"fmt"
	"slices"
	"strings"
)

// sagaFlaw is a problem found in a state; its path is made only if it is
// reported.
type sagaFlaw struct {
	SagaProblem
	state int
}

// note keeps the first flaw of a kind, which has a shortest path.
func (x *sagaExploration) note(key string, state int, rule SagaRule, st *step, format string, args ...any) *sagaFlaw {
	key = string(rule) + "/" + key
	if x.flaws[key] != nil {
		return x.flaws[key]
	}
	f := &sagaFlaw{SagaProblem{Rule: rule, Text: fmt.Sprintf(format, args...)}, state}
	if st != nil {
		f.Service, f.Step = st.service.name, st.Name
	}
	x.flaws[key] = f
	x.order = append(x.order, key)
	return f
}

// watch looks at a move for events that happen twice.
func (x *sagaExploration) watch(mv *sagaMove, from int) {
	if from < 0 {
		return
	}
	if mv.kind != moveAgain {
		if mv.repeated >= 0 && !x.steps[mv.repeating].Repeats {
			st, typ := &x.steps[mv.repeating], x.events[mv.repeated].name
			x.note(st.service.name+st.Name, from, RuleOnce, st.step,
				"%s: step %q can emit %s when it has happened already; what a second one brings about is not checked. If the step must not act then, add it to its Unless; if it is right that it happens again and again, say so with the step's Repeats",
				st.service.name, st.Name, typ).Warning = true
		}
		return
	}
	for _, r := range mv.ran {
		st := &x.steps[r.step]
		o := &st.outcomes[r.outcome]
		// A step that was idle at the first delivery and acts at the second
		// one only acts late; that is explored like any late arrival.
		if o.idle || !x.acted(sagaState(x.states[from]), st) {
			continue
		}
		own := st.names(func(o Outcome) []string { return o.Emits })
		hint := "let it emit an event of its own and name that in Unless"
		if len(own) > 0 {
			hint = "add what it emits (" + strings.Join(own, ", ") + ") to its Unless"
		}
		x.note(st.service.name+st.Name, from, RuleDuplicate, st.step,
			"%s: step %q acts again when %s is delivered again (-> %s); %s",
			st.service.name, st.Name, x.events[mv.what].name, st.Outcomes[r.outcome], hint)
	}
}

// acted reports whether the step has, as far as the events tell, had one of
// its outcomes already.
func (x *sagaExploration) acted(s sagaState, st *sagaModelStep) bool {
	return slices.ContainsFunc(st.outcomes, func(o sagaOutcome) bool { return !o.idle && s.all(o.emits) })
}

// inspect looks at a state. quiet says that nothing is sure to happen any more.
func (x *sagaExploration) inspect(state int, s sagaState, quiet bool) {
	var completed, compensated string
	for e := range x.events {
		if ev := &x.events[e]; s.has(e) && ev.completed {
			completed = ev.name
		} else if s.has(e) && ev.compensated {
			compensated = ev.name
		}
	}
	ended := completed != "" || compensated != ""
	if completed != "" && compensated != "" {
		x.note("", state, RuleOneEnd, nil,
			"a path ends both completed (%s) and compensated (%s); let the step that emits the later one name the other in Unless, in the service that owns both", completed, compensated)
	}
	if compensated != "" && s.has(x.crossed) {
		st := x.pivot()
		x.note("", state, RulePivot, st,
			"%s: the saga ends compensated (%s) although its pivot, step %q, took effect; past the pivot it can only go on: let what compensates name the pivot's event in Unless, or mark the pivot's refusing outcome with Fails",
			st.service.name, compensated, st.Name)
	}
	x.inspectWaits(state, s, ended)
	if quiet && ended {
		x.inspectCompensation(state, s, completed, compensated)
	}
	if ended && x.onlyDeadlines(s) {
		for d, w := range x.due {
			if s.has(x.set + d) {
				st := x.steps[w.step].step
				x.note(st.service.name+w.name, state, RuleSettled, st,
					"%s: deadline %q is still open when the saga has ended; clear it with the event that makes it pointless (Clears)", st.service.name, w.name).Warning = true
			}
		}
	}
}

func (x *sagaExploration) pivot() *step {
	for _, st := range x.steps {
		if st.Pivot {
			return st.step
		}
	}
	return nil
}

// onlyDeadlines reports whether nothing but deadlines is under way.
func (x *sagaExploration) onlyDeadlines(s sagaState) bool {
	for i := range x.channels {
		if s[x.channels[i].at] != 0 {
			return false
		}
	}
	for f, w := range x.effects {
		if w.forever && s.has(x.open+f) {
			return false
		}
	}
	return true
}

// inspectWaits looks for something that the saga waits for while no deadline
// is open.
func (x *sagaExploration) inspectWaits(state int, s sagaState, ended bool) {
	for d := range x.due {
		if s.has(x.set + d) {
			return
		}
	}
	for f, w := range x.effects {
		if !s.has(x.open+f) || s.has(x.given+f) || w.forever || ended && !w.recovers {
			continue
		}
		st := x.steps[w.step].step
		x.note(st.service.name+w.name, state, RuleDeadline, st,
			"%s: effect %q may never answer, and here no deadline is open while it is; set one with the event that asks for it (Sets) and keep it until it answers, or, where it is right to repeat it for ever, declare it UntilAnswered",
			st.service.name, w.name)
	}
	if ended || s.has(x.turned) || s.has(x.crossed) {
		return
	}
	for i := range x.channels {
		if c := &x.channels[i]; s[c.at] != 0 && c.from != c.to && !x.sinks[c.to] {
			from, to := x.g.Services[c.from], x.g.Services[c.to]
			x.note("waits", state, RuleDeadline, nil,
				"the saga waits for %s (%s of %s is on its way there) and no deadline is open anywhere: if %s never reacts, nobody notices; set a deadline with %s and keep it until the saga ends, turns back (an outcome that Fails) or crosses its pivot",
				to, x.events[s[c.at]-1].name, from, to, x.g.Starts)
		}
	}
}

func (x *sagaExploration) inspectCompensation(state int, s sagaState, completed, compensated string) {
	for t, i := range x.tracked {
		st := x.steps[i].step
		took, undone := s.has(x.took+t), s.has(x.undone+t)
		if compensated != "" && took && !undone {
			x.note(st.service.name+st.Name, state, RuleCompensation, st,
				"%s: the saga ends compensated (%s) and step %q, which took effect, is not undone; let %s act on this path too, or mark the outcome that left nothing to undo with Fails",
				st.service.name, compensated, st.Name, x.undoers(st))
		}
		if completed != "" && took && undone {
			x.note(st.service.name+st.Name+"/undone", state, RuleCompensation, st,
				"%s: the saga ends completed (%s) although step %q was undone", st.service.name, completed, st.Name)
		}
	}
}

func (x *sagaExploration) undoers(st *step) string {
	var names []string
	for _, other := range st.service.steps {
		if other.Undoes == st.Name {
			names = append(names, fmt.Sprintf("%q", other.Name))
		}
	}
	return strings.Join(names, " or ")
}

// judge turns what was found into problems, errors first.
func (x *sagaExploration) judge() []SagaProblem {
	x.judgeEnds()
	if x.complete {
		x.judgeReach()
	}
	var errs, warnings []SagaProblem
	for _, key := range x.order {
		f := x.flaws[key]
		if f.state >= 0 {
			f.Path, _ = x.path(f.state)
		}
		if f.Warning {
			warnings = append(warnings, f.SagaProblem)
		} else {
			errs = append(errs, f.SagaProblem)
		}
	}
	return append(errs, warnings...)
}

// judgeEnds finds the states from which no end can be reached by what is sure
// to happen. A state beyond the bound has the benefit of the doubt.
func (x *sagaExploration) judgeEnds() {
	back := make([][]int32, len(x.states))
	for _, c := range x.certain {
		back[c[1]] = append(back[c[1]], c[0])
	}
	good := make([]bool, len(x.states))
	var todo []int32
	mark := func(i int32) {
		if !good[i] {
			good[i] = true
			todo = append(todo, i)
		}
	}
	for i := range x.states {
		if i >= x.expanded || x.ended(sagaState(x.states[i])) {
			mark(int32(i))
		}
	}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, from := range back[i] {
			mark(from)
		}
	}
	loop := -1
	for i := range x.states {
		if good[i] {
			continue
		}
		if !x.quiet[i] {
			if loop < 0 {
				loop = i
			}
			continue
		}
		x.deadEnd(i)
	}
	if loop >= 0 && !slices.ContainsFunc(x.order, func(key string) bool { return x.flaws[key].Rule == RuleEnds }) {
		x.note("loop", loop, RuleEnds, nil,
			"from here the saga goes round for ever and no end (%s) can be reached; give the step that sets its deadline again an outcome that gives up", x.endNames())
	}
}

// deadEnd notes a state in which nothing happens any more and the saga has not
// ended. Of all those in which the same effects are silent and the same step
// came last, one is enough.
func (x *sagaExploration) deadEnd(state int) {
	const enough = 5 // a first reading; they usually have one cause
	found := 0
	for _, key := range x.order {
		if x.flaws[key].Rule == RuleEnds {
			found++
		}
	}
	if found >= enough {
		return
	}
	s := sagaState(x.states[state])
	var silent []string
	for f, w := range x.effects {
		if s.has(x.open + f) {
			silent = append(silent, fmt.Sprintf("effect %q of %s", w.name, x.g.Services[w.service]))
		}
	}
	_, last := x.path(state)
	st := x.steps[last].step
	why := "If a step picks its outcome by what happened before, say so with the outcome's When and Unless; otherwise somebody has to react to what came last"
	if len(silent) > 0 {
		why = strings.Join(silent, " and ") + " may stay silent for ever: set a deadline with it (Sets) and let it decide"
	}
	x.note(st.service.name+st.Name+strings.Join(silent, ","), state, RuleEnds, st,
		"after this path nothing more happens and the saga has not ended (%s); the last step was %q of %s. %s",
		x.endNames(), st.Name, st.service.name, why)
}

func (x *sagaExploration) endNames() string {
	return strings.Join(append(shorts(x.g.Completed), shorts(x.g.Compensated)...), " or ")
}

func (x *sagaExploration) ended(s sagaState) bool {
	for e := range x.events {
		if (x.events[e].completed || x.events[e].compensated) && s.has(e) {
			return true
		}
	}
	return false
}

// judgeReach finds steps and outcomes that happen on no path.
func (x *sagaExploration) judgeReach() {
	for i, st := range x.steps {
		if !slices.Contains(x.taken[i], true) {
			x.note(st.service.name+st.Name, -1, RuleReachable, st.step,
				"%s: step %q never acts: %s", st.service.name, st.Name, x.whyIdle(i))
			continue
		}
		for o, taken := range x.taken[i] {
			if !taken {
				x.note(fmt.Sprint(st.service.name, st.Name, o), -1, RuleReachable, st.step,
					"%s: outcome %d of step %q (%s) happens on no path", st.service.name, o+1, st.Name, st.Outcomes[o]).Warning = true
			}
		}
	}
	for _, end := range append(slices.Clone(x.g.Completed), x.g.Compensated...) {
		e := slices.IndexFunc(x.events, func(e sagaEvent) bool { return e.name == end })
		if e < 0 || !slices.ContainsFunc(x.states, func(s string) bool { return sagaState(s).has(e) }) {
			x.note(end, -1, RuleReachable, nil, "the end %s is reached on no path%s", end, x.g.leftOut(end))
		}
	}
}

// whyIdle says what a step lacks that acts on no path.
func (x *sagaExploration) whyIdle(i int) string {
	st := &x.steps[i]
	for _, typ := range st.When {
		if !slices.ContainsFunc(x.events, func(e sagaEvent) bool { return e.name == typ }) {
			return fmt.Sprintf("its When wants %s, which does not happen in this saga%s", typ, x.g.leftOut(typ))
		}
	}
	if typ := st.trigger.event; typ != "" && st.on < 0 {
		return fmt.Sprintf("its event %s does not happen in this saga%s", typ, x.g.leftOut(typ))
	}
	return "on no path does its trigger come while When holds and Unless does not"
}

// leftOut names the steps that emit an event and are no part of the saga, and
// says why they are not; "" if there are none.
func (g *SagaGraph) leftOut(typ string) string {
	var why []string
	for _, s := range g.all {
		for _, st := range s.steps {
			if _, in := g.index[st]; in || !st.emits[typ] {
				continue
			}
			kind, name := st.trigger.kindAndName()
			lacks := map[string]string{"event": "emits", "effect": "asks for effect", "deadline": "sets deadline"}[kind]
			if lacks != "" {
				why = append(why, fmt.Sprintf("%q of %s, which emits it, is left out because no step of the saga %s %s", st.Name, s.name, lacks, name))
			}
		}
	}
	if len(why) == 0 {
		return ""
	}
	return ": " + strings.Join(why, "; ")
}
