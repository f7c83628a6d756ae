package courante

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Trial is what became of one message in a dry run.
type Trial struct {
	Message Parked
	// Failure is how it failed: cause, stack and fingerprint, and when it would
	// be tried again. Nil if it did not.
	Failure *Parked
	// Waits says that it was not tried, because one of its key fails before it.
	Waits  bool
	Events []Event       // that it would emit; deadlines and effects are in their notes
	States []StateChange // that it would store
}

// StateChange is a stored state before and after a decision.
type StateChange struct {
	Key    Key
	Before json.RawMessage // nil: there was none
	After  json.RawMessage
}

// DryRun tries out what the code of this program would do with messages that
// are set aside, on the states as they are now, in the order given. Nothing is
// written and nothing is performed. While handlers run, no transaction is open;
// whether the store would take their decisions is tried in one that is rolled
// back in the same round trip, and so holds what it locks for that long.
//
// An error says that it could not be tried.
func DryRun(ctx context.Context, m Mount, messages []Parked) ([]Trial, error) {
	rt := &Runtime{}
	rt.cfg.setDefaults()
	n := newNode(rt, m)
	if err := errors.Join(m.Service.problems...); err != nil {
		return nil, err
	}
	w := &work{aside: newAside(0, rt.now())}
	for i := range messages {
		w.items = append(w.items, n.again(&messages[i]))
	}
	if err := n.rehearse(ctx, w); err != nil {
		return nil, err
	}
	return w.trials(), nil
}

// rehearse decides on all the work and has the store take it, but for the
// commit. An item that the store refuses fails with what it says, as it would
// in earnest: each is tried with those before it, so that the first one whose
// addition makes a difference is the one.
func (n *node) rehearse(ctx context.Context, w *work) error {
	conflicts, refused := 0, 0
	for k := 1; k <= len(w.items); {
		part := &work{items: w.items[:k], aside: w.aside}
		_, changes, err := n.decideAll(ctx, part, n.store.Read)
		if err == nil {
			changes.Park, changes.Unpark = nil, nil // some may have been resolved before
			err = n.rehearseCommit(ctx, changes)
		}
		var conflict *ConflictError
		switch {
		case err == nil:
			w.parked = part.parked
			k++
			continue
		case errors.As(err, &conflict) && conflicts < maxConflicts:
			conflicts++ // somebody was faster, which in earnest is decided again too
			continue
		case errors.As(err, &conflict), isTransient(err), errors.Is(err, ErrClosed), ctx.Err() != nil, refused == k:
			return fmt.Errorf("dry run: %w", err)
		}
		refused = k
		cause := Park(fmt.Errorf("write: %w", err))
		it := w.items[k-1]
		it.keys, it.decide = nil, func(*Decision) error { return cause }
	}
	return nil
}

func (n *node) rehearseCommit(ctx context.Context, c Changes) error {
	if c.empty() {
		return nil
	}
	unit, err := n.store.Begin(ctx)
	if err != nil {
		return err
	}
	defer unit.Rollback(ctx)
	return unit.Rehearse(ctx, c)
}

// trials tells apart what each item of the last run did.
func (w *work) trials() []Trial {
	emitted, stored := map[Key]int{}, map[Key]json.RawMessage{}
	trials := make([]Trial, len(w.items))
	for i, it := range w.items {
		t := &trials[i]
		t.Message = *it.parked
		switch {
		case it.err != nil:
			for j := range w.parked {
				if w.parked[j].ID == t.Message.ID {
					t.Failure = &w.parked[j]
				}
			}
			continue
		case it.decision == nil:
			t.Waits = true
			continue
		}
		for _, b := range it.decision.touched {
			t.Events = append(t.Events, b.emitted[emitted[b.Key]:]...)
			emitted[b.Key] = len(b.emitted)
			before, known := stored[b.Key]
			if !known {
				before = b.loaded
			}
			if b.put && string(before) != string(b.Data) {
				t.States = append(t.States, StateChange{Key: b.Key, Before: before, After: b.Data})
				stored[b.Key] = b.Data
			}
		}
	}
	return trials
}
