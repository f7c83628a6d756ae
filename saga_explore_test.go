package courante

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// walk is a run of a saga as its declarations allow it, by chance: a second,
// slow and literal reading of the rules in the documentation of Check.
type walk struct {
	services  []*Service
	rand      *rand.Rand
	happened  map[string]bool
	queues    map[string][]string // "from to": types on their way
	delivered map[string][]string // by service
	effects   map[string]bool     // "service name"
	deadlines map[string]bool
	silent    bool // effects that may stay silent do
	taken     map[string]bool
}

func (w *walk) holds(when, unless []string) bool {
	return !slices.ContainsFunc(when, func(typ string) bool { return !w.happened[typ] }) &&
		!slices.ContainsFunc(unless, func(typ string) bool { return w.happened[typ] })
}

func (w *walk) take(st *step) {
	if !w.holds(st.When, st.Unless) {
		return
	}
	var allowed []int
	for i, o := range st.Outcomes {
		if w.holds(o.When, o.Unless) {
			allowed = append(allowed, i)
		}
	}
	if len(allowed) == 0 {
		return
	}
	i := allowed[w.rand.IntN(len(allowed))]
	o, name := st.Outcomes[i], st.service.name
	w.taken[fmt.Sprintf("%s/%s/%d", name, st.Name, i)] = true
	for _, typ := range o.Emits {
		if w.happened[typ] {
			continue
		}
		w.happened[typ] = true
		for _, to := range w.services {
			if slices.Contains(to.types, typ) {
				w.queues[name+" "+to.name] = append(w.queues[name+" "+to.name], typ)
			}
		}
	}
	set := func(in map[string]bool, names []string, on bool) {
		for _, n := range names {
			in[name+" "+n] = on
		}
	}
	set(w.deadlines, o.Clears, false)
	set(w.deadlines, o.Sets, true)
	set(w.effects, o.Drops, false)
	set(w.effects, o.Asks, true)
}

// step does one thing that may happen; false if nothing is sure to happen.
func (w *walk) step() bool {
	var likely, unlikely []func()
	sure := false
	for _, s := range w.services {
		for _, from := range w.services {
			pair := from.name + " " + s.name
			if len(w.queues[pair]) == 0 {
				continue
			}
			sure = true
			likely = append(likely, func() {
				typ := w.queues[pair][0]
				w.queues[pair] = w.queues[pair][1:]
				w.delivered[s.name] = append(w.delivered[s.name], typ)
				for _, st := range s.stepsOn(trigger{event: typ}) {
					w.take(st)
				}
			})
		}
		if again := w.delivered[s.name]; len(again) > 0 {
			typ := again[w.rand.IntN(len(again))]
			unlikely = append(unlikely, func() { w.take(s.stepsOn(trigger{event: typ})[0]) })
		}
		for _, st := range s.steps {
			t := st.trigger
			switch {
			case t.command != "" && !st.emits[s.sagas[0].Starts]:
				unlikely = append(unlikely, func() { w.take(st) })
			case t.deadline != "" && w.deadlines[s.name+" "+t.deadline]:
				sure = true
				unlikely = append(unlikely, func() { w.deadlines[s.name+" "+t.deadline] = false; w.take(st) })
			case t.effect != "" && w.effects[s.name+" "+t.effect]:
				forever := s.effects[t.effect].forever
				sure = sure || forever
				if forever || !w.silent {
					likely = append(likely, func() { w.effects[s.name+" "+t.effect] = false; w.take(st) })
				}
			}
		}
	}
	if !sure {
		return false
	}
	if len(unlikely) > 0 && (len(likely) == 0 || w.rand.IntN(10) == 0) {
		unlikely[w.rand.IntN(len(unlikely))]()
	} else {
		likely[w.rand.IntN(len(likely))]()
	}
	return true
}

func (w *walk) events() string {
	var types []string
	for typ, yes := range w.happened {
		if yes {
			types = append(types, typ)
		}
	}
	slices.Sort(types)
	return strings.Join(types, " ")
}

// The exploration leaves out what makes no difference (events whose handlers
// are idle for good, the turns of services that nobody depends on). This test
// holds it to that: whatever a run by chance comes to, the exploration knew.
func TestNoRunSurprisesTheExploration(t *testing.T) {
	t.Parallel()
	services := orderSaga()
	g, err := BuildSaga(services, "order")
	if err != nil {
		t.Fatal(err)
	}
	x := explore(newSagaModel(g), DefaultSagaStates)
	known := map[string]bool{}
	for i, state := range x.states {
		if !x.quiet[i] {
			continue
		}
		var types []string
		for e := range x.events {
			if sagaState(state).has(e) {
				types = append(types, x.events[e].name)
			}
		}
		slices.Sort(types)
		known[strings.Join(types, " ")] = true
	}
	seen, taken := map[string]bool{}, map[string]bool{}
	for seed := range uint64(4_000) {
		w := &walk{
			services: services, rand: rand.New(rand.NewPCG(1, seed)), taken: taken,
			happened: map[string]bool{}, queues: map[string][]string{}, delivered: map[string][]string{},
			effects: map[string]bool{}, deadlines: map[string]bool{}, silent: seed%4 == 0,
		}
		w.take(services[0].steps[0]) // place order
		for w.step() {
		}
		end := w.events()
		if !known[end] {
			t.Fatalf("seed %d ends with events that the exploration did not find:\n%s", seed, end)
		}
		seen[end] = true
	}
	for i, st := range x.steps {
		for o := range st.outcomes {
			if key := fmt.Sprintf("%s/%s/%d", st.service.name, st.Name, o); x.taken[i][o] != taken[key] {
				t.Errorf("%s: taken by the exploration: %t, by chance: %t", key, x.taken[i][o], taken[key])
			}
		}
	}
	t.Logf("%d of %d endings came up by chance", len(seen), len(known))
	if 2*len(seen) < len(known) {
		t.Errorf("the runs reached only %d of %d endings: they are too tame to prove anything", len(seen), len(known))
	}
}
