package courantetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// world is one run of a simulation. Everything in it happens in one goroutine
// at a time: that of the scheduler, or the coroutine that it resumed.
type world struct {
	seed   uint64
	rand   *rand.Rand // the one source of every decision
	now    time.Time
	db     *memory.Database
	broker *memory.Broker // of a fleet; nil otherwise
	wire   func(courante.Broker) courante.Broker
	faults faults
	start  func(p *Process) (any, []courante.Mount)
	trace  trace
	err    error // the first broken promise; it ends the run

	actors    []*actor // in the order they were made
	current   *actor   // that runs, nil while the scheduler does
	last      *actor
	runnable  []*actor // scratch
	processes []*Process
	clients   int // not yet finished
	timers    []timer
	steps     int
	changes   uint64    // steps that may have freed a lock
	worked    time.Time // when an actor last did something
	born      int       // processes so far
	lanes     int       // of processes that start from now on
	deploys   int       // how often that was changed
	ids       int

	ledger   *ledger
	coverage *Coverage
}

// Epoch is the time at which every scenario and every simulation begins.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Run runs the simulation with one seed and says what came of it. Besides the
// simulation's own check it holds the runtime to its promises:
//
//   - every reaction decides on every event of its type once, and on the events
//     of a stream in their order;
//   - no lane of a fleet is told that something was sent to it if that failed;
//   - what one cause brings about is committed once;
//   - streams have no gaps, and the progress of lanes never goes back;
//   - no message is set aside, no lane stops, and everything comes to rest.
func (s Simulation[D]) Run(seed uint64) *Run { return s.run(seed, nil) }

func (s Simulation[D]) run(seed uint64, out io.Writer) *Run {
	w := &world{
		seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), now: Epoch, worked: Epoch,
		trace: trace{hash: fnv.New64a(), out: out}, ledger: newLedger(), coverage: NewCoverage(),
		start: func(p *Process) (any, []courante.Mount) {
			d, mounts := s.Start(p)
			return d, mounts
		},
	}
	w.db = memory.New(memory.Config{Now: func() time.Time { return w.now }, Pause: w.pause})
	if s.Fleet {
		w.broker = memory.NewBroker(memory.BrokerConfig{Pause: w.pause, Prefetch: 300 + w.rand.IntN(100)})
		w.wire = s.Broker
	}
	w.lanes = 1 + w.rand.IntN(3)
	if !s.Calm {
		w.faults = drawFaults(w.rand)
	}
	limit := s.Steps
	if limit == 0 {
		limit = 100_000
		if s.Fleet {
			limit = 1_000_000
		}
	}
	for i, script := range s.Clients {
		c := &Client[D]{w: w}
		c.a = w.spawn(fmt.Sprintf("client %d", i+1), func() { c.run(script) })
		w.clients++
	}
	w.run(limit)
	w.finish(limit)
	if w.err == nil {
		p := w.processes[0]
		w.verify(p)
		w.verifyQueues()
		if w.err == nil && s.Check != nil {
			if err := s.Check(context.Background(), p.domain.(D)); err != nil {
				w.fail("%w", err)
			}
		}
	}
	w.stop()
	return &Run{
		Seed: seed, Hash: w.trace.hash.Sum64(), Steps: w.steps, Took: w.now.Sub(Epoch),
		Err: w.err, Trace: w.trace.last(), Coverage: w.coverage,
	}
}

// run is the part with faults: it lasts a while, and until the clients are
// finished or the world is at rest with nothing left to break.
func (w *world) run(limit int) {
	w.startProcess()
	if w.rand.IntN(2) == 0 {
		w.startProcess()
	}
	for stormy := 500 + w.rand.IntN(4000); w.err == nil && w.steps < min(stormy, limit); {
		w.disturb()
		if !w.step() && w.clients == 0 && w.quiet() {
			return
		}
	}
}

// finish lets the clients finish without faults, kills every process and lets
// one fresh one do all that is left.
func (w *world) finish(limit int) {
	w.faults = faults{answer: w.faults.answer} // which is no fault, only an order of things
	w.logf("calm")
	for _, p := range w.processes {
		p.frozen = time.Time{}
	}
	if len(w.processes) == 0 {
		w.startProcess()
	}
	for w.err == nil && w.clients > 0 && w.steps < limit {
		w.step()
	}
	for len(w.processes) > 0 {
		w.crash(w.processes[0])
	}
	w.startProcess()
	for w.err == nil && w.steps < limit {
		if !w.step() && w.quiet() {
			return
		}
	}
	if w.err == nil {
		w.fail("the world does not come to rest within %d steps", limit)
	}
}

// stop ends every coroutine.
func (w *world) stop() {
	for len(w.processes) > 0 {
		w.crash(w.processes[0])
	}
	for _, a := range w.actors {
		a.kill()
	}
}

const (
	// settled is how long nobody may find work before the world is at rest:
	// every actor has looked by itself twice.
	settled = 2*idlePoll + time.Second
	// Over a broker a lane has to be silent for a while before it asks whether
	// it has missed something.
	settledFleet = settled + 4*idlePoll
)

// quiet reports whether nothing happens any more: nobody has found work for
// long, and nobody knows of anything that is due later.
func (w *world) quiet() bool {
	after := settled
	if w.broker != nil {
		after = settledFleet
	}
	if len(w.timers) > 0 || w.now.Sub(w.worked) < after {
		return false
	}
	for _, a := range w.actors {
		if a.state != idle || !a.step.Next().IsZero() {
			return false
		}
	}
	return true
}

// step lets one actor go on. If none can, it lets time pass until one can, and
// returns false.
func (w *world) step() bool {
	w.steps++
	w.now = w.now.Add(20 * time.Microsecond) // about what a step takes
	w.ring()
	w.signals()
	a := w.choose()
	if a == nil {
		w.wait()
		return false
	}
	w.last = a
	a.resume()
	if a.point != memory.PointLockWait {
		w.changes++
	}
	return true
}

// choose picks who goes on: often who went on last, because much happens only
// when one gets far ahead of the others.
func (w *world) choose() *actor {
	w.runnable = w.runnable[:0]
	keep := false
	live := w.actors[:0]
	for _, a := range w.actors {
		if a.state == ended {
			continue
		}
		live = append(live, a)
		if a.can() {
			w.runnable = append(w.runnable, a)
			keep = keep || a == w.last
		}
	}
	clear(w.actors[len(live):])
	w.actors = live
	if len(w.runnable) == 0 {
		return nil
	}
	if keep && w.rand.Float64() < w.faults.stubborn {
		return w.last
	}
	return w.runnable[w.rand.IntN(len(w.runnable))]
}

// wait lets time pass until the first moment at which somebody has to do
// something.
func (w *world) wait() {
	var first time.Time
	due := func(at time.Time) {
		if !at.IsZero() && at.After(w.now) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	for _, a := range w.actors {
		due(a.until)
	}
	for _, p := range w.processes {
		due(p.frozen)
	}
	for _, t := range w.timers {
		due(t.at)
	}
	if first.IsZero() {
		first = w.now.Add(idlePoll) // everybody waits for a lock or a process that will not come
	}
	w.now = first
	w.changes++
}

// signals carries what the database tells to the processes; some of it is lost.
func (w *world) signals() {
	select {
	case <-w.db.Committed():
	default:
		return
	}
	for _, p := range w.processes {
		if w.happens(w.faults.lostWake) {
			w.logf("%s does not hear of the commit", p.name)
			continue
		}
		p.wake("ticker")
	}
}

// timer is something that happens by itself at a moment.
type timer struct {
	at   time.Time
	what string
	do   func()
}

func (w *world) after(d time.Duration, what string, do func()) {
	w.timers = append(w.timers, timer{w.now.Add(d), what, do})
}

// ring lets happen what is due, in the order in which it was announced.
func (w *world) ring() {
	for i := 0; i < len(w.timers); {
		t := w.timers[i]
		if t.at.After(w.now) {
			i++
			continue
		}
		w.timers = append(w.timers[:i], w.timers[i+1:]...)
		w.worked = w.now
		w.logf("%s", t.what)
		t.do()
	}
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
		w.logf("broken: %s", strings.SplitN(w.err.Error(), "\n", 2)[0])
	}
}

func (w *world) newID() string {
	w.ids++
	return fmt.Sprintf("%04x%04x", w.rand.IntN(1<<16), w.ids)
}
