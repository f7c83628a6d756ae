package courante_test

import (
	"context"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
)

type tripAsked struct {
	Guest string `json:"guest"`
}
type tripDone struct{}
type tripOff struct{}
type roomCalled struct{}
type roomHeld struct{}
type roomRefused struct{}

func (tripAsked) EventType() string   { return "travel.trip_asked" }
func (tripDone) EventType() string    { return "travel.trip_done" }
func (tripOff) EventType() string     { return "travel.trip_off" }
func (roomCalled) EventType() string  { return "travel.room_called" }
func (roomHeld) EventType() string    { return "travel.room_held" }
func (roomRefused) EventType() string { return "travel.room_refused" }

// A trip is asked for at the desk, and the hotel, which is called by telephone,
// holds a room or does not. The check runs no handler, so the ones here are
// empty.
func trip() []*courante.Service {
	types := courante.Types
	desk := courante.NewService("desk")
	desk.Emits(courante.Critical, tripAsked{}, tripDone{}, tripOff{})
	trips := courante.Sourced[struct{}](desk, "trip")
	courante.NewCommand(desk, courante.Step{
		Name:     "ask",
		Outcomes: []courante.Outcome{{Emits: types(tripAsked{}), Sets: []string{"reply"}}},
	})
	courante.On(desk, courante.Reaction[roomHeld]{
		Step: courante.Step{
			Name: "finish", Unless: types(tripDone{}, tripOff{}),
			Outcomes: []courante.Outcome{{Emits: types(tripDone{}), Clears: []string{"reply"}}},
		},
		Do: func(*courante.Decision, roomHeld) error { return nil },
	})
	courante.On(desk, courante.Reaction[roomRefused]{
		Step: courante.Step{
			Name: "call off", Unless: types(tripDone{}, tripOff{}),
			Outcomes: []courante.Outcome{{Emits: types(tripOff{}), Clears: []string{"reply"}, Fails: true}},
		},
		Do: func(*courante.Decision, roomRefused) error { return nil },
	})
	courante.OnDeadline(trips, "reply", courante.Step{
		Name: "give up", Unless: types(tripDone{}, tripOff{}),
		Outcomes: []courante.Outcome{{Emits: types(tripOff{}), Fails: true}},
	}, func(*courante.Decision, string) error { return nil })
	desk.Saga(courante.Saga{
		Name: "trip", Starts: tripAsked{}.EventType(),
		Completed: types(tripDone{}), Compensated: types(tripOff{}),
	})

	hotel := courante.NewService("hotel")
	hotel.Emits(courante.Critical, roomHeld{}, roomRefused{})
	hotel.Emits(courante.Private, roomCalled{})
	courante.On(hotel, courante.Reaction[tripAsked]{
		Step: courante.Step{
			Name: "call", Unless: types(roomCalled{}),
			Outcomes: []courante.Outcome{{Emits: types(roomCalled{}), Asks: []string{"telephone"}}},
		},
		Do: func(*courante.Decision, tripAsked) error { return nil },
	})
	courante.NewEffect(hotel, courante.EffectSpec[string, bool]{
		Step: courante.Step{
			Name: "hear", Unless: types(roomHeld{}, roomRefused{}),
			Outcomes: []courante.Outcome{{Emits: types(roomHeld{})}, {Emits: types(roomRefused{}), Fails: true}},
		},
		Effect:  "telephone",
		Timeout: time.Minute,
		Perform: func(context.Context, string, string) (bool, error) { return true, nil },
		Then:    func(*courante.Decision, string, string, bool) error { return nil },
	})
	return []*courante.Service{desk, hotel}
}

func ExampleBuildSaga() {
	graph, err := courante.BuildSaga(trip(), "trip")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(graph.Text())
	report := graph.Check(0)
	fmt.Println("\ncomplete:", report.Complete, "error:", report.Err())
	// Output:
	// saga trip of desk: starts with trip_asked, completed by trip_done, compensated by trip_off
	//
	// STEP        ON                DOES                             UNDONE BY  UNTIL
	// desk
	//   ask       command           - trip_asked                                deadline reply
	//   finish    room_held         - trip_done, clears reply
	//   call off  room_refused      - fails: trip_off, clears reply
	//   give up   deadline reply    - fails: trip_off
	// hotel
	//   call      trip_asked        - room_called, asks telephone
	//   hear      effect telephone  - room_held
	//                               - fails: room_refused
	//
	// complete: true error: <nil>
}

// The desk forgets what it waits for: nobody would ever notice that the hotel
// does not answer.
func ExampleSagaGraph_Check() {
	services := trip()
	desk := courante.NewService("desk")
	desk.Emits(courante.Critical, tripAsked{}, tripDone{})
	courante.NewCommand(desk, courante.Step{
		Name:     "ask",
		Outcomes: []courante.Outcome{{Emits: courante.Types(tripAsked{})}},
	})
	courante.On(desk, courante.Reaction[roomHeld]{
		Step: courante.Step{
			Name: "finish", Unless: courante.Types(tripDone{}),
			Outcomes: []courante.Outcome{{Emits: courante.Types(tripDone{})}},
		},
		Do: func(*courante.Decision, roomHeld) error { return nil },
	})
	desk.Saga(courante.Saga{Name: "trip", Starts: tripAsked{}.EventType(), Completed: courante.Types(tripDone{})})
	services[0] = desk

	graph, err := courante.BuildSaga(services, "trip")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, problem := range graph.Check(0).Problems {
		if problem.Rule == courante.RuleDeadline && problem.Service == "hotel" {
			fmt.Println(problem)
		}
	}
	// Output:
	// hotel: effect "telephone" may never answer, and here no deadline is open while it is; set one with the event that asks for it (Sets) and keep it until it answers, or, where it is right to repeat it for ever, declare it UntilAnswered
	//    1. desk begins: ask -> trip_asked
	//    2. hotel gets trip_asked: call -> room_called, asks telephone
}
