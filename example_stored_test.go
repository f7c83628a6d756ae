package courante_test

import (
	"context"
	"fmt"
	"log"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

type SoldOut struct {
	Show string `json:"show"`
}

func (SoldOut) EventType() string { return "tickets.sold_out" }

type Seats struct{ Free int }

// A stored state is a versioned row, for what many want to change at once and
// whose history nobody needs. It emits events as well, in the same transaction.
func ExampleStored() {
	tickets := courante.NewService("tickets")
	tickets.Emits(courante.Private, SoldOut{})
	seats := courante.Stored[Seats](tickets, "show")
	change := courante.NewCommand(tickets, courante.Step{
		Name: "sell", Outcomes: []courante.Outcome{{Emits: courante.Types(SoldOut{})}, {}}})
	stop, err := memory.Start(tickets)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	ctx := context.Background()

	add := func(n int) error {
		_, err := change.Do(ctx, courante.Call{
			Keys: []courante.Key{seats.Key("hamlet")},
			Do: func(d *courante.Decision) error {
				show := seats.Load(d, "hamlet")
				left := show.State.Free + n
				if left < 0 {
					return courante.Reject("conflict", "%d seats are left", show.State.Free)
				}
				show.Put(Seats{left})
				if left == 0 {
					show.Emit(SoldOut{"hamlet"})
				}
				return nil
			},
		})
		return err
	}
	fmt.Println(add(3), add(-2))
	fmt.Println(add(-2))
	fmt.Println(add(-1))
	state, version, err := seats.Get(ctx, "hamlet")
	fmt.Println(state.Free, "free,", version, "event", err)
	// Output:
	// <nil> <nil>
	// conflict: 1 seats are left
	// <nil>
	// 0 free, 1 event <nil>
}
