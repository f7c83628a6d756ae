package courante_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

type (
	Reading struct {
		Meter string `json:"meter"`
		KWh   int64  `json:"kwh"`
	}
	Noted struct {
		KWh int64 `json:"kwh"`
	}
)

func (Noted) EventType() string { return "office.noted" }

// A program outside, in any language, says what a meter shows. It comes over the
// broker, or any other way; what comes twice counts once.
func ExampleOnInbound() {
	office := courante.NewService("office")
	office.Emits(courante.Private, Noted{})
	meters := courante.Sourced(office, "meter", courante.Evolve(func(sum *int64, e Noted) { *sum += e.KWh }))
	courante.OnInbound(office, courante.Inbound[Reading]{
		Type: "meter.read",
		Step: courante.Step{Name: "note", Outcomes: []courante.Outcome{{Emits: courante.Types(Noted{})}}},
		Keys: func(r Reading) []courante.Key { return []courante.Key{meters.Key(r.Meter)} },
		Do: func(d *courante.Decision, r Reading) error {
			meters.Load(d, r.Meter).Emit(Noted{r.KWh})
			return nil
		},
	})

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	db := memory.New(memory.Config{})
	rt, err := courante.NewRuntime(courante.Config{Database: db, Services: []courante.Mount{{Service: office, Store: db.Store("office")}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error)
	go func() { ended <- rt.Run(ctx) }()

	e := courante.CloudEvent{ID: "2026-11-22", Source: "/meters/7", Type: "meter.read", Data: json.RawMessage(`{"meter":"7","kwh":12}`)}
	fmt.Println(office.Receive(ctx, e))
	fmt.Println(office.Receive(ctx, e)) // it was not sure that we have it
	e.ID, e.Data = "2026-11-23", json.RawMessage(`"what?"`)
	fmt.Println(office.Receive(ctx, e))
	sum, _, _ := meters.Get(ctx, "7")
	fmt.Println(sum, "kWh")
	stop()
	if err := <-ended; err != nil {
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// <nil>
	// invalid: the data is not what meter.read has: json: cannot unmarshal string into Go value of type courante_test.Reading
	// 12 kWh
}
