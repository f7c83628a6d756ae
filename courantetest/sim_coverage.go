package courantetest

import (
	"fmt"
	"slices"

	"github.com/courante-dev/courante"
)

// Coverage says which outcomes of which steps were taken. A declared outcome
// that no run takes is either impossible, and should not be declared, or not
// tested.
type Coverage struct {
	Runs  uint64
	steps []courante.SagaStep // in the order declared
	taken map[[2]string][]int // by service and step: how often each outcome
	idle  map[[2]string]int   // how often the step did nothing that it declares
}

// NewCoverage returns a coverage of nothing.
func NewCoverage() *Coverage {
	return &Coverage{taken: map[[2]string][]int{}, idle: map[[2]string]int{}}
}

func (c *Coverage) declare(s *courante.Service) {
	c.Runs = 1
	for _, st := range s.Steps() {
		c.add(st)
	}
}

func (c *Coverage) add(st courante.SagaStep) {
	k := [2]string{st.Service, st.Name}
	if _, ok := c.taken[k]; !ok {
		c.steps = append(c.steps, st)
		c.taken[k] = make([]int, len(st.Outcomes))
	}
}

// take counts the outcome that a decision ended in. Outcomes that differ only
// in the states under which they are declared look alike from outside, and are
// counted together.
func (c *Coverage) take(d *courante.Decided) {
	k := [2]string{d.Service, d.Step}
	i := slices.IndexFunc(c.steps, func(st courante.SagaStep) bool { return st.Service == d.Service && st.Name == d.Step })
	if i < 0 {
		return
	}
	best := 0
	counts := c.taken[k]
	for _, o := range c.steps[i].Outcomes {
		best = max(best, likeness(&o, &d.Did))
	}
	if best == 0 {
		c.idle[k]++
		return
	}
	for j, o := range c.steps[i].Outcomes {
		if likeness(&o, &d.Did) == best {
			counts[j]++
		}
	}
}

// likeness is 0 if what happened is not the outcome. Events decide; deadlines
// and effects, of which a handler may leave out what is not open, tell apart
// outcomes with the same events.
func likeness(o, did *courante.Outcome) int {
	if !same(o.Emits, did.Emits) {
		return 0
	}
	n := 1
	for _, l := range [][2][]string{{o.Asks, did.Asks}, {o.Sets, did.Sets}, {o.Drops, did.Drops}, {o.Clears, did.Clears}} {
		if same(l[0], l[1]) {
			n++
		}
	}
	return n
}

// same compares two lists as sets.
func same(a, b []string) bool {
	within := func(a, b []string) bool {
		return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
	}
	return within(a, b) && within(b, a)
}

// Add adds what another coverage has seen.
func (c *Coverage) Add(other *Coverage) {
	c.Runs += other.Runs
	for _, st := range other.steps {
		c.add(st)
		k := [2]string{st.Service, st.Name}
		for i, n := range other.taken[k] {
			c.taken[k][i] += n
		}
		c.idle[k] += other.idle[k]
	}
}

// Taken is how often a declared outcome of a step was taken.
type Taken struct {
	Service string `json:"service"`
	Step    string `json:"step"`
	Outcome string `json:"outcome"`
	Taken   int    `json:"taken"`
}

func (t Taken) String() string { return fmt.Sprintf("%s: %s: %s", t.Service, t.Step, t.Outcome) }

// Outcomes returns every declared outcome, in the order declared.
func (c *Coverage) Outcomes() []Taken {
	var all []Taken
	for _, st := range c.steps {
		for i, n := range c.taken[[2]string{st.Service, st.Name}] {
			all = append(all, Taken{st.Service, st.Name, st.Outcomes[i].String(), n})
		}
	}
	return all
}

// Never returns the outcomes that were never taken, in the order declared.
func (c *Coverage) Never() []Taken {
	return slices.DeleteFunc(c.Outcomes(), func(t Taken) bool { return t.Taken > 0 })
}

// Report lists how often each outcome was taken, in the order declared.
func (c *Coverage) Report() []string {
	var lines []string
	for _, st := range c.steps {
		k := [2]string{st.Service, st.Name}
		for i, n := range c.taken[k] {
			lines = append(lines, fmt.Sprintf("%7d  %s: %s: %s", n, st.Service, st.Name, st.Outcomes[i]))
		}
		if n := c.idle[k]; n > 0 {
			lines = append(lines, fmt.Sprintf("%7d  %s: %s: nothing", n, st.Service, st.Name))
		}
	}
	return lines
}
