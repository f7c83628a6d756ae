package courantetest

import (
	"context"
	"fmt"
	"strings"

	"github.com/courante-dev/courante"
)

// tracedStore is a process's handle on a store, as the simulation watches it.
type tracedStore struct {
	courante.Store
	w *world
}

// ReadLog returns fewer events than it was asked for, now and then: it may,
// and in a small world nobody would otherwise meet the end of a page.
func (s *tracedStore) ReadLog(ctx context.Context, after courante.Cursor, max int) ([]courante.Event, courante.Cursor, error) {
	if s.w.happens(s.w.faults.fewer) {
		max = min(max, 1+s.w.rand.IntN(4))
	}
	events, to, err := s.Store.ReadLog(ctx, after, max)
	return events, to, s.answered(err)
}

// answered lets others run between the answer to a read and what its caller
// does with it. The store has its point before a read; that is enough between
// two calls, and not where the caller looks next at memory that actors share.
func (s *tracedStore) answered(err error) error {
	if a := s.w.current; a != nil && err == nil && s.w.happens(s.w.faults.answer) {
		return a.pause("answer")
	}
	return err
}

func (s *tracedStore) LaneEpochs(ctx context.Context, subscriber, log string) ([]courante.LaneEpoch, error) {
	list, err := s.Store.LaneEpochs(ctx, subscriber, log)
	return list, s.answered(err)
}

func (s *tracedStore) AddLaneEpoch(ctx context.Context, e courante.LaneEpoch) error {
	return s.answered(s.Store.AddLaneEpoch(ctx, e))
}

func (s *tracedStore) Progress(ctx context.Context, lane courante.Lane) (courante.Progress, error) {
	p, err := s.Store.Progress(ctx, lane)
	return p, s.answered(err)
}

func (s *tracedStore) Head(ctx context.Context) (courante.Cursor, error) {
	c, err := s.Store.Head(ctx)
	return c, s.answered(err)
}

func (s *tracedStore) Parked(ctx context.Context, subscriber string, which courante.ParkedQuery) ([]courante.Parked, error) {
	list, err := s.Store.Parked(ctx, subscriber, which)
	return list, s.answered(err)
}

func (s *tracedStore) Aside(ctx context.Context, subscriber string, keys []string) (courante.Aside, error) {
	aside, err := s.Store.Aside(ctx, subscriber, keys)
	return aside, s.answered(err)
}

func (s *tracedStore) Begin(ctx context.Context) (courante.Unit, error) {
	u, err := s.Store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &tracedUnit{u, s}, nil
}

type tracedUnit struct {
	courante.Unit
	s *tracedStore
}

func (u *tracedUnit) Commit(ctx context.Context, c courante.Changes) (courante.Receipt, error) {
	a := u.s.w.current
	if a != nil {
		a.pending.log, a.pending.changes = u.s.Log(), c
	}
	r, err := u.Unit.Commit(ctx, c)
	if err != nil && a != nil && !a.gone() {
		a.pending.decided = nil // whatever is committed next has other decisions, or none
		u.s.w.logf("%s: commit in %s: %v", a.name, u.s.Log(), err)
	}
	return r, err
}

// pending is what an actor is about to commit.
type pending struct {
	log     string
	changes courante.Changes
	decided []courante.Decided
}

// observe is the runtime's Config.Observe.
func (w *world) observe(decided []courante.Decided) {
	if a := w.current; a != nil {
		a.pending.decided = append([]courante.Decided(nil), decided...)
	}
}

// committed takes note of what an actor has committed. It is called within the
// commit, before anything can be lost on the way back, so that the ledger knows
// what nobody else in the world knows for sure.
func (w *world) committed(a *actor) {
	p := &a.pending
	var did strings.Builder
	for i := range p.changes.Events {
		e := &p.changes.Events[i]
		fmt.Fprintf(&did, " %s %s@%d", e.Type, e.Stream, e.Version)
	}
	for i := range p.changes.States {
		fmt.Fprintf(&did, " put %s", p.changes.States[i].Stream())
	}
	for i := range p.changes.Progress {
		pr := &p.changes.Progress[i]
		fmt.Fprintf(&did, " progress %s<%s.%d/%d:%d to %s", pr.Subscriber, pr.Log, pr.Epoch, pr.K, pr.N, pr.Cursor)
	}
	if n := len(p.changes.Park); n > 0 {
		fmt.Fprintf(&did, " park %d: %s", n, strings.SplitN(p.changes.Park[0].Cause, "\n", 2)[0])
	}
	if n := len(p.changes.Unpark); n > 0 {
		fmt.Fprintf(&did, " unpark %d", n)
	}
	w.logf("%s: committed in %s:%s", a.name, p.log, did.String())
	w.worked = w.now
	if err := w.ledger.progress(p.changes.Progress); err != nil {
		w.fail("%w", err)
	}
	// The decisions belong to the commit that holds their events, should
	// somebody in between make several commits of one.
	emitted := 0
	for _, d := range p.decided {
		emitted += len(d.Did.Emits)
	}
	if emitted > len(p.changes.Events) {
		return
	}
	for i := range p.decided {
		w.coverage.take(&p.decided[i])
		if err := w.ledger.decided(&p.decided[i]); err != nil {
			w.fail("%w", err)
		}
	}
	p.decided = nil
}
