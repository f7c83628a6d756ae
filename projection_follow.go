package courante

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// follower is a projection inside a runtime; a node has one for each, in the
// order declared.
type follower struct {
	Follower
	logs  []string
	actor *Actor
}

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
		f := &follower{logs: p.Logs(n.svc, services, foreign)}
		read := map[string]ReadLog{}
		for _, log := range f.logs {
			read[log] = rt.tails[log].read
		}
		f.Follower = store.Follow(p, read)
		f.actor = rt.actor(fmt.Sprintf("projection %s/%s", n.svc.name, p.Name), func(ctx context.Context) (bool, error) {
			worked, err := f.Step(ctx)
			if worked {
				n.signalProgress()
			}
			return worked, err
		}, f.Next)
		n.followers = append(n.followers, f)
	}
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
