package courantetest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

type counted struct{}

func (counted) EventType() string { return "clicker.counted" }

// Two callers count to five each, on a service whose processes crash, freeze
// and lose answers. Every call has an idempotency key, so whoever did not hear
// the answer calls again; nothing may be counted twice.
func ExampleExplore() {
	type clicker struct {
		clicks *courante.Entity[int]
		click  *courante.Command
	}
	build := func() courantetest.Simulation[clicker] {
		caller := func(c *courantetest.Client[clicker]) {
			for range 5 {
				key := c.NewID()
				err := c.Insist(func(k clicker) error {
					_, err := k.click.Do(context.Background(), courante.Call{
						Keys: []courante.Key{k.clicks.Key("a")}, Idempotency: key,
						Do: func(d *courante.Decision) error {
							k.clicks.Load(d, "a").Emit(counted{})
							return nil
						},
					})
					return err
				}, func(err error) bool { return errors.As(err, new(*courante.Rejection)) })
				if err != nil {
					c.Errorf("%v", err)
				}
			}
		}
		return courantetest.Simulation[clicker]{
			Start: func(p *courantetest.Process) (clicker, []courante.Mount) {
				svc := courante.NewService("clicker")
				svc.Emits(courante.Private, counted{})
				return clicker{
					clicks: courante.Sourced(svc, "click", courante.Evolve(func(n *int, _ counted) { *n++ })),
					click:  courante.NewCommand(svc, courante.Step{Name: "click", Outcomes: []courante.Outcome{{Emits: courante.Types(counted{})}}}),
				}, []courante.Mount{{Service: svc, Store: p.Store("clicker")}}
			},
			Clients: []func(*courantetest.Client[clicker]){caller, caller},
			Check: func(ctx context.Context, k clicker) error {
				if n, _, err := k.clicks.Get(ctx, "a"); err != nil || n != 10 {
					return fmt.Errorf("counted %d (%w), want 10", n, err)
				}
				return nil
			},
		}
	}
	covered, err := courantetest.Explore(context.Background(), 1, 50, build, nil)
	fmt.Println(covered.Runs, "runs:", err)
	fmt.Println("never taken:", len(covered.Never()))
	// Output:
	// 50 runs: <nil>
	// never taken: 0
}
