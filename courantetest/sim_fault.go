package courantetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// faults are the chances of what goes wrong, at each step or at each occasion.
// Every run draws its own: what only happens when one thing is frequent and
// another never is would be missed by one mixture for all.
type faults struct {
	stubborn float64 // that who went on last goes on, if it can
	answer   float64 // that others go on between an answer and its use

	fail   float64 // a call to the store fails, nothing happened
	lost   float64 // the answer to a commit is lost
	delay  float64 // an actor stays where it is for long
	crash  float64 // a process dies, and another one starts some time later
	open   float64 // somebody else's transaction begins, and stays open for long
	freeze float64 // a process does nothing for long, and then goes on as if nothing had happened
	deploy float64 // a process starts with another number of lanes
	jump   float64 // time passes though there is work

	lostWake float64 // a process does not hear of a commit or a tick
	lostCall float64 // a client's request or its answer is lost
	cut      float64 // a service's connection to the broker breaks
	queue    float64 // somebody deletes a queue
	outside  float64 // something goes wrong with a call to the outside
	fewer    float64 // a read of the log returns less than it was asked for
}

func drawFaults(r *rand.Rand) faults {
	// Up to most, and in a third of all runs not at all.
	up := func(most float64) float64 {
		x := r.Float64()*1.5 - 0.5
		return max(x, 0) * most
	}
	return faults{
		stubborn: up(0.95), answer: up(0.5),
		fail: up(0.02), lost: up(0.3), delay: up(0.02), crash: up(0.004), open: up(0.002), freeze: up(0.003), deploy: up(0.0005), jump: up(0.002),
		cut: up(0.002), queue: up(0.001),
		lostWake: up(0.5), lostCall: up(0.3), outside: up(0.8), fewer: up(1),
	}
}

func (w *world) happens(p float64) bool { return p > 0 && w.rand.Float64() < p }

// within draws a duration; short ones are as likely as long ones of ten times
// the length.
func (w *world) within(least, most time.Duration) time.Duration {
	for d := least; ; d *= 10 {
		if d >= most || w.rand.IntN(2) == 0 {
			return min(d+time.Duration(w.rand.Int64N(int64(d)*9)), most)
		}
	}
}

// most is how many processes live at once: one that works, a zombie, and one
// that has just begun.
const most = 3

// disturb lets something go wrong before the next step, or not.
func (w *world) disturb() {
	f := &w.faults
	if n := len(w.processes); n > 0 {
		if w.happens(f.crash) {
			w.crash(w.processes[w.rand.IntN(n)])
			w.after(w.within(10*time.Millisecond, 10*time.Second), "restart", w.restart)
			return
		}
		if w.happens(f.freeze) {
			p := w.processes[w.rand.IntN(n)]
			p.frozen = w.now.Add(w.within(10*time.Millisecond, time.Minute))
			w.logf("%s is frozen", p.name)
			if w.broker != nil { // which misses the heartbeats of one that sleeps for long
				w.after(w.within(time.Second, 20*time.Second), p.name+" is cut off the broker", p.cut)
			}
			if n < most && w.rand.IntN(2) == 0 {
				w.startProcess()
			}
			return
		}
	} else if len(w.timers) == 0 {
		w.startProcess()
	}
	if w.happens(f.deploy) && len(w.processes) < most {
		w.lanes = 1 + w.rand.IntN(3)
		w.deploys++
		w.startProcess()
		return
	}
	if w.broker != nil && w.disturbBroker() {
		return
	}
	if w.happens(f.jump) {
		w.now = w.now.Add(w.within(10*time.Millisecond, 2*time.Minute))
		w.logf("time passes")
		return
	}
	if w.happens(f.open) {
		w.hold()
		return
	}
	if len(w.actors) == 0 {
		return
	}
	if w.happens(f.delay) {
		a := w.actors[w.rand.IntN(len(w.actors))]
		if a.state == ready && a.point != "start" {
			a.state, a.until = asleep, w.now.Add(w.within(time.Millisecond, 10*time.Second))
			w.logf("%s: delayed at %s", a.name, a.point)
		}
		return
	}
	if w.happens(f.fail) {
		a := w.actors[w.rand.IntN(len(w.actors))]
		if a.state == ready && a.err == nil {
			a.err = w.failure(a.point)
		}
	}
}

// disturbBroker lets something go wrong with the broker, or not.
func (w *world) disturbBroker() bool {
	if len(w.processes) == 0 {
		return false
	}
	p := w.processes[w.rand.IntN(len(w.processes))]
	i := w.rand.IntN(len(p.conns))
	switch {
	case w.happens(w.faults.cut):
		w.logf("%s: the broker's connection %d breaks", p.name, i)
		p.conns[i].Cut()
	case w.happens(w.faults.queue):
		lanes := 1 + w.rand.IntN(3)
		q := courante.Queue{Subscriber: p.mounts[i].Service.Name(), Lanes: lanes, K: w.rand.IntN(lanes)}
		w.logf("somebody deletes the queue of lane %d/%d of %s", q.K, q.Lanes, q.Subscriber)
		w.broker.Delete(q)
	default:
		return false
	}
	return true
}

// cut breaks all connections of the process to the broker.
func (p *Process) cut() {
	for _, conn := range p.conns {
		conn.Cut()
	}
}

// hold opens a transaction in a log of its own, which has nothing to do with
// the services but takes a transaction id: until it ends, every snapshot of the
// database lists it as in progress.
func (w *world) hold() {
	ctx, key := context.Background(), courante.Key{Category: "row", ID: fmt.Sprint(w.steps)}
	s := w.db.Store("foreign")
	begin := func() (courante.Unit, []courante.State) {
		u, err := s.Begin(ctx)
		if err != nil {
			panic(err) // nothing fails in the hands of the scheduler
		}
		states, err := u.Load(ctx, []courante.Key{key}, nil)
		if err != nil {
			panic(err)
		}
		states[0].Data = []byte("{}")
		return u, states
	}
	first, states := begin()
	if _, err := first.Commit(ctx, courante.Changes{States: states}); err != nil {
		panic(err)
	}
	u, _ := begin() // it locks the row that is there now, which is a write
	w.logf("a foreign transaction begins")
	w.after(w.within(10*time.Millisecond, time.Minute), "a foreign transaction ends", func() { u.Rollback(ctx) })
}

func (w *world) restart() {
	if len(w.processes) < most {
		w.startProcess()
	}
}

// failure is what may go wrong at a point of the store; nil if nothing can.
func (w *world) failure(point string) error {
	switch point {
	case memory.PointCommitAfter, memory.PointLaneEpochOK, memory.PointAppendAfter:
		return errUnknown
	case memory.PointCommit, memory.PointCommitWrite, memory.PointLaneEpoch, memory.PointAppend, memory.PointAppendWrite:
		if w.rand.IntN(2) == 0 {
			return errUnknown // though nothing was committed
		}
		return errLost
	case memory.PointBegin, memory.PointLoad, memory.PointLockWait, memory.PointTick, memory.PointTickTaken, memory.PointTickAfter,
		memory.PointRead, memory.PointReadStream, memory.PointReadLog, memory.PointHead, memory.PointLocate,
		memory.PointBrokerDeclare, memory.PointBrokerConsume, memory.PointBrokerDepth, memory.PointBrokerTake, memory.PointBrokerAck, memory.PointBrokerAsk,
		memory.PointBrokerPublish, memory.PointBrokerMessage, memory.PointBrokerConfirmed, memory.PointBrokerRefuse,
		memory.PointProgress, memory.PointLaneEpochs, memory.PointParked, memory.PointAside, memory.PointReply:
		return errLost
	}
	return nil
}

// Outside is a call to a party outside, in the name of an effect. do is what
// the party does when the request reaches it; it is not simulated further, and
// it may be called after the caller was told that nobody knows, or died. What
// it changes belongs to the party, so it outlives every process.
func Outside[T any](p *Process, name string, do func() (T, error)) (T, error) {
	var none T
	w := p.w
	a := w.current
	if a == nil {
		return do()
	}
	late := func() {
		w.after(w.within(10*time.Millisecond, 2*time.Minute), "late request: "+name, func() { _, _ = do() })
	}
	if err := a.pause("call " + name); err != nil {
		if w.happens(w.faults.outside) {
			late() // the request was on its way when the process died
		}
		return none, err
	}
	if w.happens(w.faults.outside) {
		switch w.rand.IntN(5) {
		case 0:
			w.logf("%s: refused", name)
			return none, courante.Transient(errRefused)
		case 1:
			w.logf("%s: request lost", name)
			a.sleep("call "+name, 5*time.Second)
			return none, courante.Unknown(errTimeout)
		case 2:
			w.logf("%s: request delayed", name)
			late()
			a.sleep("call "+name, 5*time.Second)
			return none, courante.Unknown(errTimeout)
		case 3:
			w.logf("%s: answer lost", name)
			_, _ = do()
			a.sleep("call "+name, 5*time.Second)
			return none, courante.Unknown(errTimeout)
		case 4:
			w.logf("%s: slow", name)
			a.sleep("call "+name, w.within(10*time.Millisecond, 5*time.Second))
			if a.gone() {
				return none, errDied
			}
		}
	}
	out, err := do()
	if gone := a.pause("answer of " + name); gone != nil {
		return none, gone
	}
	return out, err
}
