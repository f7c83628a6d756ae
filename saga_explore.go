package courante

import "slices"

// sagaExploration is the set of states that a saga can be in, breadth first, so
// that the way to the first state with a flaw is a shortest one.
type sagaExploration struct {
	*sagaModel
	complete bool
	states   []string
	parent   []int32
	nth      []uint16   // which of the parent's moves led here
	expanded int        // states before this one have all their moves made
	certain  [][2]int32 // moves that are sure to happen, from and to
	quiet    []bool     // by state: nothing is sure to happen any more
	taken    [][]bool   // by step and outcome
	flaws    map[string]*sagaFlaw
	order    []string // keys of flaws in the order found
}

func explore(m *sagaModel, bound int) *sagaExploration {
	x := &sagaExploration{sagaModel: m, complete: true, flaws: map[string]*sagaFlaw{}}
	for _, st := range m.steps {
		x.taken = append(x.taken, make([]bool, len(st.outcomes)))
	}
	index := map[string]int32{}
	from, count := int32(-1), uint16(0)
	mover := &sagaMover{sagaModel: m}
	mover.visit = func(mv *sagaMove, s sagaState) {
		nth := count
		count++
		for _, r := range mv.ran {
			x.taken[r.step][r.outcome] = true
		}
		x.watch(mv, int(from))
		to, known := index[string(s)]
		if !known {
			to = int32(len(x.states))
			key := string(s)
			index[key] = to
			x.states = append(x.states, key)
			x.parent = append(x.parent, from)
			x.nth = append(x.nth, nth)
		}
		if mv.certain && from >= 0 {
			x.certain = append(x.certain, [2]int32{from, to})
		}
	}
	mover.starts()
	current := make(sagaState, m.size)
	for i := 0; i < len(x.states); i++ {
		if len(x.states) >= bound {
			x.complete = false
			break
		}
		from, count = int32(i), 0
		copy(current, x.states[i])
		quiet := !mover.next(current)
		x.quiet = append(x.quiet, quiet)
		x.expanded = i + 1
		x.inspect(i, current, quiet)
	}
	return x
}

// path replays how a state came about: a line for each move, and the last step
// that was not idle.
func (x *sagaExploration) path(state int) (lines []string, last int) {
	var chain []int
	for i := state; i >= 0; i = int(x.parent[i]) {
		chain = append(chain, i)
	}
	slices.Reverse(chain)
	for n, i := range chain {
		count := uint16(0)
		mover := &sagaMover{sagaModel: x.sagaModel}
		mover.visit = func(mv *sagaMove, _ sagaState) {
			if count == x.nth[i] {
				lines = append(lines, x.describe(mv))
				if len(mv.ran) > 0 {
					last = mv.ran[len(mv.ran)-1].step
				}
			}
			count++
		}
		if n == 0 {
			mover.starts()
		} else {
			mover.next(sagaState(x.states[chain[n-1]]))
		}
	}
	return lines, last
}
