package courante_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/courante-dev/courante"
)

// The domain of these tests: trips begin, and end at home or are lost.

type left struct {
	ID   string `json:"id"`
	Fare int64  `json:"fare"`
}
type arrived struct {
	ID string `json:"id"`
}
type lost struct {
	ID string `json:"id"`
}

func (left) EventType() string    { return "trip.left" }
func (arrived) EventType() string { return "trip.arrived" }
func (lost) EventType() string    { return "trip.lost" }

// trips is one program that runs the domain.
type trips struct {
	svc           *courante.Service
	state         *courante.Entity[struct{ Away bool }]
	leave, arrive *courante.Command
	refuse        atomic.Bool // has the reaction fail
	reader        *sdkmetric.ManualReader
	stop          func()
}

func startTrips(t *testing.T, b base, within time.Duration) *trips {
	t.Helper()
	tr := &trips{svc: courante.NewService("trip"), reader: sdkmetric.NewManualReader()}
	tr.svc.Emits(courante.Critical, left{}, arrived{}, lost{})
	tr.state = courante.Sourced(tr.svc, "trip",
		courante.Evolve(func(s *struct{ Away bool }, _ left) { s.Away = true }),
		courante.Evolve(func(s *struct{ Away bool }, _ arrived) { s.Away = false }),
		courante.Evolve(func(s *struct{ Away bool }, _ lost) { s.Away = false }))
	tr.leave = courante.NewCommand(tr.svc, courante.Step{Name: "leave", Outcomes: []courante.Outcome{{Emits: courante.Types(left{}), Sets: []string{"home"}}}})
	tr.arrive = courante.NewCommand(tr.svc, courante.Step{Name: "arrive", Unless: courante.Types(lost{}), Outcomes: []courante.Outcome{{Emits: courante.Types(arrived{}), Clears: []string{"home"}}}})
	courante.OnDeadline(tr.state, "home", courante.Step{Name: "give up", Unless: courante.Types(arrived{}), Outcomes: []courante.Outcome{{Emits: courante.Types(lost{})}}},
		func(d *courante.Decision, id string) error { tr.state.Load(d, id).Emit(lost{id}); return nil })
	courante.On(tr.svc, courante.Reaction[left]{
		Step: courante.Step{Name: "wave", Outcomes: []courante.Outcome{{}}},
		Do: func(*courante.Decision, left) error {
			if tr.refuse.Load() {
				return courante.Park(errors.New("nobody is there to wave"))
			}
			return nil
		},
	})
	tr.svc.Saga(courante.Saga{
		Name: "trip", Starts: "trip.left", Completed: []string{"trip.arrived"}, Compensated: []string{"trip.lost"}, Within: within,
		Value: func(e *courante.Event) (int64, string) {
			var l left
			if json.Unmarshal(e.Data, &l) != nil {
				return 0, ""
			}
			return l.Fare, fmt.Sprintf("unit %d", l.Fare)
		},
	})
	rt, err := courante.NewRuntime(courante.Config{
		Database: b.db, Services: []courante.Mount{{Service: tr.svc, Store: b.store("trip")}},
		Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(tr.reader)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	stopped := false
	tr.stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	}
	t.Cleanup(tr.stop)
	until(t, "the runtime takes commands", func() bool { return rt.CheckTicker() == nil })
	return tr
}

func (tr *trips) do(t *testing.T, c *courante.Command, id string, e courante.Payload, note courante.Note) {
	t.Helper()
	_, err := c.Do(t.Context(), courante.Call{Keys: []courante.Key{tr.state.Key(id)}, Do: func(d *courante.Decision) error {
		tr.state.Load(d, id).Emit(e, note)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func (tr *trips) begin(t *testing.T, id string, fare int64) {
	t.Helper()
	tr.do(t, tr.leave, id, left{id, fare}, courante.Set("home", time.Now().Add(time.Hour)))
}

func (tr *trips) end(t *testing.T, id string) {
	t.Helper()
	tr.do(t, tr.arrive, id, arrived{id}, courante.Clear("home"))
}

func (tr *trips) scrape(t *testing.T) map[string]float64 {
	t.Helper()
	return scrape(t, tr.reader)
}

// scrape returns the numbers by name and attributes: "name{key=value,...}"; of
// a histogram how many values it has.
func scrape(t *testing.T, reader *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	put := func(name string, set attribute.Set, v float64) {
		var pairs []string
		for _, kv := range set.ToSlice() {
			pairs = append(pairs, string(kv.Key)+"="+kv.Value.String())
		}
		out[name+"{"+strings.Join(pairs, ",")+"}"] = v
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					put(m.Name, p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					put(m.Name, p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					put(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					put(m.Name, p.Attributes, float64(p.Count))
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					put(m.Name, p.Attributes, float64(p.Count))
				}
			default:
				t.Fatalf("%s is a %T", m.Name, data)
			}
		}
	}
	return out
}

// wants waits until the numbers are so; a name that is not there counts as 0.
func (tr *trips) wants(t *testing.T, what string, want map[string]float64) {
	t.Helper()
	var got map[string]float64
	until(t, what, func() bool {
		got = tr.scrape(t)
		for name, v := range want {
			if got[name] != v {
				return false
			}
		}
		return true
	})
}

const (
	tripUnderWay = "courante.journey.under_way{saga=trip}"
	tripOverdue  = "courante.journey.overdue{saga=trip}"
	tripStarted  = "courante.journey.started{saga=trip}"
	tripEnded    = "courante.journey.duration{event=trip.arrived,outcome=completed,saga=trip}"
)

// TestJourneysAreCountedOnce has two programs write the beginnings and the ends
// of the same journeys, and a third one go on after both have stopped.
func TestJourneysAreCountedOnce(t *testing.T) {
	onEach(t, func(t *testing.T, b base) {
		one, two := startTrips(t, b, 0), startTrips(t, b, 0)
		for i := range 6 {
			one.begin(t, fmt.Sprint(i), 1)
		}
		for i := range 3 {
			two.end(t, fmt.Sprint(i))
		}
		one.end(t, "3")
		one.wants(t, "one has counted its own", map[string]float64{tripStarted: 6, tripEnded: 1, tripUnderWay: 2})
		two.wants(t, "two has counted its own", map[string]float64{tripStarted: 0, tripEnded: 3, tripUnderWay: 2})
		one.stop()
		two.stop()

		three := startTrips(t, b, time.Nanosecond)
		three.wants(t, "three knows what is under way", map[string]float64{tripUnderWay: 2, tripOverdue: 2, tripStarted: 0, tripEnded: 0})
		three.end(t, "4")
		three.wants(t, "three has counted its own", map[string]float64{tripUnderWay: 1, tripOverdue: 1, tripEnded: 1})
	})
}

// TestDelaysSayWhatDependsOnThem parks a message and looks at what it delays.
func TestDelaysSayWhatDependsOnThem(t *testing.T) {
	onEach(t, func(t *testing.T, b base) {
		tr := startTrips(t, b, 0)
		tr.begin(t, "fine", 5)
		tr.wants(t, "the first is waved to", map[string]float64{"courante.step.items{outcome=ok,service=trip,step=wave}": 1})
		tr.refuse.Store(true)
		tr.begin(t, "stuck", 7)
		tr.wants(t, "one is delayed", map[string]float64{
			tripUnderWay: 2,
			"courante.journey.delayed{cause=parked,saga=trip}":                   1,
			"courante.journey.delayed{cause=overdue,saga=trip}":                  0,
			"courante.journey.delayed_value{cause=parked,saga=trip,unit=unit 7}": 7,
			"courante.step.items{outcome=error,service=trip,step=wave}":          1,
			"courante.deadline.open{service=trip}":                               2,
		})
	})
}

// TestUnitsAreBounded has callers invent units: the metrics keep few of them.
func TestUnitsAreBounded(t *testing.T) {
	t.Parallel()
	tr := startTrips(t, inMemory(t), 0)
	tr.refuse.Store(true)
	const many = 40
	for i := range many {
		tr.begin(t, fmt.Sprint("trip", i), int64(i))
	}
	tr.wants(t, "all are delayed", map[string]float64{"courante.journey.delayed{cause=parked,saga=trip}": many})
	units := 0
	for name := range tr.scrape(t) {
		if strings.HasPrefix(name, "courante.journey.delayed_value{") {
			units++
		}
	}
	if units == 0 || units > 16 {
		t.Errorf("got %d units, want some and at most 16", units)
	}
}
