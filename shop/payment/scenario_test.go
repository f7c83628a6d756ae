package payment

import (
	"slices"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// scenario runs one service alone, in memory and step by step, and plays the
// rest of the world to it. With it the rules of a context are tables of "given
// what happened, when this happens, then these events":
//
//	s := given(t, New(cfg).Service(), "17", orderCreated, inventoryReserved)
//	s.When(shippingCancelled)
//	s.Then(shop.PaymentSettled{}, ...)
//
// Effects are performed as they are in production, on whatever the service was
// made with, and deadlines fire when Pass moves the clock.
type scenario struct {
	t     testing.TB
	id    string
	db    *memory.Database
	world courante.Store
	own   courante.Store
	rt    *courante.Runtime
	now   time.Time
	sent  int64            // events of the world so far
	read  courante.Cursor  // how far Then has looked
	fresh []courante.Event // what the service emitted since the last Given, When or Pass
}

// given starts a scenario in which the events of the world have happened, one
// after the other, to the thing with that id.
func given(t testing.TB, svc *courante.Service, id string, events ...courante.Payload) *scenario {
	t.Helper()
	s := &scenario{t: t, id: id, db: memory.New(memory.Config{}), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	s.world, s.own = s.db.Store("world"), s.db.Store(svc.Name())
	rt, err := courante.NewRuntime(courante.Config{
		Database: s.db,
		Services: []courante.Mount{{Service: svc, Store: s.own}},
		Sources:  []courante.Store{s.world},
		Lanes:    1, Performers: 1, Stepped: true,
		Now:  func() time.Time { return s.now },
		Rand: func() float64 { return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.rt = rt
	s.settle()
	for _, e := range events {
		s.When(e)
	}
	return s
}

// When lets an event of the world happen, and the service do what follows from
// it until nothing is left to do but wait.
func (s *scenario) When(p courante.Payload) {
	s.t.Helper()
	e, err := courante.NewEvent(p)
	if err != nil {
		s.t.Fatal(err)
	}
	e.Correlation, e.Causation, e.Time = s.id, "test", s.now
	if _, err := s.world.Append(s.t.Context(), "world:"+s.id, s.sent, e); err != nil {
		s.t.Fatal(err)
	}
	s.sent++
	s.settle()
}

// Pass lets time pass: deadlines fire, failed effects are tried again.
func (s *scenario) Pass(d time.Duration) {
	s.t.Helper()
	s.now = s.now.Add(d)
	s.settle()
}

// Then fails the test unless the service emitted exactly events of these types,
// in this order, in the last When or Pass, and set no message aside.
func (s *scenario) Then(want ...courante.Payload) {
	s.t.Helper()
	got := make([]string, len(s.fresh))
	for i := range s.fresh {
		got[i] = s.fresh[i].Type
	}
	if types := courante.Types(want...); !slices.Equal(got, types) {
		s.t.Errorf("emitted %q, want %q", got, types)
	}
	parked, err := s.own.Parked(s.t.Context(), s.own.Log())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range parked {
		s.t.Errorf("message %s was set aside by %q: %s", p.Event.ID(), p.Reaction, p.Cause)
	}
}

// Events are what the service emitted in the last When or Pass.
func (s *scenario) Events() []courante.Event { return s.fresh }

// settle lets everybody work until nobody has anything to do for a moment. The
// moment is longer than the ticker's pace and shorter than any retry.
func (s *scenario) settle() {
	s.t.Helper()
	const (
		moment   = 20   // idle rounds, a millisecond each
		patience = 1000 // rounds; more means that the service goes round in circles
	)
	idle := 0
	for range patience {
		worked := false
		for _, a := range s.rt.Actors() {
			did, err := a.Step(s.t.Context())
			if err != nil {
				s.t.Fatalf("%s: %v", a.Name, err)
			}
			worked = worked || did
		}
		if idle++; worked {
			idle = 0
		}
		if idle == moment {
			s.look()
			return
		}
		s.now = s.now.Add(time.Millisecond)
	}
	s.t.Fatalf("still at work after %d rounds", patience)
}

func (s *scenario) look() {
	s.t.Helper()
	s.fresh = nil
	for {
		events, next, err := s.own.ReadLog(s.t.Context(), s.read, 1000)
		if err != nil {
			s.t.Fatal(err)
		}
		s.fresh = append(s.fresh, events...)
		if s.read = next; len(events) == 0 {
			return
		}
	}
}
