package courante

import "slices"

// Past is what a state remembers of the service's own events of its saga: the
// types that happened, each once, in order. With it a handler's guard need not
// be written a second time: the declaration is the guard.
//
//	if !order.State.Past.Allows(step) {
//		return nil // too early, too late, or a duplicate
//	}
type Past []string

// Has reports whether an event of that type happened.
func (p Past) Has(typ string) bool { return slices.Contains(p, typ) }

// Add remembers a type of event.
func (p *Past) Add(typ string) {
	if !p.Has(typ) {
		*p = append(*p, typ)
	}
}

// Allows reports whether the step has something to do: everything of its When
// happened, and nothing of its Unless.
func (p Past) Allows(s Step) bool {
	for _, typ := range s.When {
		if !p.Has(typ) {
			return false
		}
	}
	return !slices.ContainsFunc(s.Unless, p.Has)
}
