package courantetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// Process is one program of the simulated system: all services, on one runtime
// or, in a fleet, on one each. What of a fleet are several processes, which die
// apart from each other, are several of these here: each service has as many
// instances as there are.
type Process struct {
	w       *world
	name    string
	handles []*memory.Store
	domain  any
	mounts  []courante.Mount
	rts     []*courante.Runtime
	conns   []*memory.BrokerConn // by runtime, in a fleet
	actors  []*actor
	dead    bool
	frozen  time.Time // it does nothing until then
}

// Store opens the store of a context, as the process does when it starts.
func (p *Process) Store(log string) courante.Store {
	s := p.w.db.Store(log)
	p.handles = append(p.handles, s)
	return &tracedStore{Store: s, w: p.w}
}

// Now is the simulated time.
func (p *Process) Now() time.Time { return p.w.now }

// NewID gives an id, another one at each call, the same ones in each run.
func (p *Process) NewID() string { return p.w.newID() }

func (w *world) startProcess() {
	w.born++
	p := &Process{w: w, name: fmt.Sprintf("p%d", w.born)}
	w.logf("%s starts with %d lanes", p.name, w.lanes)
	p.domain, p.mounts = w.start(p)
	batches := []int{1, 2, 4, 256}
	config := courante.Config{
		Database: w.db, Services: p.mounts, Stepped: true,
		Now: func() time.Time { return w.now }, NewID: w.newID, Rand: w.rand.Float64, Observe: w.observe,
		Lanes: w.lanes, Batch: batches[w.rand.IntN(len(batches))], Performers: 1 + w.rand.IntN(2), RecordEvery: 1 + w.rand.IntN(4),
		Version: p.name,
	}
	if w.broker == nil {
		p.run(config)
	} else {
		p.runEach(config)
	}
	for _, m := range p.mounts {
		w.coverage.declare(m.Service)
	}
	w.processes = append(w.processes, p)
}

// run makes a runtime and its actors.
func (p *Process) run(config courante.Config) {
	rt, err := courante.NewRuntime(config)
	if err != nil {
		panic(fmt.Sprintf("the simulation's declarations are wrong: %v", err))
	}
	p.rts = append(p.rts, rt)
	for _, step := range rt.Actors() {
		var a *actor
		a = p.w.spawn(p.name+" "+step.Name, func() { a.drive() })
		a.step, a.home = step, p
		p.actors = append(p.actors, a)
	}
}

// runEach makes a runtime of each service. In half of the fleets services have
// databases of their own, and none can read another's log.
func (p *Process) runEach(config courante.Config) {
	apart := p.w.seed%2 == 0
	for _, here := range p.mounts {
		config.Services, config.Foreign = []courante.Mount{here}, nil
		for _, m := range p.mounts {
			if m.Service == here.Service {
				continue
			}
			f := courante.Foreign{Service: m.Service}
			if !apart {
				f.Store = m.Store
			}
			config.Foreign = append(config.Foreign, f)
		}
		conn := p.w.broker.Connect()
		config.Broker = &tracedBroker{conn, p.w}
		if p.w.wire != nil {
			config.Broker = p.w.wire(config.Broker)
		}
		p.conns = append(p.conns, conn)
		p.run(config)
	}
}

// stopped says which lanes of the process stopped for good, and why.
func (p *Process) stopped() map[string]error {
	all := map[string]error{}
	for _, rt := range p.rts {
		maps.Copy(all, rt.Stopped())
	}
	return all
}

// crash is the death of a process at this very moment.
func (w *world) crash(p *Process) {
	w.logf("%s dies", p.name)
	if stopped := p.stopped(); len(stopped) > 0 && w.deploys == 0 {
		// Only a newer program, of which there is none, may end a lane for good.
		w.fail("lanes of %s had stopped: %v", p.name, stopped)
	}
	p.dead = true
	w.processes = slices.DeleteFunc(w.processes, func(other *Process) bool { return other == p })
	w.db.Crash(p.handles...)
	for _, conn := range p.conns {
		w.broker.Crash(conn)
	}
	for _, a := range p.actors {
		a.kill()
	}
	w.changes++
}

// wake wakes the actors of a process whose name begins so.
func (p *Process) wake(prefix string) {
	for _, a := range p.actors {
		if strings.HasPrefix(a.step.Name, prefix) {
			a.step.Wake()
		}
	}
}

// ticked tells the other processes that there is something new to read.
func (w *world) ticked(a *actor) {
	for _, p := range w.processes {
		if p != a.home && !w.happens(w.faults.lostWake) {
			p.wake("tail")
		}
	}
}

// sent tells the processes that the broker has something for such actors.
func (w *world) sent(to string) {
	for _, p := range w.processes {
		if !w.happens(w.faults.lostWake) {
			p.wake(to)
		}
	}
}

// Client is one who uses the system: it calls commands on any process that
// lives, and does not know which one it gets.
type Client[D any] struct {
	w *world
	a *actor
}

// Sleep lets virtual time pass.
func (c *Client[D]) Sleep(d time.Duration) {
	c.a.sleep("sleep", d)
	c.leave()
}

// leave ends the script if the run is over.
func (c *Client[D]) leave() {
	if c.a.dead {
		panic(over{})
	}
}

// over is what a script ends with when the run is over before it.
type over struct{}

// Errorf says that the client has seen what must not be. It ends the run.
func (c *Client[D]) Errorf(format string, args ...any) {
	c.w.fail(c.a.name+": "+format, args...)
	c.Sleep(0)
}

func (c *Client[D]) run(script func(*Client[D])) {
	defer func() {
		if p := recover(); p != nil && p != (over{}) {
			panic(p)
		}
	}()
	script(c)
}

// IntN returns a number in [0, n) from the run's one source of chance.
func (c *Client[D]) IntN(n int) int { return c.w.rand.IntN(n) }

// NewID gives an id, another one at each call, the same ones in each run.
func (c *Client[D]) NewID() string { return c.w.newID() }

// Call calls a process once. The request or its answer may be lost on the way,
// and the process may die: then nobody knows the outcome.
func (c *Client[D]) Call(call func(d D) error) error {
	w := c.w
	for len(w.processes) == 0 {
		c.Sleep(100 * time.Millisecond)
	}
	p := w.processes[w.rand.IntN(len(w.processes))]
	if w.happens(w.faults.lostCall) {
		w.logf("%s: request lost", c.a.name)
		return courante.Unknown(fmt.Errorf("request to %s lost", p.name))
	}
	c.a.home = p
	err := c.a.pause("call")
	if err == nil {
		err = call(p.domain.(D))
	}
	c.a.home = nil
	c.leave()
	switch {
	case p.dead:
		err = courante.Unknown(fmt.Errorf("connection to %s lost", p.name))
	case w.happens(w.faults.lostCall):
		w.logf("%s: answer lost", c.a.name)
		err = courante.Unknown(fmt.Errorf("answer of %s lost", p.name))
	}
	w.logf("%s: called %s: %v", c.a.name, p.name, err)
	return err
}

// Insist calls until it knows the answer, and returns it: nil, or the error
// that final says is one. For calls that are safe to repeat.
func (c *Client[D]) Insist(call func(d D) error, final func(error) bool) error {
	for {
		err := c.Call(call)
		if err == nil || final(err) {
			return err
		}
		c.Sleep(c.w.within(10*time.Millisecond, time.Second))
	}
}
