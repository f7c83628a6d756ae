package courante

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// follower is a projection inside a runtime; a node has one for each, in the
// order declared.
type follower struct {
	Follower
	n       *node
	kind    ProjectionKind
	logs    []string
	actor   *Actor
	rest    time.Time    // the actor's own: it lets the logs gather until then
	waiting atomic.Int32 // readers who want it to come to the end of its logs
}

// A projection that has come to the end of its logs lets them grow before it
// folds on, unless a reader with a token waits for it: a row that several events
// change in that time is written once. It rests for ten times as long as it took
// to fold, so that it is busy for a tenth of the time, but not longer than a
// reader in another process, whom it does not hear of, has the patience for.
const (
	leastRest = 250 * time.Millisecond
	mostRest  = 750 * time.Millisecond
)

// enlistFollowers makes an actor of each projection. An inline one has work
// only while an older generation of it is kept.
func (rt *Runtime) enlistFollowers(n *node) {
	store, ok := n.store.(SQLStore)
	if !ok {
		return
	}
	services := make([]*Service, len(rt.cfg.Services))
	for i, m := range rt.cfg.Services {
		services[i] = m.Service
	}
	foreign := make([]string, len(rt.cfg.Sources))
	for i, s := range rt.cfg.Sources {
		foreign[i] = s.Log()
	}
	for _, p := range n.svc.projections {
		f := &follower{n: n, kind: p.Kind(), logs: p.Logs(n.svc, services, foreign)}
		read := map[string]ReadLog{}
		for _, log := range f.logs {
			read[log] = rt.tails[log].read
		}
		f.Follower = store.Follow(p, read)
		f.actor = rt.actor(fmt.Sprintf("projection %s/%s", n.svc.name, p.Name), f.step, f.next)
		n.followers = append(n.followers, f)
	}
}

func (f *follower) step(ctx context.Context) (bool, error) {
	if f.waiting.Load() == 0 && f.n.rt.now().Before(f.rest) {
		return false, nil
	}
	ends := make([]Cursor, len(f.logs))
	for i, log := range f.logs {
		ends[i] = f.n.rt.tails[log].end()
	}
	began := f.n.rt.now()
	worked, err := f.Step(ctx)
	if worked {
		f.n.signalProgress()
	}
	if now := f.n.rt.now(); worked && f.kind == Async && f.reached(ends) {
		f.rest = now.Add(min(max(10*now.Sub(began), leastRest), mostRest))
	}
	return worked, err
}

func (f *follower) next() time.Time {
	if f.n.rt.now().Before(f.rest) {
		return f.rest
	}
	return f.Next()
}

// reached reports whether the live generation has come to these places of its
// logs.
func (f *follower) reached(places []Cursor) bool {
	for i, log := range f.logs {
		if at := f.Place(log); at == (Cursor{}) || at.Before(places[i]) {
			return false
		}
	}
	return true
}

// awaitProjection returns when the live generation of the projection has come
// to the token's place in its log, in whatever process it is carried on. A
// paused one that is not there fails at once with ErrPaused: it will not come.
func (n *node) awaitProjection(ctx context.Context, name string, t Token) error {
	i := slices.IndexFunc(n.svc.projections, func(p Projection) bool { return p.Name == name })
	if i < 0 {
		return fmt.Errorf("service %s has no projection %q", n.svc.name, name)
	}
	store, ok := n.store.(SQLStore)
	if !ok || n.svc.projections[i].Kind() == Inline {
		return nil // the query will say that there is no SQL; or it never lags
	}
	f := n.followers[i]
	if !contains(f.logs, t.Log) {
		return nil
	}
	f.waiting.Add(1)
	defer f.waiting.Add(-1)
	source := n.rt.storeOf(t.Log)
	var asked time.Time // when the store last said how far it is
	for {
		changed := n.progressed()
		to, err := source.Locate(ctx, t)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return err
		case !f.Place(t.Log).Before(to):
			return nil
		case time.Since(asked) >= placePoll:
			asked = time.Now()
			at, err := store.Place(ctx, name, t.Log)
			if errors.Is(err, ErrNotFound) || err == nil && at.Before(to) {
				break
			}
			if errors.Is(err, ErrPaused) && !at.Before(to) {
				return nil
			}
			return err
		}
		f.actor.Wake()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-time.After(placePoll):
		}
	}
}

// placePoll is how often a reader with a token asks how far another process has
// carried a projection.
const placePoll = 50 * time.Millisecond
