package shop_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/memory"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/outside"
	"github.com/courante-dev/courante/shop/payment"
	"github.com/courante-dev/courante/shop/shipping"
)

// stepped is the shop on a runtime that does nothing by itself: a test says who
// takes the next step and what time it is, on a real database too. So a test
// can put anything between any two steps, and in the middle of some.
type stepped struct {
	*process
	*town
	now     time.Time
	turn    int      // whose it is to take a step
	decided []string // steps, by the last actor that decided any

	// charged and booked run, if not nil, when the provider or the carrier has
	// done its part and its answer is on its way; committing when a decision of
	// the step is about to be committed. Each runs once.
	charged, booked func()
	committing      map[string]func()
}

func newStepped(t *testing.T, db courante.Database, open func(string) courante.Store) *stepped {
	s := &stepped{now: time.Now().Truncate(time.Millisecond), committing: map[string]func(){}}
	s.town = newTown(t, outside.Config{
		Now: func() time.Time { return s.now },
		Wait: func(context.Context, time.Duration) error {
			return context.DeadlineExceeded // the caller gives up
		},
	})
	ids := 0
	s.process = s.start(db, open, courante.Config{
		Stepped: true, Lanes: 1, Performers: 1,
		Now:     func() time.Time { return s.now },
		NewID:   func() string { ids++; return fmt.Sprintf("id-%d", ids) },
		Rand:    func() float64 { return 0 },
		Observe: s.observe,
	}, tellingProvider{s.provider, s}, tellingCarrier{s.carrier, s})
	return s
}

func (s *stepped) observe(decided []courante.Decided) {
	for _, d := range decided {
		name := d.Service + ": " + d.Step
		s.decided = append(s.decided, name)
		if do := s.committing[name]; do != nil {
			delete(s.committing, name)
			do()
		}
	}
}

type tellingProvider struct {
	*outside.Provider
	s *stepped
}

func (p tellingProvider) Charge(ctx context.Context, key, token string, amount int64, currency string) (string, error) {
	declined, err := p.Provider.Charge(ctx, key, token, amount, currency)
	once(&p.s.charged)
	return declined, err
}

type tellingCarrier struct {
	*outside.Carrier
	s *stepped
}

func (c tellingCarrier) Book(ctx context.Context, key, country, address string) (string, string, error) {
	tracking, refused, err := c.Carrier.Book(ctx, key, country, address)
	once(&c.s.booked)
	return tracking, refused, err
}

func once(do *func()) {
	if f := *do; f != nil {
		*do = nil
		f()
	}
}

// actor is the actor of that name.
// agenda is the part of a context's agenda in which an order's stream is.
func (s *stepped) agenda(context, order string) *courante.Actor {
	s.t.Helper()
	category := map[string]string{payment.Name: "payment", shipping.Name: "shipment"}[context]
	return s.actor(fmt.Sprintf("agenda %s/%d", context, courante.LaneOf(category+":"+order, courante.AgendaParts)))
}

func (s *stepped) actor(name string) *courante.Actor {
	s.t.Helper()
	actors := s.rt.Actors()
	i := slices.IndexFunc(actors, func(a *courante.Actor) bool { return a.Name == name })
	if i < 0 {
		s.t.Fatalf("there is no actor %s", name)
	}
	return actors[i]
}

// step lets an actor take one step, and says whether it did anything.
func (s *stepped) step(a *courante.Actor) bool {
	s.t.Helper()
	s.now = s.now.Add(5 * time.Millisecond) // the least time between two ticks
	worked, err := a.Step(s.t.Context())
	if err != nil {
		s.t.Fatalf("%s: %v", a.Name, err)
	}
	return worked
}

// must lets an actor take a step in which it has something to do.
func (s *stepped) must(a *courante.Actor) {
	s.t.Helper()
	if !s.step(a) {
		s.t.Fatalf("%s has nothing to do", a.Name)
	}
}

// run takes at most n steps in which something is done, one actor after the
// other, letting time pass when nobody has anything to do. It says how many
// there were; fewer than n if nothing is left to do. A later call goes on with
// the actor whose turn it is.
func (s *stepped) run(n int) (steps int) {
	s.t.Helper()
	actors := s.rt.Actors()
	for idle := 0; steps < n; s.turn++ {
		before := len(s.decided)
		switch {
		case s.step(actors[s.turn%len(actors)]):
			steps++
			idle = 0
			if len(s.decided) > before {
				s.decided = s.decided[before:]
			}
		case idle < len(actors):
			idle++
		default:
			next := s.nextAlarm()
			if next.IsZero() {
				return steps
			}
			s.now, idle = next, 0
		}
	}
	return steps
}

// nextAlarm is when the first actor has something to do by itself; the zero
// time if none has within the hour, by which every order has ended.
func (s *stepped) nextAlarm() (next time.Time) {
	for _, a := range s.rt.Actors() {
		if at := a.Next(); at.After(s.now) && at.Before(s.now.Add(time.Hour)) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// most is far more steps than an order takes.
const most = 10_000

func (s *stepped) place(id, token, country string, quantity int64) {
	s.t.Helper()
	s.turn, s.decided = 0, nil // each order sees the same turns
	_, err := s.orders.Place(s.t.Context(), "", &ordering.PlaceOrder{
		OrderID: id, CustomerID: "anna", Currency: "GBP", ShipTo: ordering.ShipTo{Country: country},
		Payment: ordering.PaymentBy{Method: "card", Token: token},
		Lines:   []ordering.OrderLine{{SKU: "tea", Quantity: quantity, UnitPrice: 250}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stepped) ended(id string) ordering.Order {
	s.t.Helper()
	o, err := s.orders.Order(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.settled(o); err != nil {
		s.t.Error(err)
	}
	return o
}

func onMemory(t *testing.T) *stepped {
	db := memory.New(memory.Config{})
	return newStepped(t, db, func(name string) courante.Store { return db.Store(name) })
}

func onPostgres(t *testing.T) *stepped {
	db := courantetest.Postgres(t)
	return newStepped(t, db, func(name string) courante.Store { return courantetest.PostgresStore(t, db, name) })
}

// TestCancelBetweenAllSteps cancels orders after each step that is taken for
// them, which is before the next: the first order at once, the second after one
// step, and so on until it is too late. Each ends, and is settled.
func TestCancelBetweenAllSteps(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rule           string
		on             func(*testing.T) *stepped
		token, country string
		quantity       int64
	}{
		{"an order that would be confirmed, on PostgreSQL", onPostgres, "tok_ok", "GB", 2},
		{"an order that would be confirmed", onMemory, "tok_ok", "GB", 2},
		{"whose stock is not there", onMemory, "tok_ok", "GB", 1000},
		{"whose card is declined", onMemory, "tok_declined", "GB", 2},
		{"whose charge has no answer at first", onMemory, "tok_lost", "GB", 2},
		{"whose charge is never answered", onMemory, "tok_timeout", "GB", 2},
		{"that nobody carries", onMemory, "tok_ok", "ZZ", 2},
		{"whose carrier is silent", onMemory, "tok_ok", "XS", 2},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			if strings.HasSuffix(tt.rule, "on PostgreSQL") && testing.Short() {
				t.Skip("takes long")
			}
			s := tt.on(t)
			const received = 500
			if _, err := s.stock.Receive(t.Context(), "", "tea", received); err != nil {
				t.Fatal(err)
			}
			s.run(most)

			all := map[string]bool{} // what is decided for an order that nobody cancels
			s.place("undisturbed", tt.token, tt.country, tt.quantity)
			total := 0
			for ; s.run(1) > 0; total++ {
				for _, step := range s.decided {
					all[step] = true
				}
			}
			undisturbed := s.ended("undisturbed")
			left := int64(received)
			if undisturbed.Status == ordering.Confirmed {
				left -= tt.quantity
			}

			cancelled, late := 0, 0
			cancelAfter := func(id, when string, advance func()) {
				s.place(id, tt.token, tt.country, tt.quantity)
				advance()
				for _, step := range s.decided {
					delete(all, step)
				}
				_, already, err := s.orders.Cancel(t.Context(), "", id, "second thoughts")
				var no *courante.Rejection
				switch {
				case errors.As(err, &no) && no.Code == "conflict":
					late++
				case err != nil:
					t.Fatalf("cancel %s: %v", when, err)
				case !already:
					cancelled++
				}
				s.run(most)
				o := s.ended(id)
				if o.Status == ordering.Confirmed {
					left -= tt.quantity
				}
				if err == nil && !already && o.CancelReason != "second thoughts" && o.Status != ordering.Confirmed {
					t.Errorf("cancelled %s it ends %s: %s", when, o.Status, o.CancelReason)
				}
				if t.Failed() {
					t.Fatalf("cancelled %s", when)
				}
			}
			for n := range total + 1 {
				cancelAfter(fmt.Sprintf("cancelled-%d", n), fmt.Sprintf("after %d of %d steps", n, total), func() { s.run(n) })
			}
			// Orders do not all go the same way step by step, so some decision may
			// not have been the last one before a cancellation yet.
			for i, step := range slices.Sorted(maps.Keys(all)) {
				cancelAfter(fmt.Sprintf("cancelled-right-after-%d", i), "right after "+step, func() {
					for !slices.Contains(s.decided, step) && s.run(1) > 0 {
					}
				})
			}
			s.wantLevel(s.stock, "tea", left)
			if missed := slices.Sorted(maps.Keys(all)); len(missed) > 0 {
				t.Errorf("no order was cancelled right after %s", strings.Join(missed, ", "))
			}
			if cancelled == 0 || undisturbed.Status == ordering.Confirmed && late == 0 {
				t.Errorf("%d cancellations were taken and %d came too late, of %d", cancelled, late, total+1)
			}
			t.Logf("%d steps; %d cancellations were taken, %d came too late", total, cancelled, late)
		})
	}
}

// TestDeadlineMeetsAnswer has a deadline pass at the moment at which the answer
// that it waits for arrives, in every order of the two and of their commits.
func TestDeadlineMeetsAnswer(t *testing.T) {
	t.Parallel()
	type race struct {
		context, answer, late string // the steps that race
		answers               *func()
	}
	races := map[string]func(*stepped) race{
		payment.Name: func(s *stepped) race {
			return race{payment.Name, "take the provider's answer", "give up waiting for the provider", &s.charged}
		},
		shipping.Name: func(s *stepped) race {
			return race{shipping.Name, "take the carrier's answer", "give up waiting for the carrier", &s.booked}
		},
	}
	orders := []struct {
		rule   string
		status string // in which the order ends
		both   bool   // both are decided on, and one of them must not be committed
		play   func(s *stepped, r race, performer, agenda *courante.Actor)
	}{
		{"the answer, then the deadline", ordering.Confirmed, false, func(s *stepped, r race, performer, agenda *courante.Actor) {
			*r.answers = func() { s.now = agenda.Next() }
			s.must(performer)
			s.must(agenda)
		}},
		{"the deadline, then the answer", ordering.Cancelled, false, func(s *stepped, r race, performer, agenda *courante.Actor) {
			*r.answers = func() { s.now = agenda.Next(); s.must(agenda) }
			s.must(performer)
		}},
		{"the deadline is over first while the answer commits", ordering.Cancelled, true, func(s *stepped, r race, performer, agenda *courante.Actor) {
			s.committing[r.context+": "+r.answer] = func() { s.now = agenda.Next(); s.must(agenda) }
			s.must(performer)
		}},
		{"the answer is in first while the deadline commits", ordering.Confirmed, true, func(s *stepped, r race, performer, agenda *courante.Actor) {
			s.committing[r.context+": "+r.late] = func() { s.must(performer) }
			s.now = agenda.Next()
			s.must(agenda)
		}},
	}
	for name, pick := range races {
		for _, order := range orders {
			for store, on := range map[string]func(*testing.T) *stepped{"memory": onMemory, "PostgreSQL": onPostgres} {
				t.Run(name+": "+order.rule+", on "+store, func(t *testing.T) {
					t.Parallel()
					s := on(t)
					if _, err := s.stock.Receive(t.Context(), "", "tea", 10); err != nil {
						t.Fatal(err)
					}
					s.run(most)
					r := pick(s)
					performer, agenda := s.actor("performer "+r.context+"/0"), s.agenda(r.context, "o")
					s.place("o", "tok_ok", "GB", 2)
					for agenda.Next().IsZero() { // until the call is asked for and its deadline known
						if s.run(1) == 0 {
							t.Fatal("nothing is left to do, and no deadline was set")
						}
					}
					s.decided = nil
					order.play(s, r, performer, agenda)
					answered, gaveUp := slices.Contains(s.decided, r.context+": "+r.answer), slices.Contains(s.decided, r.context+": "+r.late)
					confirmed := order.status == ordering.Confirmed
					if answered != (order.both || confirmed) || gaveUp != (order.both || !confirmed) {
						t.Errorf("the answer was decided on: %t, the deadline: %t", answered, gaveUp)
					}
					s.run(most)
					if o := s.ended("o"); o.Status != order.status {
						t.Errorf("the order is %s: %s, want %s", o.Status, o.CancelReason, order.status)
					}
					left := int64(10)
					if order.status == ordering.Confirmed {
						left -= 2
					}
					s.wantLevel(s.stock, "tea", left)
				})
			}
		}
	}
}
