package courante_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

type Ordered struct {
	Pizza string `json:"pizza"`
}
type Called struct{}
type Promised struct {
	Minutes int `json:"minutes"`
}

func (Ordered) EventType() string  { return "counter.ordered" }
func (Called) EventType() string   { return "kitchen.called" }
func (Promised) EventType() string { return "kitchen.promised" }

// An effect is a call to somebody outside. When the line goes dead nobody knows
// whether the cook has heard: he is asked, by the key of the call, and never
// told twice.
func ExampleNewEffect() {
	heard := map[string]int{} // what the cook knows: minutes, by key
	kitchen := courante.NewService("kitchen")
	kitchen.Emits(courante.Private, Called{}, Promised{})
	jobs := courante.Sourced[struct{}](kitchen, "job")
	call := courante.NewEffect(kitchen, courante.EffectSpec[string, int]{
		Step:   courante.Step{Name: "promise", Outcomes: []courante.Outcome{{Emits: courante.Types(Promised{})}}},
		Effect: "telephone", UntilAnswered: true,
		Perform: func(_ context.Context, key, pizza string) (int, error) {
			fmt.Println("called about a", pizza)
			heard[key] = 20
			return 0, courante.Unknown(errors.New("the line is dead"))
		},
		Resolve: func(_ context.Context, key, _ string) (minutes int, found bool, err error) {
			fmt.Println("asked what became of it")
			minutes, found = heard[key]
			return minutes, found, nil
		},
		Then: func(d *courante.Decision, id, _ string, minutes int) error {
			jobs.Load(d, id).Emit(Promised{minutes})
			return nil
		},
	})
	courante.On(kitchen, courante.Reaction[Ordered]{
		Step: courante.Step{Name: "call", Outcomes: []courante.Outcome{{Emits: courante.Types(Called{}), Asks: []string{"telephone"}}}},
		Do: func(d *courante.Decision, e Ordered) error {
			jobs.Load(d, "1").Emit(Called{}, call.Ask(e.Pizza))
			return nil
		},
	})

	t := &testing.T{} // a test has its own
	s := courantetest.Given(t, kitchen).When(courantetest.Heard("1", Ordered{"margherita"}))
	for _, e := range s.When(courantetest.Passed(time.Minute)).Events() {
		fmt.Println(e.Type, string(e.Data))
	}
	// Output:
	// called about a margherita
	// asked what became of it
	// kitchen.promised {"minutes":20}
}
