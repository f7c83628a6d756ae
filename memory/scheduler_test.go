package memory_test

import (
	"errors"
	"iter"
	"testing"

	"github.com/courante-dev/courante/memory"
)

// scheduler runs actors as coroutines: one at a time, and each until the next
// point of the store. The test says who goes on.
type scheduler struct {
	t   *testing.T
	now *actor
}

type actor struct {
	s      *scheduler
	next   func() (string, bool)
	stop   func()
	yield  func(string) bool
	point  string // where it waits
	done   bool
	inject error // what the point returns when it goes on
}

var errStopped = errors.New("the actor was stopped")

// pause is memory.Config.Pause. Outside of an actor the store just goes on.
func (s *scheduler) pause(point string) error {
	a := s.now
	if a == nil {
		return nil
	}
	if !a.yield(point) {
		return errStopped
	}
	err := a.inject
	a.inject = nil
	return err
}

func newScheduler(t *testing.T) (*scheduler, *memory.Database) {
	s := &scheduler{t: t}
	return s, memory.New(memory.Config{Pause: s.pause})
}

// start adds an actor and runs it to its first point.
func (s *scheduler) start(run func()) *actor {
	a := newActor(s, run)
	s.t.Cleanup(a.kill)
	a.step()
	return a
}

func newActor(s *scheduler, run func()) *actor {
	a := &actor{s: s}
	a.next, a.stop = iter.Pull(func(yield func(string) bool) {
		a.yield = yield
		run()
	})
	return a
}

// step runs the actor to its next point, or its end.
func (a *actor) step() {
	before := a.s.now
	a.s.now = a
	point, more := a.next()
	a.s.now = before
	a.point, a.done = point, !more
}

// to runs the actor to the point.
func (a *actor) to(point string) {
	a.s.t.Helper()
	for !a.done && a.point != point {
		a.step()
	}
	if a.done {
		a.s.t.Fatalf("the actor ended before %q", point)
	}
}

// finish runs the actor to its end.
func (a *actor) finish() {
	a.s.t.Helper()
	for steps := 0; !a.done; steps++ {
		if a.step(); steps > 100 {
			a.s.t.Fatalf("the actor stays at %q", a.point)
		}
	}
}

// fail lets the point at which the actor waits return err.
func (a *actor) fail(err error) {
	a.inject = err
	a.finish()
}

// kill ends the actor where it waits, as the death of its process does.
func (a *actor) kill() {
	before := a.s.now
	a.s.now = a
	a.stop()
	a.s.now, a.done = before, true
}
