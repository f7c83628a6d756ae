package courante

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// gauges tell how things stand when they are looked at. They are taken from
// memory, so that looking works, and costs next to nothing, while the database
// does not.
type gauges struct {
	queued       metric.Int64ObservableGauge
	stopped      metric.Int64ObservableGauge
	paused       metric.Int64ObservableGauge
	drain        metric.Float64ObservableGauge
	atOnce       metric.Int64ObservableGauge
	tickAge      metric.Float64ObservableGauge
	agendaLag    metric.Int64ObservableGauge
	projections  metric.Float64ObservableGauge
	behind       metric.Int64ObservableGauge
	deadlines    metric.Int64ObservableGauge
	lateness     metric.Float64ObservableGauge
	effects      metric.Int64ObservableGauge
	effectAge    metric.Float64ObservableGauge
	breakers     metric.Int64ObservableGauge
	underWay     metric.Int64ObservableGauge
	overdue      metric.Int64ObservableGauge
	delayed      metric.Int64ObservableGauge
	delayedValue metric.Int64ObservableGauge
}

// observeGauges has the gauges read whenever the metrics are, until stop.
func (rt *Runtime) observeGauges() (stop func(), err error) {
	m := rt.cfg.Meter.Meter(scope)
	var g gauges
	var errs []error
	var all []metric.Observable
	count := func(to *metric.Int64ObservableGauge, name, unit, about string) {
		i, err := m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(about))
		*to, all, errs = i, append(all, i), append(errs, err)
	}
	seconds := func(to *metric.Float64ObservableGauge, name, about string) {
		i, err := m.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(about))
		*to, all, errs = i, append(all, i), append(errs, err)
	}
	count(&g.queued, "courante.command.queued", "{command}", "commands that wait to be decided on")
	count(&g.stopped, "courante.subscriber.stopped", "{service}", "1 if lanes of the service stopped for good and wait for a person")
	count(&g.paused, "courante.actor.paused", "{actor}", "parts of the runtime that cannot go on for now, and try again")
	seconds(&g.drain, "courante.subscriber.drain", "how long this process takes for what waits for it now, at its present pace; the signal to scale by")
	count(&g.atOnce, "courante.effect.limit", "{call}", "calls to the outside that the process makes at once at most, as it has found out")
	seconds(&g.tickAge, "courante.tick.age", "since the database last answered the ticker")
	count(&g.agendaLag, "courante.agenda.lag", "{event}", "events whose deadlines and effects the service has not read yet")
	seconds(&g.projections, "courante.projection.lag", "age of the oldest event that the projection wants and has not folded, of those in memory")
	count(&g.behind, "courante.projection.behind", "{event}", "events that the projection wants and has not folded, of those in memory")
	count(&g.deadlines, "courante.deadline.open", "{deadline}", "deadlines that have not passed, and those that passed and did not fire yet")
	seconds(&g.lateness, "courante.deadline.lateness", "how late the latest deadline is that passed and did not fire yet")
	count(&g.effects, "courante.effect.open", "{effect}", "calls to the outside that were asked for and have no outcome")
	seconds(&g.effectAge, "courante.effect.age", "age of the oldest call without an outcome")
	count(&g.breakers, "courante.effect.breaker", "{breaker}", "1 while calls are held back because the other side does not answer")
	count(&g.underWay, "courante.journey.under_way", "{journey}", "sagas that have begun and not ended")
	count(&g.overdue, "courante.journey.overdue", "{journey}", "sagas under way for longer than they ought to take")
	count(&g.delayed, "courante.journey.delayed", "{journey}", "sagas held up, by the first cause that applies")
	count(&g.delayedValue, "courante.journey.delayed_value", "", "what depends on the sagas held up, in the saga's own unit")
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	r, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		g.observe(rt, o)
		return nil
	}, all...)
	if err != nil {
		return nil, err
	}
	return func() { _ = r.Unregister() }, nil // it fails for foreign registrations only
}

func (g *gauges) observe(rt *Runtime, o metric.Observer) {
	if last := rt.ticked.Load(); last > 0 {
		o.ObserveFloat64(g.tickAge, max(0, rt.now().Sub(time.Unix(0, last)).Seconds()))
	}
	for _, n := range rt.nodes {
		o.ObserveInt64(g.queued, int64(n.commands.waiting()), n.labels.service)
		stopped := int64(0)
		if n.whyStopped() != nil {
			stopped = 1
		}
		o.ObserveInt64(g.stopped, stopped, n.labels.service)
		g.observeBacklog(n, o)
		if len(n.agenda) > 0 {
			g.observeAgenda(n, o)
		}
		for i, f := range n.followers {
			g.observeProjection(n, &n.svc.projections[i], f, o)
		}
	}
	g.observePauses(rt, o)
	g.observeJourneys(rt, o)
}

// observePauses counts the actors in a pause, by what they are: "lane payment/0"
// is a lane, and so is its neighbour.
func (g *gauges) observePauses(rt *Runtime, o metric.Observer) {
	counts := map[string]int64{}
	for _, a := range rt.actors {
		kind, _, _ := strings.Cut(a.Name, "/")
		counts[kind] += 0 // a series that is there says that nothing pauses
		if a.errs.Load() >= pausedAfter {
			counts[kind]++
		}
	}
	for kind, n := range counts {
		o.ObserveInt64(g.paused, n, metric.WithAttributes(attribute.String("actor", kind)))
	}
}

// observeProjection tells how far behind its logs a projection is. Inline ones
// never are.
func (g *gauges) observeProjection(n *node, p *Projection, f *follower, o metric.Observer) {
	if p.Kind() == Inline {
		return
	}
	behind, oldest := int64(0), n.rt.now()
	for _, log := range f.logs {
		n.rt.tails[log].eachAfter(f.Place(log), func(e *Event) {
			if p.Wants(e.Type) {
				behind++
				if e.Time.Before(oldest) {
					oldest = e.Time
				}
			}
		})
	}
	with := metric.WithAttributes(attribute.String("service", n.svc.name), attribute.String("projection", p.Name))
	o.ObserveInt64(g.behind, behind, with)
	o.ObserveFloat64(g.projections, n.rt.now().Sub(oldest).Seconds(), with)
}

func (g *gauges) observeAgenda(n *node, o metric.Observer) {
	lag := int64(0)
	for _, a := range n.agenda {
		if !n.holds(a.name()) {
			continue
		}
		a.mu.Lock()
		at := a.seen
		a.mu.Unlock()
		behind := int64(0)
		n.rt.tails[n.svc.name].eachAfter(at, func(*Event) { behind++ })
		lag = max(lag, behind)
	}
	o.ObserveInt64(g.agendaLag, lag, n.labels.service)

	now := n.rt.now()
	var open int64
	var late time.Duration
	effects, oldest := map[string]int64{}, map[string]time.Duration{}
	n.eachTask(func(t *task) {
		switch {
		case t.Deadline != nil:
			open++
			late = max(late, now.Sub(t.Deadline.Due))
		case t.Effect != nil:
			effects[t.Effect.Effect]++
			oldest[t.Effect.Effect] = max(oldest[t.Effect.Effect], now.Sub(t.Asked))
		}
	})
	if len(n.svc.deadlines) > 0 {
		o.ObserveInt64(g.deadlines, open, n.labels.service)
		o.ObserveFloat64(g.lateness, max(0, late.Seconds()), n.labels.service)
	}
	for name := range n.svc.effects {
		with := metric.WithAttributes(attribute.String("service", n.svc.name), attribute.String("effect", name))
		o.ObserveInt64(g.effects, effects[name], with)
		o.ObserveFloat64(g.effectAge, oldest[name].Seconds(), with)
		broken := int64(0)
		if n.performers.breakers[name].open() {
			broken = 1
		}
		o.ObserveInt64(g.breakers, broken, with)
	}
}

func (g *gauges) observeJourneys(rt *Runtime, o metric.Observer) {
	d := rt.delays()
	saga := func(name string) attribute.KeyValue { return attribute.String("saga", name) }
	for name, n := range d.underWay {
		o.ObserveInt64(g.underWay, n, metric.WithAttributes(saga(name)))
		o.ObserveInt64(g.overdue, d.overdue[name], metric.WithAttributes(saga(name)))
		for _, cause := range []string{delayParked, delayStopped, delayPaused, delayBreaker, delayOverdue} {
			o.ObserveInt64(g.delayed, d.delayed[delay{name, cause}], metric.WithAttributes(saga(name), attribute.String("cause", cause)))
		}
	}
	for v, amount := range d.values {
		o.ObserveInt64(g.delayedValue, amount, metric.WithAttributes(
			saga(v.saga), attribute.String("cause", v.cause), attribute.String("unit", v.unit)))
	}
}

// waiting is how many commands no worker has begun with.
func (q *commandQueue) waiting() int {
	q.mu.Lock()
	workers := q.workers
	q.mu.Unlock()
	total := 0
	for _, w := range workers {
		w.mu.Lock()
		total += len(w.queue)
		w.mu.Unlock()
	}
	return total
}
