package courante_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

type Shelved struct {
	Title string `json:"title"`
}

func (Shelved) EventType() string { return "shelf.shelved" }

// A collection is what readers get to see of states. With a cache it comes from
// there, and without one, as here, from the source of truth; who has the token
// of a command sees what it wrote in both cases.
func ExampleCollection() {
	shelf := courante.NewService("shelf")
	shelf.Emits(courante.Private, Shelved{})
	books := courante.Sourced(shelf, "book", courante.Evolve(func(title *string, e Shelved) { *title = e.Title }))
	put := courante.NewCommand(shelf, courante.Step{Name: "put", Outcomes: []courante.Outcome{{Emits: courante.Types(Shelved{})}}})
	shown := courante.NewCollection(books, "book", 1, func(id, title string, _ []courante.Event) (any, error) {
		return map[string]string{"id": id, "title": title}, nil
	})
	stop, err := memory.Start(shelf)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	ctx := context.Background()
	res, err := put.Do(ctx, courante.Call{Keys: []courante.Key{books.Key("1")}, Do: func(d *courante.Decision) error {
		books.Load(d, "1").Emit(Shelved{"Orchésographie"})
		return nil
	}})
	if err != nil {
		log.Fatal(err)
	}

	doc, err := shown.Get(ctx, "1", res.Token.String(), time.Second)
	fmt.Println(string(doc.Data), err)
	// Output: {"id":"1","title":"Orchésographie"} <nil>
}
