package courante

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strings"
)

// baseline is what a snapshot of a sourced state holds: the state, and the
// shape of the code that folded it. A baseline of another shape is not used;
// the stream is read from its beginning instead, once, until the next baseline
// is written. The log stays the truth.
type baseline struct {
	Shape string          `json:"shape"`
	State json.RawMessage `json:"state"`
}

// noShape is that of a baseline of what is no state of the service: it says how
// far the stream is, and no more.
const noShape = "-"

// Folded reports whether a snapshot of the stream is as this program would
// write it now.
func (s *Service) Folded(stream string, snapshot json.RawMessage) bool {
	var b baseline
	return json.Unmarshal(snapshot, &b) == nil && b.Shape == s.shapeOf(stream)
}

func (s *Service) shapeOf(stream string) string {
	category, _, _ := strings.Cut(stream, ":")
	if shape := s.shapes[category]; shape != "" {
		return shape
	}
	return noShape
}

// Baselines folds streams of the service's log, as the store has them, and
// returns a snapshot of each, for who takes their events out of the log. A
// stream that is no state of the service gets one that says how far it is.
func (s *Service) Baselines(ctx context.Context, store Store, streams []string) ([]State, error) {
	keys := make([]Key, len(streams))
	for i, stream := range streams {
		category, id, _ := strings.Cut(stream, ":")
		keys[i] = Key{Category: category, ID: id, Sourced: true}
	}
	states, err := store.Read(ctx, keys)
	if err != nil {
		return nil, err
	}
	if err := s.rebase(ctx, store, states); err != nil {
		return nil, err
	}
	for i := range states {
		st := &states[i]
		data, err := json.Marshal(baseline{Shape: noShape, State: json.RawMessage("null")})
		if fold := s.baselines[st.Category]; fold != nil {
			data, err = fold(st)
		}
		if err != nil {
			return nil, err
		}
		for j := range st.Events {
			st.Open = st.Open.Apply(st.Events[j].Notes)
		}
		st.Row, st.Data, st.Events = st.Version, data, nil
	}
	return states, nil
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
		if err := json.Unmarshal(st.Data, &b); err == nil && b.Shape == s.shapeOf(st.Stream()) {
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
