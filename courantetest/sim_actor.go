package courantetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// idlePoll is how often an actor of the runtime looks by itself.
const idlePoll = 2 * time.Second

type state int

const (
	ready  state = iota // it waits at a point for its turn
	idle                // it has found nothing to do, and waits for a wake-up or until
	asleep              // it goes on at until
	ended
)

// actor is a coroutine: an actor of a process's runtime, or a client.
type actor struct {
	w     *world
	name  string
	step  *courante.Actor // nil for a client
	home  *Process        // whose code it runs; nil for a client between calls
	state state
	point string    // where it waits
	until time.Time // see state
	woken bool
	dead  bool   // its process has crashed
	seen  uint64 // changes of the world when it last looked for a lock
	err   error  // what its point returns

	pending pending // what it is about to commit

	next  func() (struct{}, bool)
	end   func()
	yield func(struct{}) bool
}

// errDied is what the store and the outside say to code whose process is gone.
var errDied = fmt.Errorf("the process has crashed: %w", courante.ErrClosed)

func (w *world) spawn(name string, run func()) *actor {
	a := &actor{w: w, name: name, point: "start"}
	a.next, a.end = iter.Pull(func(yield func(struct{}) bool) {
		a.yield = yield
		run()
	})
	w.actors = append(w.actors, a)
	return a
}

// drive is the life of an actor of a runtime, as the runtime itself lives it.
func (a *actor) drive() {
	for !a.dead {
		worked, err := a.step.Step(context.Background())
		switch {
		case a.dead:
		case err != nil:
			a.w.logf("%s: failed: %v", a.name, err)
			a.sleep("pause", a.w.within(20*time.Millisecond, time.Second))
		case worked:
			a.w.worked = a.w.now
			_ = a.pause("worked")
		default:
			a.state, a.until = idle, a.w.now.Add(idlePoll)
			if next := a.step.Next(); !next.IsZero() && next.Before(a.until) {
				a.until = next
			}
			_ = a.wait("idle")
		}
	}
}

// pause lets others run. The error is what went wrong meanwhile.
func (a *actor) pause(point string) error {
	a.state, a.until = ready, time.Time{}
	return a.wait(point)
}

// sleep lets others run until the time has passed.
func (a *actor) sleep(point string, d time.Duration) {
	a.state, a.until = asleep, a.w.now.Add(d)
	_ = a.wait(point)
}

func (a *actor) wait(point string) error {
	a.point = point
	if a.gone() {
		return errDied
	}
	if !a.yield(struct{}{}) || a.gone() {
		return errDied
	}
	err := a.err
	a.err = nil
	return err
}

// gone reports whether the process whose code runs has died.
func (a *actor) gone() bool { return a.dead || a.home != nil && a.home.dead }

// can reports whether the actor could go on now.
func (a *actor) can() bool {
	if a.home != nil && !a.home.dead && a.home.frozen.After(a.w.now) {
		return false
	}
	switch a.state {
	case ready:
		return a.point != memory.PointLockWait || a.w.changes > a.seen
	case idle:
		a.woken = a.woken || a.step.Woken()
		return a.woken || !a.until.After(a.w.now)
	case asleep:
		return !a.until.After(a.w.now)
	}
	return false
}

// resume runs the actor to its next point.
func (a *actor) resume() {
	w := a.w
	w.logStep(a)
	if a.err != nil {
		w.logf("%s: %v", a.name, a.err)
	}
	a.woken, a.until, a.seen = false, time.Time{}, w.changes
	w.current = a
	_, more := a.next()
	w.current = nil
	if !more {
		a.finished()
	}
}

func (a *actor) finished() {
	if a.state == ended {
		return
	}
	a.state = ended
	if a.step == nil && !a.dead {
		a.w.clients--
		a.w.logf("%s: finished", a.name)
	}
}

// kill ends the actor where it waits. What its code does on its way out has no
// effect: every call to the store or the outside fails.
func (a *actor) kill() {
	if a.state == ended {
		return
	}
	a.dead = true
	before := a.w.current
	a.w.current = a
	a.end()
	a.w.current = before
	a.state = ended
}

// pause is the store's: the moments between which others may run.
func (w *world) pause(point string) error {
	a := w.current
	if a == nil {
		return nil // the scheduler itself looks at the store
	}
	switch point {
	case memory.PointCommitAfter:
		w.committed(a)
		if w.happens(w.faults.lost) {
			a.err = errUnknown
		}
	case memory.PointTickAfter:
		w.ticked(a)
	case memory.PointBrokerConfirmed:
		w.sent("lane")
	case memory.PointBrokerAsk:
		w.sent("relay")
	case memory.PointBrokerAck: // there is room for what waits behind
		if a.step != nil {
			a.step.Wake()
		}
		w.worked = w.now
	}
	return a.pause(point)
}

var (
	errRefused = errors.New("connection refused")
	errTimeout = errors.New("no answer in time")
	errLost    = courante.Transient(errors.New("connection lost"))
	errUnknown = courante.Unknown(errors.New("connection lost during the commit"))
)
