package courante

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Run runs the services until ctx ends, and returns when everything has
// stopped. Commands that are called before it has begun wait for it. It stops
// in this order: no new deliveries are fetched and commands get ErrClosed; what
// is being decided is finished and written; after Config.Drain the rest is
// cancelled. Nothing is lost by a cancellation, it only has to be done again at
// the next start. It does what [Runtime.Prepare] does before anything else, and
// returns its error.
func (rt *Runtime) Run(ctx context.Context) error {
	rt.mu.Lock()
	if rt.running || rt.stopped {
		rt.mu.Unlock()
		return errors.New("runtime: Run was called before")
	}
	rt.running = true
	rt.mu.Unlock()
	if err := rt.Prepare(ctx); err != nil {
		rt.closeCommands()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		return err
	}
	gauges, err := rt.observeGauges()
	if err != nil {
		return err
	}
	defer gauges()

	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	for _, a := range rt.actors {
		wg.Go(func() { rt.drive(ctx, work, a) })
	}
	wg.Go(func() { rt.relaySignals(ctx) })
	wg.Go(func() { rt.hearBroadcast(ctx) })
	for _, n := range rt.nodes {
		n.commands.start(work, n, &wg)
	}
	<-ctx.Done()
	rt.mu.Lock()
	rt.running, rt.stopped = false, true
	rt.mu.Unlock()
	rt.closeCommands()
	drained := time.AfterFunc(rt.cfg.Drain, cancel)
	wg.Wait()
	drained.Stop()
	if rt.wire != nil {
		rt.wire.release(func(Queue) bool { return true })
	}
	for _, n := range rt.nodes {
		if n.inbox != nil {
			n.inbox.close()
		}
	}
	final, done := context.WithTimeout(context.WithoutCancel(ctx), rt.cfg.Drain)
	defer done()
	for _, n := range rt.nodes {
		for _, a := range n.agenda {
			if err := a.checkpoint(final); err != nil {
				rt.log.Warn("the agenda was not saved; the next start reads more of the log", "service", n.svc.name, "part", a.k, "error", err)
			}
		}
	}
	for _, n := range rt.nodes {
		if n.share == nil {
			continue
		}
		if err := n.share.leave(final); err != nil {
			rt.log.Warn("the lanes were not given back; other processes take them over in seconds", "service", n.svc.name, "error", err)
		}
	}
	for _, r := range rt.relays {
		if err := r.record(final); err != nil {
			rt.log.Warn("the relay's place was not saved; the next start sends more again", "log", r.store.Log(), "error", err)
		}
		r.close()
	}
	return nil
}

func (rt *Runtime) closeCommands() {
	for _, n := range rt.nodes {
		n.commands.close()
	}
}

const (
	// idlePoll is how often an actor looks by itself when nothing wakes it. It
	// only matters when a notification of another process was lost.
	idlePoll = 2 * time.Second
	// A transient failure pauses an actor between these two.
	minPause, maxPause = 20 * time.Millisecond, 5 * time.Second
)

// drive calls an actor's steps until ctx ends. Steps run under work, so that
// one in progress is finished.
func (rt *Runtime) drive(ctx, work context.Context, a *Actor) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		worked, err := a.Step(work)
		var wait time.Duration
		switch {
		case err != nil:
			failures := int(a.errs.Add(1))
			wait = rt.backoff(failures, minPause, maxPause)
			if work.Err() == nil {
				rt.log.Warn("paused", "actor", a.Name, "failures", failures, "pause_ms", wait.Milliseconds(), "error", err)
			}
		case worked:
			a.errs.Store(0)
			continue
		default:
			a.errs.Store(0)
			wait = idlePoll
			if next := a.Next(); !next.IsZero() {
				wait = min(wait, max(time.Until(next), 0))
			}
		}
		timer.Reset(wait)
		wake := a.wake
		if err != nil {
			wake = nil // a pause is a pause
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
	}
}

// relaySignals turns the database's signals into wake-ups.
func (rt *Runtime) relaySignals(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-rt.cfg.Database.Committed():
			rt.ticker.Wake()
		case <-rt.cfg.Database.Ticked():
			for _, t := range rt.tails {
				t.actor.Wake()
			}
		}
	}
}
