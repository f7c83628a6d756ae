package courante

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Decision is what a handler works on: it reads states, and says what to
// change, which events to emit, which deadlines to set and which effects to
// ask for. The runtime does the I/O before and after.
//
// A handler must be deterministic: it depends on its message, the states that
// it loads, Now and NewID, and on nothing else. It may be run several times
// for one message (when it turns out to need a further state, or when somebody
// else changed one), and only the last run counts. A Decision is used by one
// goroutine and ends with the handler.
type Decision struct {
	batch *batch
	step  *step
	now   time.Time
	newID func() string

	log         string
	correlation string
	causation   string
	trace       string

	touched []*box       // private copies of states, in the order of their first use
	boxes   map[Key]*box // the same by key, once there are more than a few
	closing *closing     // what still has to be ended by an event of this decision
	reply   json.RawMessage
	did     *Outcome // what it emitted, asked for, dropped, set and cleared; nil if nobody wants to know
	err     error    // the first problem
}

// box is one state inside a batch.
type box struct {
	State
	row     int64           // version of the stored row as loaded
	loaded  json.RawMessage // the stored row itself
	emitted []Event         // by this batch, not yet committed
	put     bool            // the stored row changes
	ref     any             // the *Ref[S] of the decision whose copy it is, once it has one
}

// missing is what a handler panics with when it loads states that the batch
// does not hold yet. The runtime loads them and runs the handler again.
type missing struct{ keys []Key }

// Now is the time of the decision, the same whenever it is asked.
func (d *Decision) Now() time.Time { return d.now }

// NewID gives a new id, unique for ever.
func (d *Decision) NewID() string { return d.newID() }

// Correlation is the id that everything of this saga or request shares.
func (d *Decision) Correlation() string { return d.correlation }

// Reply sets the answer of a command. It is recorded with the command's
// idempotency key, if it has one.
func (d *Decision) Reply(v any) {
	data, err := json.Marshal(v)
	if err != nil {
		d.fail(fmt.Errorf("encode reply: %w", err))
		return
	}
	d.reply = data
}

func (d *Decision) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// box returns the decision's own copy of a state.
func (d *Decision) box(key Key) *box {
	if b := d.own(key); b != nil {
		return b
	}
	base, ok := d.batch.boxes[key]
	if !ok {
		panic(missing{[]Key{key}})
	}
	own := *base
	// Cap the slices, so that what this decision appends never shows in the
	// state of another.
	own.Events = slices.Clip(own.Events)
	own.emitted = slices.Clip(own.emitted)
	own.ref = nil
	d.touched = append(d.touched, &own)
	if len(d.touched) > few {
		if d.boxes == nil {
			d.boxes = make(map[Key]*box, 4*few)
			for _, b := range d.touched {
				d.boxes[b.Key] = b
			}
		}
		d.boxes[key] = &own
	}
	return &own
}

// few is how many states a decision looks through one by one. Most touch fewer,
// and then a map would cost more than the handler.
const few = 8

// own returns the decision's copy of a state; nil if it has not touched it yet.
func (d *Decision) own(key Key) *box {
	if len(d.touched) > few {
		return d.boxes[key]
	}
	for _, b := range d.touched {
		if b.Key == key {
			return b
		}
	}
	return nil
}

func (d *Decision) emit(b *box, p Payload, notes []Note) (*Event, bool) {
	e, err := NewEvent(p)
	if err != nil {
		d.fail(Park(err))
		return nil, false
	}
	if _, ok := d.batch.svc.events[e.Type]; !ok {
		d.fail(Park(fmt.Errorf("%s emits %s, which service %s does not declare; add it to Emits", d.step.Name, e.Type, d.batch.svc.name)))
		return nil, false
	}
	d.declared("event", "Emits", e.Type, d.step.emits)
	return d.add(b, e, notes), true
}

// add puts an event at the end of b's stream.
func (d *Decision) add(b *box, e Event, notes []Note) *Event {
	e.Log, e.Stream, e.Version = d.log, b.Stream(), b.Version+1
	e.Time, e.Correlation, e.Causation, e.Trace = d.now, d.correlation, d.causation, d.trace
	if d.batch.svc.homes()[b.Category] != "" {
		e.Correlation = b.ID
	}
	ends := d.closing != nil && d.closing.key == b.Key
	if len(notes) > 0 || ends {
		n := &Notes{}
		for _, note := range notes {
			note(d, b, &e, n)
		}
		if ends {
			d.closing.note(n)
			d.closing = nil
		}
		if len(n.Set)+len(n.Clear)+len(n.Ask)+len(n.Done) > 0 {
			e.Notes = n
		}
	}
	if d.did != nil {
		d.did.add(b.Open, &e)
	}
	b.Version++
	b.Open = b.Open.Apply(e.Notes)
	b.emitted = append(b.emitted, e)
	if b.Sourced {
		b.Events = append(b.Events, e)
	}
	return &b.emitted[len(b.emitted)-1]
}

// declared fails the decision for something its step did not announce: the
// static check of the saga is only worth what the declarations are.
func (d *Decision) declared(what, field, name string, names map[string]bool) {
	if !names[name] {
		d.fail(Park(fmt.Errorf("step %q: %s %q is not declared in its outcomes; add it to %s of the outcome in which that happens", d.step.Name, what, name, field)))
	}
}

// first returns the first event that the decision emitted.
func (d *Decision) first() (Event, bool) {
	for _, b := range d.touched {
		for i := range b.emitted {
			if b.emitted[i].Causation == d.causation {
				return b.emitted[i], true
			}
		}
	}
	return Event{}, false
}
