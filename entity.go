package courante

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	jsonv1 "github.com/go-json-experiment/json/v1"
)

// Entity is a category of states that a service owns: orders, payments, stock.
// A state is either a fold of its stream ([Sourced]) or a versioned row
// ([Stored]); a handler cannot tell, and both emit events on their stream.
type Entity[S any] struct {
	svc      *Service
	category string
	sourced  bool
	evolve   map[string]func(*S, *Event) error
	copies   func(dst, src reflect.Value) // nil: its states cannot be copied, and are not kept
}

// snapshotEvery is how many events a stream grows by between two baselines.
// Reading 100 events of 300 bytes costs about as much as one round trip.
const snapshotEvery = 100

// Evolution says how one type of event changes a state; see [Evolve].
type Evolution[S any] struct {
	typ   string
	apply func(*S, *Event) error
}

// Evolve is the change that events with payload P make to a state S. fn must
// depend on nothing but its arguments; it may change *S in place.
func Evolve[S any, P Payload](fn func(*S, P)) Evolution[S] {
	var zero P
	return Evolution[S]{zero.EventType(), func(s *S, e *Event) error {
		p, err := Decode[P](e)
		if err != nil {
			return err
		}
		fn(s, p)
		return nil
	}}
}

// Sourced declares event-sourced states of the service: S is the fold of the
// stream's events over its zero value. Event types without an evolution leave
// the state as it is. S must survive a round trip through JSON, which is how
// baselines are kept.
func Sourced[S any](s *Service, category string, evolutions ...Evolution[S]) *Entity[S] {
	e := &Entity[S]{
		svc: s, category: category, sourced: true, evolve: map[string]func(*S, *Event) error{},
		copies: cloner(reflect.TypeFor[S]()),
	}
	for _, ev := range evolutions {
		if e.evolve[ev.typ] != nil {
			s.problem("entity %s: two evolutions for %s", category, ev.typ)
		}
		e.evolve[ev.typ] = ev.apply
		s.evolved[ev.typ] = append(s.evolved[ev.typ], category)
	}
	s.addCategory(category, true)
	shape := e.shape()
	s.shapes[category] = shape
	s.baselines[category] = func(st *State) (json.RawMessage, error) {
		state, err := e.fold(st)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(state)
		if err != nil {
			return nil, fmt.Errorf("encode baseline of %s: %w", st.Stream(), err)
		}
		return json.Marshal(baseline{Shape: shape, State: data})
	}
	return e
}

// Stored declares states of the service that are kept as they are, as JSON in
// a versioned row: for what is hot and whose history nobody folds.
func Stored[S any](s *Service, category string) *Entity[S] {
	s.addCategory(category, false)
	return &Entity[S]{svc: s, category: category}
}

// Key names the state with that id.
func (e *Entity[S]) Key(id string) Key {
	return Key{Category: e.category, ID: id, Sourced: e.sourced}
}

// Load gives a handler the state with that id. Within one decision, loading an
// id twice gives the same Ref. A state that nobody has written yet is the zero
// value of S, and Exists reports false.
func (e *Entity[S]) Load(d *Decision, id string) *Ref[S] {
	key := e.Key(id)
	own := d.box(key)
	if own.ref != nil {
		return own.ref.(*Ref[S])
	}
	r := &Ref[S]{d: d, entity: e, box: own}
	state, err := e.fold(&r.box.State)
	if err != nil {
		d.fail(Park(err))
	} else if e.copies != nil && (r.box.whole == nil || len(r.box.tail)+len(r.box.Events) > 0) {
		// Others who load it in this batch, and later ones, begin here.
		whole := new(S)
		e.copy(whole, &state)
		for _, b := range []*box{r.box, d.batch.boxes[key]} {
			b.whole, b.tail, b.Events = whole, nil, nil
		}
	}
	r.State = state
	own.ref = r
	return r
}

// Fetch tells the runtime at once which states a handler is about to load, when
// it knows them only from another state. Loading them one by one would take a
// round trip each, and after a few the runtime gives up.
func (e *Entity[S]) Fetch(d *Decision, ids ...string) {
	var absent []Key
	for _, id := range ids {
		if key := e.Key(id); d.batch.boxes[key] == nil {
			absent = append(absent, key)
		}
	}
	if len(absent) > 0 {
		panic(missing{absent})
	}
}

// fold rebuilds S from what a store returned.
func (e *Entity[S]) fold(st *State) (S, error) {
	var s S
	if whole, ok := st.whole.(*S); ok {
		e.copy(&s, whole)
	} else if len(st.Data) > 0 {
		if err := jsonv1.Unmarshal(st.Data, &s); err != nil {
			return s, fmt.Errorf("decode state %s: %w", st.Stream(), err)
		}
	}
	for _, events := range [][]Event{st.tail, st.Events} {
		for i := range events {
			if apply := e.evolve[events[i].Type]; apply != nil {
				if err := apply(&s, &events[i]); err != nil {
					return s, err
				}
			}
		}
	}
	return s, nil
}

func (e *Entity[S]) copy(dst, src *S) {
	e.copies(reflect.ValueOf(dst).Elem(), reflect.ValueOf(src).Elem())
}

// Ref is one state inside a decision. State is the handler's own copy. Changing
// it in place has no effect on what is written: a sourced state changes by
// Emit, a stored one by Put.
type Ref[S any] struct {
	State  S
	d      *Decision
	entity *Entity[S]
	box    *box
}

// Exists reports whether the state was ever written.
func (r *Ref[S]) Exists() bool { return r.box.Version > 0 || r.box.Row > 0 }

// Version is the number of events on the state's stream, including those that
// this decision has emitted so far.
func (r *Ref[S]) Version() int64 { return r.box.Version }

// Deadline returns the moment of the open deadline of that name.
func (r *Ref[S]) Deadline(name string) (time.Time, bool) {
	d, ok := r.box.Open.Deadline(name)
	return d.Due, ok
}

// Emit adds an event to the state's stream; an event-sourced state has changed
// accordingly when it returns. Deadlines and effects ride on it as notes. An
// event emitted, a deadline set or cleared, or an effect asked for or dropped
// that the running step did not declare makes the decision fail.
func (r *Ref[S]) Emit(p Payload, notes ...Note) {
	e, ok := r.d.emit(r.box, p, notes)
	if !ok || !r.entity.sourced {
		return
	}
	if apply := r.entity.evolve[e.Type]; apply != nil {
		if err := apply(&r.State, e); err != nil {
			r.d.fail(err)
		}
	}
}

// Put replaces a stored state.
func (r *Ref[S]) Put(s S) {
	if r.entity.sourced {
		r.d.fail(fmt.Errorf("put on %s: the state is event-sourced, emit an event instead", r.box.Stream()))
		return
	}
	data, err := json.Marshal(s)
	if err != nil {
		r.d.fail(fmt.Errorf("put on %s: %w", r.box.Stream(), err))
		return
	}
	r.State = s
	r.box.Data, r.box.put = data, true
}

// Note is a deadline or an effect that rides on an emitted event.
type Note func(d *Decision, b *box, e *Event, n *Notes)

// Set starts the deadline of that name on the stream, or moves it.
func Set(name string, due time.Time) Note {
	return func(d *Decision, _ *box, _ *Event, n *Notes) {
		d.declared("deadline set", "Sets", name, d.step.sets)
		n.Set = append(n.Set, Deadline{Name: name, Due: due.UTC().Truncate(time.Microsecond)})
	}
}

// Clear ends the deadline of that name, if it is open.
func Clear(name string) Note {
	return func(d *Decision, b *box, _ *Event, n *Notes) {
		d.declared("deadline cleared", "Clears", name, d.step.clears)
		if _, open := b.Open.Deadline(name); open {
			n.Clear = append(n.Clear, name)
		}
	}
}
