package courante_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

type Written struct {
	Text string `json:"text"`
}

func (Written) EventType() string { return "wall.written" }

// Who has the token of a command reads what it wrote: the query waits for it,
// at most so long, in whatever process it runs.
func ExampleService_Read() {
	wall := courante.NewService("wall")
	wall.Emits(courante.Private, Written{})
	texts := courante.Sourced(wall, "text", courante.Evolve(func(s *string, e Written) { *s = e.Text }))
	write := courante.NewCommand(wall, courante.Step{Name: "write", Outcomes: []courante.Outcome{{Emits: courante.Types(Written{})}}})
	stop, err := memory.Start(wall)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	ctx := context.Background()
	res, err := write.Do(ctx, courante.Call{Keys: []courante.Key{texts.Key("1")}, Do: func(d *courante.Decision) error {
		texts.Load(d, "1").Emit(Written{"hello"})
		return nil
	}})
	if err != nil {
		log.Fatal(err)
	}

	read := func(token, id string) (text string, err error) {
		err = wall.Read(ctx, token, time.Second, func() (err error) {
			text, _, err = texts.Get(ctx, id)
			return err
		})
		return text, err
	}
	fmt.Println(read(res.Token.String(), "1"))
	_, err = read("", "2")
	fmt.Println(errors.Is(err, courante.ErrNotFound))
	_, err = read("gibberish", "1")
	fmt.Println(errors.Is(err, courante.ErrBadToken))
	// Output:
	// hello <nil>
	// true
	// true
}
