package courante_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

type Reserved struct {
	Table string `json:"table"`
}
type Released struct {
	Table string `json:"table"`
}

func (Reserved) EventType() string { return "tables.reserved" }
func (Released) EventType() string { return "tables.released" }

// A deadline rides on an event, and is a step of its own when it passes. Here a
// table is kept for a quarter of an hour; the test lets the time pass.
func ExampleOnDeadline() {
	svc := courante.NewService("tables")
	svc.Emits(courante.Private, Reserved{}, Released{})
	tables := courante.Sourced[struct{}](svc, "table")
	reserve := courante.NewCommand(svc, courante.Step{
		Name:     "reserve",
		Outcomes: []courante.Outcome{{Emits: courante.Types(Reserved{}), Sets: []string{"arrival"}}},
	})
	courante.OnDeadline(tables, "arrival", courante.Step{
		Name: "release", Outcomes: []courante.Outcome{{Emits: courante.Types(Released{})}},
	}, func(d *courante.Decision, id string) error {
		tables.Load(d, id).Emit(Released{id})
		return nil
	})
	seven := courantetest.Called(func(ctx context.Context) error {
		_, err := reserve.Do(ctx, courante.Call{Keys: []courante.Key{tables.Key("7")}, Do: func(d *courante.Decision) error {
			tables.Load(d, "7").Emit(Reserved{"7"}, courante.Set("arrival", d.Now().Add(15*time.Minute)))
			return nil
		}})
		return err
	})

	t := &testing.T{} // a test has its own
	s := courantetest.Given(t, svc, seven)
	fmt.Println("14 minutes:", len(s.When(courantetest.Passed(14*time.Minute)).Events()), "events")
	for _, e := range s.When(courantetest.Passed(time.Minute)).Events() {
		fmt.Println("15 minutes:", e.Type, string(e.Data))
	}
	// Output:
	// 14 minutes: 0 events
	// 15 minutes: tables.released {"table":"7"}
}
