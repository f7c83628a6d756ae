package courante_test

import (
	"context"
	"fmt"
	"log"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// The events of a small bank and of those who listen to it.

type Opened struct {
	Account string `json:"account"`
}
type Deposited struct {
	Account string `json:"account"`
	Cents   int64  `json:"cents"`
}
type Greeted struct {
	Account string `json:"account"`
}

func (Opened) EventType() string    { return "bank.opened" }
func (Deposited) EventType() string { return "bank.deposited" }
func (Greeted) EventType() string   { return "greeter.greeted" }

type Account struct {
	Open    bool
	Balance int64
}
type Greeting struct{ Text string }

// Two services: the bank takes commands and emits events, the greeter reacts to
// them. Nothing is wired between the two but the type of the event.
func Example() {
	bank := courante.NewService("bank")
	bank.Emits(courante.Critical, Opened{}, Deposited{})
	accounts := courante.Sourced(bank, "account",
		courante.Evolve(func(a *Account, _ Opened) { a.Open = true }),
		courante.Evolve(func(a *Account, e Deposited) { a.Balance += e.Cents }))
	deposit := courante.NewCommand(bank, courante.Step{Name: "deposit", Outcomes: []courante.Outcome{
		{Emits: courante.Types(Opened{}, Deposited{})}, // the first deposit opens the account
		{Emits: courante.Types(Deposited{})},
	}})

	greeter := courante.NewService("greeter")
	greeter.Emits(courante.Private, Greeted{})
	greetings := courante.Stored[Greeting](greeter, "greeting")
	courante.On(greeter, courante.Reaction[Opened]{
		Step: courante.Step{Name: "greet", Outcomes: []courante.Outcome{{Emits: courante.Types(Greeted{})}}},
		Do: func(d *courante.Decision, e Opened) error {
			g := greetings.Load(d, e.Account)
			g.Put(Greeting{Text: "welcome, " + e.Account})
			g.Emit(Greeted(e))
			return nil
		},
	})

	stop, err := memory.Start(bank, greeter) // in production NewRuntime, on stores of package postgres
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	ctx := context.Background()

	put := func(account string, cents int64) courante.Token {
		res, err := deposit.Do(ctx, courante.Call{
			Keys: []courante.Key{accounts.Key(account)},
			Do: func(d *courante.Decision) error {
				a := accounts.Load(d, account)
				if !a.State.Open {
					a.Emit(Opened{account})
				}
				a.Emit(Deposited{account, cents})
				return nil
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		return res.Token
	}
	put("ada", 1000)
	token := put("ada", 250)

	ada, version, err := accounts.Get(ctx, "ada")
	fmt.Println(ada.Balance, "cents after", version, "events", err)

	// The greeter has its own pace; a token waits for it.
	if err := greeter.Await(ctx, token); err != nil {
		log.Fatal(err)
	}
	g, _, _ := greetings.Get(ctx, "ada")
	fmt.Println(g.Text)
	// Output:
	// 1250 cents after 3 events <nil>
	// welcome, ada
}
