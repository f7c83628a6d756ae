package courante

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// journeys measure the sagas that a service declares, from the first event to
// the one that ends it, which are both in its own log.
//
// Each is counted once: by the process whose transaction wrote the event, or, if
// processes share the service, by the one that has its part of the agenda. It is
// measured when the agenda reads the event from the log, because the log alone
// has both ends in order, after any restart. What was not read yet when a
// process was killed is not counted; what is under way then, the agenda's record
// and the log tell.
type journeys struct {
	starts map[string][]*Saga  // by event type
	ends   map[string][]ending // by event type
	shared bool                // whoever reads an event measures it

	mu  sync.Mutex         // guards own
	own map[place]struct{} // events that begin or end one, written here and not read back yet
}

// place names an event of the service's log.
type place struct {
	stream  string
	version int64
}

type ending struct {
	saga   *Saga
	labels metric.MeasurementOption
}

// journey is a saga under way, as the agenda keeps it.
type journey struct {
	Saga   string    `json:"saga"`
	Began  time.Time `json:"began"`
	Amount int64     `json:"amount,omitempty"`
	Unit   string    `json:"unit,omitempty"`
}

func journeyID(saga, correlation string) string { return "saga/" + saga + "/" + correlation }

func newJourneys(s *Service, shared bool) *journeys {
	j := &journeys{starts: map[string][]*Saga{}, ends: map[string][]ending{}, shared: shared, own: map[place]struct{}{}}
	for i := range s.sagas {
		saga := &s.sagas[i]
		j.starts[saga.Starts] = append(j.starts[saga.Starts], saga)
		end := func(types []string, outcome string) {
			for _, typ := range types {
				j.ends[typ] = append(j.ends[typ], ending{saga, metric.WithAttributeSet(attribute.NewSet(
					attribute.String("saga", saga.Name), attribute.String("outcome", outcome), attribute.String("event", typ)))})
			}
		}
		end(saga.Completed, SagaCompleted)
		end(saga.Compensated, SagaCompensated)
	}
	return j
}

// commit commits the unit and remembers which of its events begin or end a
// journey. It does so before, because the agenda may read them before the
// answer is here. An answer that is lost may have been a yes.
func (j *journeys) commit(ctx context.Context, unit Unit, c Changes) (Receipt, error) {
	if j.shared {
		return unit.Commit(ctx, c)
	}
	var own []place
	for i := range c.Events {
		if e := &c.Events[i]; len(j.starts[e.Type])+len(j.ends[e.Type]) > 0 {
			own = append(own, place{e.Stream, e.Version})
		}
	}
	j.mu.Lock()
	for _, p := range own {
		j.own[p] = struct{}{}
	}
	j.mu.Unlock()
	receipt, err := unit.Commit(ctx, c)
	if err != nil && !errors.Is(err, ErrUnknownOutcome) {
		j.mu.Lock()
		for _, p := range own {
			delete(j.own, p)
		}
		j.mu.Unlock()
	}
	return receipt, err
}

// take reports whether the event was written here, the first time it is asked.
func (j *journeys) take(e *Event) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := place{e.Stream, e.Version}
	_, own := j.own[p]
	delete(j.own, p)
	return own
}

// travel begins and ends journeys with an event of the log. The mutex is held.
func (a *agenda) travel(ctx context.Context, e *Event) {
	starts, ends := a.n.journeys.starts[e.Type], a.n.journeys.ends[e.Type]
	if len(starts)+len(ends) == 0 || !a.has(e.Correlation) {
		return
	}
	// What was there before a shared agenda was opened, who had it before has
	// measured.
	own := a.known
	if !a.n.journeys.shared {
		own = a.n.journeys.take(e)
	}
	for _, saga := range starts {
		if a.tasks[journeyID(saga.Name, e.Correlation)] != nil {
			continue
		}
		j := &journey{Saga: saga.Name, Began: e.Time}
		if saga.Value != nil {
			j.Amount, j.Unit = saga.Value(e)
		}
		a.add(&task{of: a, Stream: e.Stream, Correlation: e.Correlation, Journey: j})
		a.changed++
		if own {
			a.n.rt.metrics.started.Add(ctx, 1, metric.WithAttributes(attribute.String("saga", saga.Name)))
		}
	}
	for _, end := range ends {
		id := journeyID(end.saga.Name, e.Correlation)
		t := a.tasks[id]
		if t == nil {
			continue // it ended before, or had begun before the log
		}
		delete(a.tasks, id)
		a.changed++
		if own {
			a.n.rt.metrics.journeys.Record(ctx, e.Time.Sub(t.Journey.Began).Seconds(), end.labels)
		}
	}
}
