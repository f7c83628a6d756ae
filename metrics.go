package courante

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics are the runtime's instruments. Names follow OpenTelemetry's custom:
// dots, units beside the name. docs/operations.md explains each.
//
// Two rules keep them from hurting what they measure. Attributes are names from
// declarations, never what a caller sent, so there are as many series on the
// last day as on the first; and the sets of them are made once, so that a
// record costs a look-up. What happens to each event is counted by the batch.
type metrics struct {
	commands metric.Float64Histogram
	steps    metric.Float64Histogram
	items    metric.Int64Counter
	units    metric.Float64Histogram
	batches  metric.Int64Histogram
	effects  metric.Float64Histogram
	ticks    metric.Float64Histogram
	lag      metric.Float64Histogram
	delay    metric.Float64Histogram
	parked   metric.Int64Counter
	started  metric.Int64Counter
	journeys metric.Float64Histogram
	watchers metric.Int64UpDownCounter
	resyncs  metric.Int64Counter
	told     metric.Int64Counter
	untold   metric.Int64Counter
}

func newMetrics(m metric.Meter) (*metrics, error) {
	var out metrics
	var errs []error
	seconds := func(to *metric.Float64Histogram, name, about string) {
		h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(about))
		*to = h
		errs = append(errs, err)
	}
	count := func(to *metric.Int64Counter, name, unit, about string) {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(about))
		*to = c
		errs = append(errs, err)
	}
	seconds(&out.commands, "courante.command.duration", "from the call of a command to its durable answer")
	seconds(&out.steps, "courante.step.duration", "from taking a batch with the step in it to its commit; once for each batch")
	count(&out.items, "courante.step.items", "{item}", "events, deadlines, outcomes of effects and commands that a step decided on")
	seconds(&out.units, "courante.unit.duration", "one transaction of a batch: load, decide, write")
	seconds(&out.effects, "courante.effect.duration", "one attempt of a call to the outside")
	seconds(&out.ticks, "courante.tick.duration", "making what was committed visible to the readers of the logs")
	seconds(&out.lag, "courante.subscriber.lag", "from the decision that emitted an event to its handling by a subscriber; the oldest of each batch")
	seconds(&out.delay, "courante.log.delay", "from the decision that emitted an event to its being read from the log; the oldest of each read")
	seconds(&out.journeys, "courante.journey.duration", "from the first event of a saga to the one that ended it")
	count(&out.parked, "courante.parked", "{message}", "failures of handlers that set a message aside")
	count(&out.started, "courante.journey.started", "{journey}", "sagas that began")
	count(&out.resyncs, "courante.watch.resyncs", "{resync}", "watchers that were told the state anew because they had fallen far behind")
	count(&out.told, "courante.broadcast.told", "{event}", "events of watched states told to other processes")
	count(&out.untold, "courante.broadcast.skips", "{skip}", "times that events were not told to other processes because the broadcast was away for long; these find them in the log")
	var err error
	out.watchers, err = m.Int64UpDownCounter("courante.watch.watchers", metric.WithUnit("{watcher}"),
		metric.WithDescription("watchers of states in this process"))
	errs = append(errs, err)
	out.batches, err = m.Int64Histogram("courante.unit.items", metric.WithUnit("{item}"),
		metric.WithDescription("items decided in one transaction"),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
	return &out, errors.Join(append(errs, err)...)
}

// class is what became of something, for metrics.
type class int

const (
	classOK class = iota
	classRejected
	classConflict
	classFenced
	classOverloaded
	classUnknown
	classTransient
	classCanceled
	classBehind // set aside because it waits behind another
	classError
	classes // how many there are
)

var classNames = [classes]string{"ok", "rejected", "conflict", "fenced", "overloaded", "unknown", "transient", "canceled", "behind", "error"}

func classOf(err error) class {
	if err == nil {
		return classOK // before the variables below, which are allocated
	}
	var no *Rejection
	var conflict *ConflictError
	switch {
	case errors.As(err, &no):
		return classRejected
	case errors.Is(err, ErrUnknownOutcome):
		return classUnknown
	case errors.As(err, &conflict):
		return classConflict
	case errors.Is(err, ErrFenced):
		return classFenced
	case errors.Is(err, ErrOverloaded):
		return classOverloaded
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return classCanceled
	case isTransient(err):
		return classTransient
	default:
		return classError
	}
}

// classed are the attributes of a series for each class.
type classed [classes]metric.MeasurementOption

func newClassed(attrs ...attribute.KeyValue) *classed {
	var c classed
	for i := range c {
		c[i] = metric.WithAttributeSet(attribute.NewSet(append(slices.Clip(attrs), attribute.String("outcome", classNames[i]))...))
	}
	return &c
}

// labels are the attributes of everything that a service declares.
type labels struct {
	service metric.MeasurementOption
	units   *classed
	steps   map[*step]stepLabels
	other   stepLabels // of steps that are not declared any more
}

type stepLabels struct {
	plain   metric.MeasurementOption // service and step
	items   *classed
	command *classed
	effect  *classed
}

func newLabels(s *Service) labels {
	service := attribute.String("service", s.name)
	set := func(attrs ...attribute.KeyValue) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attrs...))
	}
	labelsOf := func(name string) stepLabels {
		step := attribute.String("step", name)
		return stepLabels{plain: set(service, step), items: newClassed(service, step)}
	}
	l := labels{service: set(service), units: newClassed(service), steps: map[*step]stepLabels{}, other: labelsOf("_other")}
	for _, st := range s.steps {
		of := labelsOf(st.Name)
		switch {
		case st.trigger.command != "":
			of.command = newClassed(service, attribute.String("command", st.trigger.command))
		case st.trigger.effect != "":
			of.effect = newClassed(service, attribute.String("effect", st.trigger.effect))
		}
		l.steps[st] = of
	}
	return l
}

func (l *labels) of(st *step) stepLabels {
	if of, ok := l.steps[st]; ok {
		return of
	}
	return l.other
}

func (m *metrics) command(ctx context.Context, n *node, c *Command, took time.Duration, err error) {
	m.commands.Record(ctx, took.Seconds(), n.labels.of(c.step).command[classOf(err)])
}

func (m *metrics) effect(ctx context.Context, n *node, ef *effect, took time.Duration, err error) {
	m.effects.Record(ctx, took.Seconds(), n.labels.of(ef.step).effect[classOf(err)])
}

func (m *metrics) unit(ctx context.Context, n *node, took time.Duration, err error) {
	m.units.Record(ctx, took.Seconds(), n.labels.units[classOf(err)])
}

// delivered records that a batch was taken. The first event is the oldest.
func (m *metrics) delivered(ctx context.Context, n *node, items []*item) {
	m.batches.Record(ctx, int64(len(items)), n.labels.service)
	if it := items[0]; it.event != nil && it.parked == nil {
		m.lag.Record(ctx, n.rt.now().Sub(it.event.Time).Seconds(), n.labels.service)
	}
}

// decided counts what became of each item of a batch, with one record for all
// that a step decided alike.
func (m *metrics) decided(ctx context.Context, n *node, items []*item, took time.Duration, err error) {
	type tally struct {
		step   *step
		counts [classes]int64
	}
	var tallies []tally
	at := -1 // neighbours are mostly of one step
	unit := classOf(err)
	for _, it := range items {
		if at < 0 || tallies[at].step != it.step {
			if at = slices.IndexFunc(tallies, func(t tally) bool { return t.step == it.step }); at < 0 {
				at = len(tallies)
				tallies = append(tallies, tally{step: it.step})
			}
		}
		c := unit
		switch {
		case err != nil:
		case it.err != nil:
			c = classOf(it.err)
		case it.decision == nil:
			c = classBehind
		}
		tallies[at].counts[c]++
	}
	for i := range tallies {
		of := n.labels.of(tallies[i].step)
		m.steps.Record(ctx, took.Seconds(), of.plain)
		for c, count := range tallies[i].counts {
			if count > 0 {
				m.items.Add(ctx, count, of.items[c])
			}
		}
	}
}

// measured is attempt, measured.
func (n *node) measured(ctx context.Context, w *work) error {
	began := time.Now()
	err := n.attempt(ctx, w)
	n.rt.metrics.unit(ctx, n, time.Since(began), err)
	return err
}
