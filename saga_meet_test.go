package courante_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

type (
	tentLent      struct{ Tent string }
	tentReturned  struct{ Tent, Next string }
	tentMissing   struct{ Tent string }
	placeReserved struct{ Guest string }
	placeOffered  struct{ Tent string }
	placeTaken    struct{ Tent string }
	placeForgone  struct{}
	guestCalled   struct{ Guest string }
)

func (tentLent) EventType() string      { return "tents.lent" }
func (tentReturned) EventType() string  { return "tents.returned" }
func (tentMissing) EventType() string   { return "tents.missing" }
func (placeReserved) EventType() string { return "queue.reserved" }
func (placeOffered) EventType() string  { return "queue.offered" }
func (placeTaken) EventType() string    { return "queue.taken" }
func (placeForgone) EventType() string  { return "queue.forgone" }
func (guestCalled) EventType() string   { return "desk.guest_called" }

// camp lends tents, and keeps a queue of those who wait for one. The loan of a
// tent and a place in the queue are two sagas. They meet when a tent comes back,
// which is then offered to somebody who waits, and when that one borrows it.
type camp struct {
	tents, queue, desk *courante.Service
	loans              *courante.Entity[struct{}]
	places             *courante.Entity[place]
	lend, giveBack     *courante.Command
	reserve            *courante.Command
}

type place struct{ Guest, Tent string }

func newCamp() *camp {
	types := courante.Types
	c := &camp{tents: courante.NewService("tents"), queue: courante.NewService("queue"), desk: courante.NewService("desk")}

	c.tents.Emits(courante.Critical, tentLent{}, tentReturned{}, tentMissing{})
	c.loans = courante.Sourced(c.tents, "loan",
		courante.Evolve(func(*struct{}, tentLent) {}),
		courante.Evolve(func(*struct{}, tentReturned) {}),
		courante.Evolve(func(*struct{}, tentMissing) {}))
	c.lend = courante.NewCommand(c.tents, courante.Step{
		Name: "lend", Outcomes: []courante.Outcome{{Emits: types(tentLent{}), Sets: []string{"back"}}},
	})
	c.giveBack = courante.NewCommand(c.tents, courante.Step{
		Name: "take back", When: types(tentLent{}), Unless: types(tentReturned{}, tentMissing{}),
		Outcomes: []courante.Outcome{{Emits: types(tentReturned{}), Clears: []string{"back"}}},
	})
	courante.OnDeadline(c.loans, "back", courante.Step{
		Name: "miss", Unless: types(tentReturned{}, tentMissing{}),
		Outcomes: []courante.Outcome{{Emits: types(tentMissing{}), Fails: true}},
	}, func(d *courante.Decision, id string) error {
		c.loans.Load(d, id).Emit(tentMissing{})
		return nil
	})
	c.tents.Saga(courante.Saga{Name: "loan", Starts: tentLent{}.EventType(), Completed: types(tentReturned{}, tentMissing{})})

	c.queue.Emits(courante.Critical, placeReserved{}, placeOffered{}, placeTaken{}, placeForgone{})
	c.places = courante.Sourced(c.queue, "place",
		courante.Evolve(func(p *place, e placeReserved) { p.Guest = e.Guest }),
		courante.Evolve(func(p *place, e placeOffered) { p.Tent = e.Tent }),
		courante.Evolve(func(*place, placeTaken) {}),
		courante.Evolve(func(*place, placeForgone) {}))
	c.reserve = courante.NewCommand(c.queue, courante.Step{
		Name: "reserve", Outcomes: []courante.Outcome{{Emits: types(placeReserved{}), Sets: []string{"patience"}}},
	})
	// The loan's event, and a place in the queue: what is emitted here happens to
	// the place, so it belongs to the place's saga.
	courante.On(c.queue, courante.Reaction[tentReturned]{
		Step: courante.Step{
			Name: "offer", Unless: types(placeOffered{}, placeForgone{}),
			Outcomes: []courante.Outcome{{Emits: types(placeOffered{})}, {}}, // nobody waits
		},
		Keys: func(e tentReturned) []courante.Key { return []courante.Key{c.places.Key(e.Next)} },
		Do: func(d *courante.Decision, e tentReturned) error {
			if next := c.places.Load(d, e.Next); next.Exists() && next.State.Tent == "" {
				next.Emit(placeOffered{e.Tent})
			}
			return nil
		},
	})
	courante.On(c.queue, courante.Reaction[guestCalled]{
		Step: courante.Step{
			Name: "hand over", When: types(placeOffered{}), Unless: types(placeTaken{}, placeForgone{}),
			Outcomes: []courante.Outcome{{Emits: types(placeTaken{}), Clears: []string{"patience"}}},
		},
		Do: func(d *courante.Decision, e guestCalled) error {
			p := c.places.Load(d, e.Guest)
			p.Emit(placeTaken{p.State.Tent}, courante.Clear("patience"))
			return nil
		},
	})
	courante.OnDeadline(c.places, "patience", courante.Step{
		Name: "forgo", Unless: types(placeTaken{}, placeForgone{}),
		Outcomes: []courante.Outcome{{Emits: types(placeForgone{}), Fails: true}},
	}, func(d *courante.Decision, id string) error {
		c.places.Load(d, id).Emit(placeForgone{})
		return nil
	})
	c.queue.Saga(courante.Saga{Name: "place", Starts: placeReserved{}.EventType(), Completed: types(placeTaken{}), Compensated: types(placeForgone{})})

	c.desk.Emits(courante.Critical, guestCalled{})
	calls := courante.Sourced(c.desk, "call", courante.Evolve(func(*struct{}, guestCalled) {}))
	courante.On(c.desk, courante.Reaction[placeOffered]{
		Step: courante.Step{Name: "call", Unless: types(guestCalled{}), Outcomes: []courante.Outcome{{Emits: types(guestCalled{})}}},
		Do: func(d *courante.Decision, e placeOffered) error {
			calls.Load(d, d.Correlation()).Emit(guestCalled{d.Correlation()})
			return nil
		},
	})
	return c
}

// runServices runs services on a store in memory while the test lasts.
func runServices(t *testing.T, services ...*courante.Service) (mounts []courante.Mount) {
	t.Helper()
	db := memory.New(memory.Config{})
	for _, s := range services {
		mounts = append(mounts, courante.Mount{Service: s, Store: db.Store(s.Name())})
	}
	rt, err := courante.NewRuntime(courante.Config{Database: db, Services: mounts, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return mounts
}

// sagasOf says where the sagas of a thing stand.
func sagasOf(t *testing.T, services []*courante.Service, mounts []courante.Mount, id string) (text string) {
	t.Helper()
	graphs, err := courante.BuildSagas(services)
	if err != nil {
		t.Fatal(err)
	}
	sagas, err := courante.ReadSagas(t.Context(), graphs, mounts, id, time.Now())
	if err != nil && !errors.Is(err, courante.ErrNotFound) {
		t.Fatal(err)
	}
	for _, s := range sagas {
		text += fmt.Sprintf("%s %s is %s:", s.Saga, s.ID, s.State)
		for _, st := range s.Steps {
			text += " " + st.Name + " " + st.State + ";"
		}
		if s.Waiting != nil {
			text += " waits for " + s.Waiting.For
		}
	}
	return text
}

// TestSagasMeet: what one saga does to another belongs to the other, and both
// end, to whoever looks: by id, in the metrics, and event by event.
func TestSagasMeet(t *testing.T) {
	t.Parallel()
	c := newCamp()
	services := []*courante.Service{c.tents, c.queue, c.desk}
	if _, err := courante.CheckSagas(services, 0); err != nil {
		t.Fatal(err)
	}
	mounts := runServices(t, services...)
	do := func(cmd *courante.Command, key courante.Key, decide func(d *courante.Decision) error) {
		t.Helper()
		if _, err := cmd.Do(t.Context(), courante.Call{Keys: []courante.Key{key}, Do: decide}); err != nil {
			t.Fatal(err)
		}
	}
	later := time.Now().Add(time.Hour)
	do(c.lend, c.loans.Key("L1"), func(d *courante.Decision) error {
		c.loans.Load(d, "L1").Emit(tentLent{"T"}, courante.Set("back", later))
		return nil
	})
	do(c.reserve, c.places.Key("ann"), func(d *courante.Decision) error {
		c.places.Load(d, "ann").Emit(placeReserved{"ann"}, courante.Set("patience", later))
		return nil
	})
	do(c.giveBack, c.loans.Key("L1"), func(d *courante.Decision) error {
		c.loans.Load(d, "L1").Emit(tentReturned{"T", "ann"}, courante.Clear("back"))
		return nil
	})
	for id, want := range map[string]string{
		"ann": "place ann is completed: reserve done; offer done; call done; hand over done;",
		"L1":  "loan L1 is completed: lend done; take back done;",
	} {
		until(t, want, func() bool { return sagasOf(t, services, mounts, id) == want })
	}
	for _, m := range mounts {
		events, _, err := m.Store.ReadLog(t.Context(), courante.Cursor{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if want := map[bool]string{true: "L1", false: "ann"}[m.Service == c.tents]; e.Correlation != want {
				t.Errorf("%s is of saga %q, want %q", e.ID(), e.Correlation, want)
			}
		}
	}
}

type (
	guideBooked  struct{}
	guideBack    struct{ Next string }
	hikerWaits   struct{}
	hikerGuided  struct{}
	hikerHome    struct{}
	hikerGivesUp struct{}
)

func (guideBooked) EventType() string  { return "hike.guide_booked" }
func (guideBack) EventType() string    { return "hike.guide_back" }
func (hikerWaits) EventType() string   { return "hike.hiker_waits" }
func (hikerGuided) EventType() string  { return "hike.hiker_guided" }
func (hikerHome) EventType() string    { return "hike.hiker_home" }
func (hikerGivesUp) EventType() string { return "hike.hiker_gives_up" }

// TestSagasMeetInACommand: one decision ends a saga and takes another one on.
func TestSagasMeetInACommand(t *testing.T) {
	t.Parallel()
	types := courante.Types
	s := courante.NewService("hike")
	s.Emits(courante.Critical, guideBooked{}, guideBack{}, hikerWaits{}, hikerGuided{}, hikerHome{}, hikerGivesUp{})
	tours := courante.Sourced(s, "tour", courante.Evolve(func(*struct{}, guideBooked) {}), courante.Evolve(func(*struct{}, guideBack) {}))
	hikers := courante.Sourced(s, "hiker",
		courante.Evolve(func(*struct{}, hikerWaits) {}), courante.Evolve(func(*struct{}, hikerGuided) {}),
		courante.Evolve(func(*struct{}, hikerHome) {}), courante.Evolve(func(*struct{}, hikerGivesUp) {}))
	book := courante.NewCommand(s, courante.Step{Name: "book", Outcomes: []courante.Outcome{{Emits: types(guideBooked{}), Sets: []string{"dusk"}}}})
	wait := courante.NewCommand(s, courante.Step{Name: "wait", Outcomes: []courante.Outcome{{Emits: types(hikerWaits{}), Sets: []string{"cold"}}}})
	goOn := courante.NewCommand(s, courante.Step{
		Name: "go on", When: types(guideBooked{}), Unless: types(guideBack{}, hikerGuided{}, hikerGivesUp{}),
		Outcomes: []courante.Outcome{{Emits: types(guideBack{}, hikerGuided{}), Clears: []string{"dusk"}}},
	})
	courante.OnDeadline(tours, "dusk", courante.Step{Name: "turn back", Unless: types(guideBack{}), Outcomes: []courante.Outcome{{Emits: types(guideBack{})}}},
		func(d *courante.Decision, id string) error { tours.Load(d, id).Emit(guideBack{}); return nil })
	courante.OnDeadline(hikers, "cold", courante.Step{
		Name: "give up", Unless: types(hikerHome{}, hikerGivesUp{}), Outcomes: []courante.Outcome{{Emits: types(hikerGivesUp{}), Fails: true}},
	}, func(d *courante.Decision, id string) error { hikers.Load(d, id).Emit(hikerGivesUp{}); return nil })
	courante.On(s, courante.Reaction[hikerGuided]{
		Step: courante.Step{
			Name: "bring home", Unless: types(hikerHome{}, hikerGivesUp{}),
			Outcomes: []courante.Outcome{{Emits: types(hikerHome{}), Clears: []string{"cold"}}},
		},
		Do: func(d *courante.Decision, _ hikerGuided) error {
			hikers.Load(d, d.Correlation()).Emit(hikerHome{}, courante.Clear("cold"))
			return nil
		},
	})
	s.Saga(courante.Saga{Name: "tour", Starts: guideBooked{}.EventType(), Completed: types(guideBack{})})
	s.Saga(courante.Saga{Name: "hiker", Starts: hikerWaits{}.EventType(), Completed: types(hikerHome{}), Compensated: types(hikerGivesUp{})})
	services := []*courante.Service{s}
	if _, err := courante.CheckSagas(services, 0); err != nil {
		t.Fatal(err)
	}
	mounts := runServices(t, s)
	later := time.Now().Add(time.Hour)
	for _, call := range []struct {
		cmd  *courante.Command
		keys []courante.Key
		do   func(d *courante.Decision)
	}{
		{book, []courante.Key{tours.Key("north")}, func(d *courante.Decision) {
			tours.Load(d, "north").Emit(guideBooked{}, courante.Set("dusk", later))
		}},
		{wait, []courante.Key{hikers.Key("bob")}, func(d *courante.Decision) {
			hikers.Load(d, "bob").Emit(hikerWaits{}, courante.Set("cold", later))
		}},
		{goOn, []courante.Key{tours.Key("north"), hikers.Key("bob")}, func(d *courante.Decision) {
			tours.Load(d, "north").Emit(guideBack{"bob"}, courante.Clear("dusk"))
			hikers.Load(d, "bob").Emit(hikerGuided{})
		}},
	} {
		if _, err := call.cmd.Do(t.Context(), courante.Call{Keys: call.keys, Do: func(d *courante.Decision) error { call.do(d); return nil }}); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]string{
		"bob":   "hiker bob is completed: wait done; go on done; bring home done;",
		"north": "tour north is completed: book done; go on done;",
	} {
		until(t, want+" got "+sagasOf(t, services, mounts, id), func() bool { return sagasOf(t, services, mounts, id) == want })
	}
}
