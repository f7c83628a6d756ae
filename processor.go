package courante

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"go.opentelemetry.io/otel/trace"
)

// item is one thing to decide on: a command, a delivered event, a deadline that
// is due, or the outcome of an effect. All four take the same way.
type item struct {
	step        *step
	keys        []Key // states to load before the first run
	decide      func(*Decision) error
	correlation string
	causation   string
	parent      string // traceparent of what led to it

	closing *closing // the deadline or effect that ends with it
	idem    *Reply   // key and hash of a call that is to be remembered

	event    *Event // delivered event, nil for the others
	lane     Lane   // that brought it
	reaction *reaction
	parked   *Parked // it was set aside before and is tried again

	span  trace.Span
	trace string     // traceparent for what follows from it
	done  chan error // for a queued item: gets the unit's error, nil if it was written or left out
	over  bool       // it was written or left out with one half of its work, whatever became of the other

	// The result of the last run.
	decision *Decision
	err      error // why it was left out
	token    Token
}

func (it *item) key() string {
	if it.event != nil {
		return it.event.Key()
	}
	return ""
}

// closing names what ends with a decision on a deadline or an outcome. If it is
// no longer open, somebody was faster and there is nothing to decide.
type closing struct {
	key      Key
	deadline Deadline
	effect   string // id of the request; "" for a deadline
}

// batch is the states that one unit works on.
type batch struct {
	svc   *Service
	boxes map[Key]*box
	order []Key // in the order loaded, so that what is written has one order
}

// work is what one unit has to do: items in lane order, and the progress that
// is recorded with them.
type work struct {
	items    []*item
	progress []Progress
	aside    *aside          // keys with parked messages, for delivered items
	failed   map[string]bool // keys of which an earlier half of the work was set aside
	parked   []Parked        // set by the run: messages to set aside
	unparked []int64         // set by the run: parked messages that went through
}

const (
	// maxRounds bounds how often handlers may turn out to need further states.
	maxRounds = 8
	// maxConflicts bounds how often a unit is decided again at once. Each
	// conflict means that somebody else made progress.
	maxConflicts = 50
)

// process decides on the work and writes it in one transaction. It returns nil
// when everything is written or was left out with an error in its item. When
// the write itself is refused, the work is bisected until the culprit is alone,
// so that its neighbours go on.
func (n *node) process(ctx context.Context, w *work) error {
	for try := 0; ; try++ {
		err := n.measured(ctx, w)
		var conflict *ConflictError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &conflict) && w.dropRepeated(conflict):
			continue
		case errors.As(err, &conflict) && try < maxConflicts:
			continue
		case errors.As(err, &conflict):
			return Transient(err)
		case isTransient(err), errors.Is(err, ErrFenced), errors.Is(err, ErrClosed), ctx.Err() != nil:
			return err
		}
		if len(w.items) == 1 {
			return n.refuse(ctx, w, err)
		}
		if len(w.items) == 0 {
			return err
		}
		first, second := w.split()
		items := first.items
		if err := n.process(ctx, first); err != nil {
			return err
		}
		for _, it := range items {
			it.over = true
		}
		for i := range second.progress {
			for _, p := range first.progress {
				if p.Lane == second.progress[i].Lane {
					second.progress[i].N++
				}
			}
		}
		second.behind(first)
		if err := n.process(ctx, second); err != nil {
			return err
		}
		w.parked = slices.Concat(first.parked, second.parked)
		w.unparked = slices.Concat(first.unparked, second.unparked)
		return nil
	}
}

// dropRepeated takes out the calls whose idempotency key was used before.
func (w *work) dropRepeated(conflict *ConflictError) bool {
	var kept []*item
	for _, it := range w.items {
		if it.idem != nil && contains(conflict.Streams, it.idem.Key) {
			it.err = errRepeated
			continue
		}
		kept = append(kept, it)
	}
	dropped := len(kept) < len(w.items)
	w.items = kept
	return dropped
}

// errRepeated marks a call whose idempotency key has an answer already.
var errRepeated = errors.New("repeated call")

// refuse leaves out the one item that the store does not take: a command gets
// the error, a delivered message is set aside with it.
func (n *node) refuse(ctx context.Context, w *work, cause error) error {
	it := w.items[0]
	decide := it.decide
	it.decide = func(*Decision) error { return Park(fmt.Errorf("write: %w", cause)) }
	defer func() { it.decide = decide }()
	return n.attempt(ctx, w)
}

// split halves the work. The first half's progress ends at its last events.
func (w *work) split() (first, second *work) {
	half := len(w.items) / 2
	first = &work{items: w.items[:half], aside: w.aside, failed: w.failed}
	second = &work{items: w.items[half:], aside: w.aside, progress: slices.Clone(w.progress)}
	for _, p := range w.progress {
		for _, it := range slices.Backward(first.items) {
			if it.event != nil && it.parked == nil && it.lane == p.Lane {
				p.Cursor, p.Note = it.event.Cursor(), nil
				first.progress = append(first.progress, p)
				break
			}
		}
	}
	return first, second
}

// behind has what the first half set aside stay before what this half has of
// the same keys.
func (w *work) behind(first *work) {
	w.failed = map[string]bool{}
	maps.Copy(w.failed, first.failed)
	for i := range first.parked {
		w.failed[first.parked[i].Key] = true
	}
}

// attempt runs one unit: load, decide, write.
func (n *node) attempt(ctx context.Context, w *work) error {
	unit, err := n.store.Begin(ctx)
	if err != nil {
		return err
	}
	defer unit.Rollback(ctx)

	b, changes, err := n.decideAll(ctx, w, func(ctx context.Context, keys []Key) ([]State, error) {
		have, known := n.kept.of(keys)
		states, err := unit.Load(ctx, keys, known)
		complete(states, have)
		return states, err
	})
	if err != nil {
		return err
	}
	if changes.empty() {
		n.kept.keep(b, Receipt{})
		return nil
	}
	n.observe(w)
	receipt, err := n.journeys.commit(ctx, unit, changes)
	if err != nil {
		return err
	}
	n.kept.keep(b, receipt)
	for _, it := range w.items {
		it.token = receipt.Token
		if it.decision == nil {
			continue
		}
		if _, emitted := it.decision.first(); !emitted {
			it.token.Xid = 0 // nothing that a reader of the log could wait for
		}
	}
	return nil
}

// decideAll loads states and runs the handlers, in as many rounds as they turn
// out to need, and returns what they want written.
func (n *node) decideAll(ctx context.Context, w *work, load func(context.Context, []Key) ([]State, error)) (*batch, Changes, error) {
	b := &batch{svc: n.svc, boxes: map[Key]*box{}}
	var loaded []State
	want := w.keys()
	for round := 0; ; round++ {
		if round == maxRounds {
			return nil, Changes{}, fmt.Errorf("%s: handlers still ask for further states after %d rounds", n.svc.name, maxRounds)
		}
		if len(want) > 0 {
			states, err := load(ctx, want)
			if err != nil {
				return nil, Changes{}, err
			}
			if err := n.svc.rebase(ctx, n.store, states); err != nil {
				return nil, Changes{}, err
			}
			loaded = append(loaded, states...)
		}
		b.reset(loaded)
		if want = n.decide(b, w); len(want) == 0 {
			changes, err := n.changes(b, w)
			return b, changes, err
		}
	}
}

func (w *work) keys() []Key {
	var keys []Key
	seen := map[Key]bool{}
	for _, it := range w.items {
		for _, k := range it.keys {
			if !seen[k] {
				seen[k] = true
				keys = append(keys, k)
			}
		}
		if c := it.closing; c != nil && !seen[c.key] {
			seen[c.key] = true
			keys = append(keys, c.key)
		}
	}
	return keys
}

// reset makes the boxes anew from what was loaded, because the runs before
// have left their changes in them.
func (b *batch) reset(loaded []State) {
	clear(b.boxes)
	b.order = slices.Grow(b.order[:0], len(loaded))
	boxes := make([]box, len(loaded))
	for i := range loaded {
		st := loaded[i]
		st.Events = slices.Clip(st.Events)
		for j := range st.Events {
			st.Open = st.Open.Apply(st.Events[j].Notes)
		}
		boxes[i] = box{State: st, row: st.Row, loaded: st.Data}
		b.boxes[st.Key] = &boxes[i]
		b.order = append(b.order, st.Key)
	}
}

// decide runs the handlers in order. It returns the states that some of them
// miss; then nothing else of the run counts.
func (n *node) decide(b *batch, w *work) []Key {
	w.parked, w.unparked = nil, nil
	var want []Key
	wanted := map[Key]bool{}
	failed := map[string]bool{}
	maps.Copy(failed, w.failed)
	for _, it := range w.items {
		it.err, it.decision = nil, nil
		if it.event != nil {
			if behind := failed[it.key()] || it.parked == nil && w.aside.has(it.key()); behind {
				if it.parked == nil {
					w.parked = append(w.parked, n.park(it, nil))
				}
				continue
			}
		}
		d := &Decision{
			batch: b, step: it.step, now: n.rt.now(), newID: n.rt.newID,
			log: n.svc.name, correlation: it.correlation, causation: it.causation, trace: it.trace,
		}
		if n.rt.cfg.Observe != nil {
			d.did = &Outcome{}
		}
		need, err := d.run(it)
		if need != nil {
			for _, key := range need {
				if !wanted[key] {
					wanted[key] = true
					want = append(want, key)
				}
			}
			continue
		}
		if err != nil {
			it.err = err
			if it.event != nil {
				failed[it.key()] = true
				w.parked = append(w.parked, n.park(it, err))
			}
			continue
		}
		it.decision = d
		for _, own := range d.touched {
			b.boxes[own.Key] = own
		}
		if it.parked != nil {
			w.unparked = append(w.unparked, it.parked.ID)
		}
	}
	return want
}

// run calls the handler once. It returns the keys of states that the batch
// does not hold, or the error that the decision ends in.
func (d *Decision) run(it *item) (need []Key, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case missing:
			need = p.keys
		default:
			err = Park(&panicError{it.step.Name, p, debug.Stack()})
		}
	}()
	var ends *box
	if c := it.closing; c != nil {
		ends = d.box(c.key)
		if !c.open(ends.Open) {
			return nil, nil
		}
		d.closing = c
	}
	if err := it.decide(d); err != nil {
		return nil, err
	}
	if d.err != nil {
		return nil, d.err
	}
	if d.closing != nil {
		d.add(ends, Event{Type: closedType, Schema: 1, Data: json.RawMessage("{}")}, nil)
	}
	return nil, nil
}

// closedType is the event by which the runtime records that a deadline passed
// or an effect ended when the handler emitted nothing of its own.
const closedType = "courante.closed"

func (c *closing) open(o Open) bool {
	if c.effect != "" {
		_, open := o.Effect(c.effect)
		return open
	}
	have, open := o.Deadline(c.deadline.Name)
	return open && have.Due.Equal(c.deadline.Due)
}

// note adds the end of the deadline or effect to the notes of an event.
func (c *closing) note(n *Notes) {
	if c.effect == "" {
		if !contains(n.Clear, c.deadline.Name) && !named(n.Set, c.deadline.Name) {
			n.Clear = append(n.Clear, c.deadline.Name)
		}
	} else if !contains(n.Done, c.effect) {
		n.Done = append(n.Done, c.effect)
	}
}

// changes collects what the unit writes.
func (n *node) changes(b *batch, w *work) (Changes, error) {
	c := Changes{Progress: w.progress, Park: w.parked, Unpark: w.unparked}
	emitted := 0
	for _, key := range b.order {
		emitted += len(b.boxes[key].emitted)
	}
	c.Events = make([]Event, 0, emitted)
	for _, key := range b.order {
		bx := b.boxes[key]
		c.Events = append(c.Events, bx.emitted...)
		if !key.Sourced {
			if bx.put || len(bx.emitted) > 0 {
				st := bx.State
				st.Row = bx.row
				if st.Data == nil {
					st.Data = json.RawMessage("null")
				}
				c.States = append(c.States, st)
			}
			continue
		}
		if len(bx.emitted) > 0 && bx.Version-bx.Row >= snapshotEvery {
			data, err := n.svc.baselines[key.Category](&bx.State)
			if err != nil {
				return c, err
			}
			bx.Row = bx.Version
			bx.Row = bx.Version
			c.Snapshots = append(c.Snapshots, State{Key: key, Version: bx.Version, Row: bx.Version, Data: data, Open: bx.Open})
		}
	}
	for _, it := range w.items {
		if it.idem != nil && it.decision != nil && it.err == nil {
			r := *it.idem
			if r.Body = it.decision.reply; r.Body == nil {
				r.Body = json.RawMessage("null")
			}
			c.Replies = append(c.Replies, r)
		}
	}
	return c, nil
}

func (c *Changes) empty() bool {
	return len(c.Events)+len(c.States)+len(c.Snapshots)+len(c.Progress)+len(c.Park)+len(c.Unpark)+len(c.Replies) == 0
}
