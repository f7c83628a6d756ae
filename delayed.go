package courante

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// delays say what errors mean to those who wait: how many sagas of a kind are
// held up right now, by what, and how much depends on them.
type delays struct {
	underWay map[string]int64 // by saga
	overdue  map[string]int64 // by saga
	delayed  map[delay]int64
	values   map[delayedValue]int64
}

type delay struct{ saga, cause string }

type delayedValue struct {
	delay
	unit string
}

// Causes of a delay, the first that applies: a message of the saga is set aside;
// an event of it waits for a service that stopped for good, or that cannot go on
// for now; its call waits for a party that does not answer. One that is overdue
// for none of these reasons has a cause of its own.
const (
	delayParked  = "parked"
	delayStopped = "stopped"
	delayPaused  = "paused"
	delayBreaker = "breaker"
	delayOverdue = "overdue"
)

// maxUnits bounds how many units a saga's values are summed in, the most
// frequent ones, and what is in further ones goes by no unit: units come from
// events, so callers might invent them.
const maxUnits = 16

// delays looks at the journeys under way that the agendas of this process know,
// and at what holds up the services of this process.
func (rt *Runtime) delays() delays {
	out := delays{map[string]int64{}, map[string]int64{}, map[delay]int64{}, map[delayedValue]int64{}}
	causes := rt.causes()
	now := rt.now()
	within := map[string]time.Duration{}
	for _, n := range rt.nodes {
		for _, saga := range n.svc.sagas {
			within[saga.Name] = saga.Within
			out.underWay[saga.Name], out.overdue[saga.Name] = 0, 0
		}
	}
	counts := map[delayedValue]int64{}
	for _, n := range rt.nodes {
		n.eachTask(func(t *task) {
			j := t.Journey
			if j == nil {
				return
			}
			out.underWay[j.Saga]++
			late := within[j.Saga] > 0 && now.Sub(j.Began) > within[j.Saga]
			if late {
				out.overdue[j.Saga]++
			}
			cause := causes[t.Correlation]
			if cause == "" && late {
				cause = delayOverdue
			}
			if cause == "" {
				return
			}
			d := delay{j.Saga, cause}
			out.delayed[d]++
			if j.Unit != "" {
				counts[delayedValue{d, j.Unit}]++
				out.values[delayedValue{d, j.Unit}] += j.Amount
			}
		})
	}
	out.boundUnits(counts)
	return out
}

// boundUnits drops the sums in all but the most frequent units.
func (d *delays) boundUnits(counts map[delayedValue]int64) {
	perUnit := map[string]int64{}
	for v, n := range counts {
		perUnit[v.unit] += n
	}
	units := slices.SortedFunc(maps.Keys(perUnit), func(a, b string) int {
		return cmp.Or(cmp.Compare(perUnit[b], perUnit[a]), cmp.Compare(a, b))
	})
	if len(units) <= maxUnits {
		return
	}
	rare := units[maxUnits:]
	maps.DeleteFunc(d.values, func(v delayedValue, _ int64) bool { return slices.Contains(rare, v.unit) })
}

// causes are the reasons for which sagas are held up, by correlation id.
func (rt *Runtime) causes() map[string]string {
	causes := map[string]string{}
	mark := func(correlation, cause string) {
		if causes[correlation] == "" {
			causes[correlation] = cause
		}
	}
	for _, n := range rt.nodes {
		n.eachAside(func(key string) { mark(key, delayParked) })
	}
	for _, n := range rt.nodes {
		if n.broken() {
			n.eachPending(func(e *Event) { mark(e.Correlation, delayStopped) })
		}
	}
	for _, n := range rt.nodes {
		if n.paused() {
			n.eachPending(func(e *Event) { mark(e.Correlation, delayPaused) })
		}
	}
	for _, n := range rt.nodes {
		n.eachTask(func(t *task) {
			if t.Effect == nil {
				return
			}
			if b := n.performers.breakers[t.Effect.Effect]; b != nil && b.open() {
				mark(t.Correlation, delayBreaker)
			}
		})
	}
	return causes
}

// eachTask calls visit with what the agenda knows to be open: those parts of it
// that this process has, once they have caught up with the log.
func (n *node) eachTask(visit func(*task)) {
	for _, a := range n.agenda {
		a.mu.Lock()
		if a.known {
			for _, t := range a.tasks {
				visit(t)
			}
		}
		a.mu.Unlock()
	}
}

// publishAside shows what the lane has set aside to the readers of metrics.
func (c *consumer) publishAside() {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.n.aside == nil {
		c.n.aside = map[int]*aside{}
	}
	c.n.aside[c.k] = c.aside
}

// eachAside calls visit with the keys that have messages set aside. The streams
// of a saga have its correlation id as their key.
func (n *node) eachAside(visit func(key string)) {
	n.mu.Lock()
	lanes := maps.Clone(n.aside)
	n.mu.Unlock()
	for _, a := range lanes {
		a.mu.Lock()
		for key := range a.keys {
			visit(key)
		}
		a.mu.Unlock()
	}
}

// pausedAfter is how many failures in a row make a pause that is worth telling;
// the first ones pass within a second.
const pausedAfter = 5

// paused reports whether a lane of the service cannot go on for now.
func (n *node) paused() bool {
	return slices.ContainsFunc(n.consumers, func(c *consumer) bool { return c.actor.errs.Load() >= pausedAfter })
}

// broken reports whether a lane of the service stopped for good.
func (n *node) broken() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stopped != nil
}

// eachPending calls visit with the events that the service has not handled, as
// far as they are still in memory: in a long outage, those of the latest.
func (n *node) eachPending(visit func(*Event)) {
	n.mu.Lock()
	places := maps.Clone(n.places)
	n.mu.Unlock()
	newest := map[string]int{} // lane epoch by log
	for lane := range places {
		newest[lane.Log] = max(newest[lane.Log], lane.Epoch)
	}
	for lane, at := range places {
		if lane.Epoch < newest[lane.Log] {
			continue
		}
		tail := n.rt.tails[lane.Log]
		types := n.typesFrom(lane.Log)
		tail.eachAfter(at, func(e *Event) {
			if contains(types, e.Type) && LaneOf(e.Key(), n.rt.cfg.Lanes) == lane.K {
				visit(e)
			}
		})
	}
}

// eachAfter calls visit with the events in memory that lie behind the place.
// There are none of a log that is not read here.
func (t *tail) eachAfter(at Cursor, visit func(*Event)) {
	if t == nil {
		return
	}
	t.mu.Lock()
	chunks := slices.Clone(t.chunks)
	t.mu.Unlock()
	for _, c := range chunks {
		if !at.Before(c.to) {
			continue
		}
		for i := range c.events {
			if !at.Covers(&c.events[i]) {
				visit(&c.events[i])
			}
		}
	}
}
