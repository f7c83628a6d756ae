package courante_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// Registered is an event: a fact, in the past tense.
type Registered struct {
	Name string `json:"name"`
}

func (Registered) EventType() string { return "club.registered" } // stored name, written by hand

// Member is what the events of a member amount to.
type Member struct{ Active bool }

// A command decides on the state behind its keys: it emits events, or rejects.
// A caller that did not get the answer calls again with the same idempotency
// key, and gets it.
func ExampleCommand_Do() {
	club := courante.NewService("club")
	club.Emits(courante.Private, Registered{})
	members := courante.Sourced(club, "member",
		courante.Evolve(func(m *Member, _ Registered) { m.Active = true }))
	register := courante.NewCommand(club, courante.Step{
		Name: "register", Outcomes: []courante.Outcome{{Emits: courante.Types(Registered{})}}})
	stop, err := memory.Start(club)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	call := func(name, key string) (courante.Result, error) {
		return register.Do(context.Background(), courante.Call{
			Keys:        []courante.Key{members.Key(name)},
			Idempotency: key, Hash: sha256.Sum256([]byte(name)),
			Do: func(d *courante.Decision) error {
				m := members.Load(d, name)
				if m.State.Active {
					return courante.Reject("conflict", "%s is a member", name)
				}
				m.Emit(Registered{name})
				d.Reply("welcome, " + name)
				return nil
			},
		})
	}
	first, err := call("ada", "key 1")
	fmt.Println(string(first.Reply), first.Repeated, err)
	again, err := call("ada", "key 1")
	fmt.Println(string(again.Reply), again.Repeated, err)
	_, err = call("ada", "key 2")
	var no *courante.Rejection
	fmt.Println(errors.As(err, &no), no.Code, no.Detail)
	// Output:
	// "welcome, ada" false <nil>
	// "welcome, ada" true <nil>
	// true conflict ada is a member
}
