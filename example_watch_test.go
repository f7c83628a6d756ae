package courante_test

import (
	"context"
	"fmt"
	"log"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

type Moved struct {
	To string `json:"to"`
}

func (Moved) EventType() string { return "parcels.moved" }

// A watch tells live what happens to a state: first the state, and then each of
// its changes. Who was away names the version that he has seen last.
func ExampleWatch() {
	parcels := courante.NewService("parcels")
	parcels.Emits(courante.Private, Moved{})
	states := courante.Sourced(parcels, "parcel", courante.Evolve(func(place *string, e Moved) { *place = e.To }))
	move := courante.NewCommand(parcels, courante.Step{Name: "move", Outcomes: []courante.Outcome{{Emits: courante.Types(Moved{})}}})
	shown := courante.NewCollection(states, "parcel", 1, func(id, place string, _ []courante.Event) (any, error) {
		return map[string]string{"id": id, "at": place}, nil
	})
	watch := courante.NewWatch(states, courante.WatchSpec[string]{
		Of:    shown,
		Show:  func(_, place string, _ *courante.Event) (any, error) { return "now at " + place, nil },
		Ended: func(place string) bool { return place == "home" },
	})
	stop, err := memory.Start(parcels)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	ctx := context.Background()
	moveTo := func(place string) {
		_, err := move.Do(ctx, courante.Call{Keys: []courante.Key{states.Key("1")}, Do: func(d *courante.Decision) error {
			states.Load(d, "1").Emit(Moved{place})
			return nil
		}})
		if err != nil {
			log.Fatal(err)
		}
	}
	moveTo("the harbour")

	watcher, err := watch.Open(ctx, "1", "", 0, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer watcher.Close()
	moveTo("the depot")
	moveTo("home")
	for {
		u, err := watcher.Next(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(u.Version, string(u.Data))
	}
	// Output:
	// 1 {"at":"the harbour","id":"1"}
	// 2 "now at the depot"
	// 3 "now at home"
	// EOF
}
