package courantetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// TB is what [Given] needs of a test; *testing.T has it.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Scenario tests one service by what goes in and what comes out: given what
// happened before, when something happens, then these events follow. The
// service really runs, alone, on a store in memory and a clock that stands
// still, and it does what it does in production: loads, decides, commits,
// reacts to its own events, performs its effects. The parties outside are
// whatever the test has built the service with.
//
//	courantetest.Given(t, svc, courantetest.Happened(orders.Key("17"), Placed{"17"})).
//		When(courantetest.Heard("17", Declined{"17"})).
//		Then(Cancelled{"17"})
//
// A scenario may go on with another When, and Then is about the last one.
type Scenario struct {
	t     TB
	db    *memory.Database
	store courante.Store
	rt    *courante.Runtime
	now   time.Time
	ids   int
	read  courante.Cursor  // what Then need not look at
	fresh []courante.Event // of the service, since the last When
	err   error            // what the last When ended with
}

// elsewhere is the log of all other contexts.
const elsewhere = "elsewhere"

// Given begins a scenario with what has happened. What follows from it, by the
// service's own reactions, has happened too. A service serves one scenario.
func Given(t TB, s *courante.Service, facts ...Fact) *Scenario {
	t.Helper()
	sc := &Scenario{t: t, now: Epoch}
	now := func() time.Time { return sc.now }
	sc.db = memory.New(memory.Config{Now: now})
	sc.store = sc.db.Store(s.Name())
	var err error
	sc.rt, err = courante.NewRuntime(courante.Config{
		Database: sc.db, Stepped: true, Lanes: 1, Performers: 1,
		Services: []courante.Mount{{Service: s, Store: sc.store}},
		Sources:  []courante.Store{sc.db.Store(elsewhere)},
		Now:      now,
		NewID:    func() string { sc.ids++; return fmt.Sprintf("id-%d", sc.ids) },
		Rand:     func() float64 { return 0 },
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	if sc.When(facts...); sc.err != nil {
		t.Fatalf("given: %v", sc.err)
	}
	return sc
}

// When says what happens, one after the other. What follows from one fact is
// done before the next.
func (s *Scenario) When(facts ...Fact) *Scenario {
	s.t.Helper()
	ctx := context.Background()
	s.fresh, s.err = nil, nil
	for _, f := range facts {
		before := s.read
		if s.err = f.do(ctx, s); s.err == nil {
			s.err = s.settle(ctx)
		}
		own, err := s.events(ctx)
		if err != nil {
			s.t.Fatalf("%v", err)
		}
		if f.own && before != s.read {
			own = own[1:] // the fact itself
		}
		s.fresh = append(s.fresh, own...)
		if s.err != nil {
			break
		}
	}
	return s
}

// Events are the service's events that followed from the last When, or from
// what was given.
func (s *Scenario) Events() []courante.Event { return s.fresh }

// Then fails the test unless exactly these events of the service followed from
// the last When, in this order. No event means that nothing may follow.
func (s *Scenario) Then(want ...courante.Payload) *Scenario {
	s.t.Helper()
	if s.err != nil {
		s.t.Fatalf("%v", s.err)
	}
	wanted := make([]string, len(want))
	for i, p := range want {
		e, err := courante.NewEvent(p)
		if err != nil {
			s.t.Fatalf("the event wanted: %v", err)
		}
		wanted[i] = e.Type + " " + string(e.Data)
	}
	if got := s.lines(); !slices.Equal(wanted, got) {
		s.t.Errorf("the events differ (- is wanted, + is what happened):\n%s", diff(wanted, got))
	}
	return s
}

// ThenRejected fails the test unless the last When was a call that was rejected
// with the code, and no event followed from it.
func (s *Scenario) ThenRejected(code string) *Scenario {
	s.t.Helper()
	var no *courante.Rejection
	switch {
	case !errors.As(s.err, &no):
		s.t.Errorf("it ended with %v, want a rejection with code %q", s.err, code)
	case no.Code != code:
		s.t.Errorf("rejected with %q (%s), want code %q", no.Code, no.Detail, code)
	case len(s.fresh) > 0:
		s.t.Errorf("rejected, and these events happened all the same:\n%s", diff(nil, s.lines()))
	}
	return s
}

// ThenParked fails the test unless a message was set aside with a cause that
// contains the text.
func (s *Scenario) ThenParked(cause string) *Scenario {
	s.t.Helper()
	var parked *parkedError
	if !errors.As(s.err, &parked) {
		s.t.Errorf("it ended with %v, want a message set aside", s.err)
	} else if !strings.Contains(parked.Cause, cause) {
		s.t.Errorf("set aside with %q, want %q in it", parked.Cause, cause)
	}
	return s
}

func (s *Scenario) lines() []string {
	lines := make([]string, len(s.fresh))
	for i, e := range s.fresh {
		lines[i] = e.Type + " " + string(e.Data)
	}
	return lines
}

// parkedError says that a reaction did not decide.
type parkedError struct{ courante.Parked }

func (e *parkedError) Error() string {
	return fmt.Sprintf("%q set %s aside: %s", e.Reaction, e.Event.ID(), e.Cause)
}

// settle steps the runtime until nobody finds anything to do.
func (s *Scenario) settle(ctx context.Context) error {
	const rounds = 10_000 // a service that still finds something reacts to itself for ever
	for range rounds {
		worked := false
		for _, a := range s.rt.Actors() {
			did, err := a.Step(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", a.Name, err)
			}
			worked = worked || did
		}
		moved, err := s.db.Tick(ctx) // the runtime's own waits for its time, which does not pass
		if err != nil {
			return err
		}
		if worked || len(moved) > 0 {
			continue
		}
		parked, err := s.store.Parked(ctx, s.store.Log(), courante.ParkedQuery{Max: 1})
		if err != nil || len(parked) == 0 {
			return err
		}
		return &parkedError{parked[0]}
	}
	return fmt.Errorf("the service finds something to do after %d rounds", rounds)
}

// events returns the service's events that nobody has looked at yet.
func (s *Scenario) events(ctx context.Context) ([]courante.Event, error) {
	if _, err := s.db.Tick(ctx); err != nil {
		return nil, err
	}
	var all []courante.Event
	for {
		events, to, err := s.store.ReadLog(ctx, s.read, 1000)
		if err != nil {
			return nil, err
		}
		all = append(all, events...)
		if to == s.read {
			return all, nil
		}
		s.read = to
	}
}

// Fact is something that happens to a service.
type Fact struct {
	own bool // it is an event of the service itself
	do  func(ctx context.Context, s *Scenario) error
}

// Happened is an event of the service itself, on the stream of a state. notes
// are the deadlines and effects that it began or ended, if they matter.
func Happened(key courante.Key, p courante.Payload, notes ...courante.Notes) Fact {
	return Fact{own: true, do: func(ctx context.Context, s *Scenario) error {
		var n *courante.Notes
		if len(notes) > 0 {
			n = &notes[0]
		}
		return s.append(ctx, s.store, key, p, n)
	}}
}

// Heard is an event of another context, about the thing with that id.
func Heard(id string, p courante.Payload) Fact {
	return Fact{do: func(ctx context.Context, s *Scenario) error {
		return s.append(ctx, s.db.Store(elsewhere), courante.Key{Category: elsewhere, ID: id}, p, nil)
	}}
}

// Stored is a stored state of the service, as it is kept.
func Stored(key courante.Key, state any) Fact {
	return Fact{do: func(ctx context.Context, s *Scenario) error {
		data, err := json.Marshal(state)
		if err != nil {
			return err
		}
		unit, err := s.store.Begin(ctx)
		if err != nil {
			return err
		}
		defer unit.Rollback(ctx)
		rows, err := unit.Load(ctx, []courante.Key{key}, nil)
		if err != nil {
			return err
		}
		rows[0].Data = data
		_, err = unit.Commit(ctx, courante.Changes{States: rows})
		return err
	}}
}

// Called is a call of one of the service's commands, through whatever function
// makes it.
func Called(call func(ctx context.Context) error) Fact {
	return Fact{do: func(ctx context.Context, _ *Scenario) error { return call(ctx) }}
}

// Passed lets time pass: deadlines and retries become due.
func Passed(d time.Duration) Fact {
	return Fact{do: func(_ context.Context, s *Scenario) error {
		s.now = s.now.Add(d)
		return nil
	}}
}

func (s *Scenario) append(ctx context.Context, to courante.Store, key courante.Key, p courante.Payload, notes *courante.Notes) error {
	e, err := courante.NewEvent(p)
	if err != nil {
		return err
	}
	e.Time, e.Correlation, e.Notes = s.now, key.ID, notes
	var version int64
	for have, err := range to.ReadStream(ctx, key.Stream(), 0) {
		if err != nil {
			return err
		}
		version = have.Version
	}
	_, err = to.Append(ctx, key.Stream(), version, e)
	return err
}
