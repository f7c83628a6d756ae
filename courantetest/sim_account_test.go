package courantetest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

// Long streams: one account gets more events than are read at each load, so
// that baselines are written and used, and every deposit is booked a second
// time by another service in a stored row.

type deposited struct{ Amount int }

func (deposited) EventType() string { return "teller.deposited" }

type teller struct {
	deposit  *courante.Command
	accounts *courante.Entity[int]
	books    *courante.Entity[int]
}

func newTeller(p *courantetest.Process) (*teller, []courante.Mount) {
	front, back := courante.NewService("teller"), courante.NewService("books")
	c := &teller{books: courante.Stored[int](back, "sum")}
	front.Emits(courante.Critical, deposited{})
	c.accounts = courante.Sourced(front, "account", courante.Evolve(func(sum *int, e deposited) { *sum += e.Amount }))
	c.deposit = courante.NewCommand(front, courante.Step{Name: "deposit", Outcomes: []courante.Outcome{{Emits: []string{"teller.deposited"}}}})
	courante.On(back, courante.Reaction[deposited]{
		Step: courante.Step{Name: "book"},
		Do: func(d *courante.Decision, e deposited) error {
			sum := c.books.Load(d, "all")
			sum.Put(sum.State + e.Amount)
			return nil
		},
	})
	return c, []courante.Mount{{Service: front, Store: p.Store("teller")}, {Service: back, Store: p.Store("books")}}
}

// Deposit adds an amount to the account, once for each key.
func (t *teller) Deposit(ctx context.Context, key string, amount int) error {
	_, err := t.deposit.Do(ctx, courante.Call{
		Keys: []courante.Key{t.accounts.Key("joint")}, Idempotency: key,
		Do: func(d *courante.Decision) error {
			t.accounts.Load(d, "joint").Emit(deposited{amount})
			return nil
		}})
	return err
}

func saving() courantetest.Simulation[*teller] {
	const customers, deposits = 4, 40
	expected := 0
	customer := func(c *courantetest.Client[*teller]) {
		for range deposits {
			key, amount := c.NewID(), 1+c.IntN(100)
			expected += amount
			if err := c.Insist(func(t *teller) error { return t.Deposit(context.Background(), key, amount) }, isRejection); err != nil {
				c.Errorf("deposit: %v", err)
			}
		}
	}
	s := courantetest.Simulation[*teller]{
		Start: newTeller,
		Check: func(ctx context.Context, t *teller) error {
			account, version, err := t.accounts.Get(ctx, "joint")
			if err != nil {
				return err
			}
			booked, _, err := t.books.Get(ctx, "all")
			if err != nil {
				return err
			}
			if account != expected || booked != expected || version != customers*deposits {
				return fmt.Errorf("the account holds %d in %d deposits and the books say %d, want %d in %d", account, version, booked, expected, customers*deposits)
			}
			return nil
		},
	}
	for range customers {
		s.Clients = append(s.Clients, customer)
	}
	return s
}

func TestSimulationOfLongStreams(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= max(courantetest.Seeds()/10, 10); seed++ {
		if run := saving().Run(seed); run.Err != nil {
			t.Fatalf("%s: %v", run, run.Err)
		}
	}
}
