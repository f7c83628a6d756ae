package courante

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
)

// baseline is what a snapshot of a sourced state holds: the state, and the
// shape of the code that folded it. A baseline of another shape is not used;
// the stream is read from its beginning instead, once, until the next baseline
// is written. The log stays the truth.
type baseline struct {
	Shape string          `json:"shape"`
	State json.RawMessage `json:"state"`
}

// shape is a fingerprint of the fields of S and of the events that change it.
// It does not see inside the evolutions: who changes what one does, and not
// its types, renames a field of S or raises an event's schema version.
func (e *Entity[S]) shape() string {
	h := fnv.New64a()
	describe(h.Write, reflect.TypeFor[S](), map[reflect.Type]bool{})
	types := make([]string, 0, len(e.evolve))
	for t := range e.evolve {
		types = append(types, t)
	}
	slices.Sort(types)
	fmt.Fprint(h, types)
	return fmt.Sprintf("%x", h.Sum64())
}

func describe(write func([]byte) (int, error), t reflect.Type, seen map[reflect.Type]bool) {
	_, _ = write([]byte(t.String() + t.Kind().String()))
	if seen[t] {
		return
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		describe(write, t.Elem(), seen)
	case reflect.Map:
		describe(write, t.Key(), seen)
		describe(write, t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			_, _ = write([]byte(f.Name + string(f.Tag)))
			describe(write, f.Type, seen)
		}
	}
}

// rebase replaces what was loaded on a baseline of another shape.
func (s *Service) rebase(ctx context.Context, store Store, states []State) error {
	for i := range states {
		st := &states[i]
		if !st.Sourced || st.Data == nil {
			continue
		}
		var b baseline
		if err := json.Unmarshal(st.Data, &b); err == nil && b.Shape == s.shapes[st.Category] {
			st.Data = b.State
			continue
		}
		st.Data, st.Open, st.Row, st.Events = nil, Open{}, 0, nil
		for e, err := range store.ReadStream(ctx, st.Stream(), 0) {
			if err != nil {
				return err
			}
			if e.Version > st.Version {
				break // the unit sees the stream as of its own load
			}
			st.Events = append(st.Events, e)
		}
	}
	return nil
}
