//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

type ordered struct {
	N int `json:"n"`
}

func (ordered) EventType() string { return "test.ordered" }

type billed struct {
	N int `json:"n"`
}

func (billed) EventType() string { return "test.billed" }

// follower is a program of two services: orders emits, bills reacts and
// records what it saw.
type follower struct {
	t      *testing.T
	db     *Database
	orders *Store
	bills  *Store
	rt     *courante.Runtime
	place  *courante.Command
	log    *courante.Entity[struct{}]
	stop   func()
}

func startFollower(t *testing.T, config Config) *follower {
	t.Helper()
	f := &follower{t: t}
	var err error
	if f.db, err = Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if f.orders, err = f.db.Store(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	if f.bills, err = f.db.Store(t.Context(), "bills"); err != nil {
		t.Fatal(err)
	}
	orders, bills := courante.NewService("orders"), courante.NewService("bills")
	orders.Emits(courante.Critical, ordered{})
	bills.Emits(courante.Private, billed{})
	f.log = courante.Sourced[struct{}](orders, "order")
	bill := courante.Sourced[struct{}](bills, "bill")
	f.place = courante.NewCommand(orders, courante.Step{Name: "place", Outcomes: []courante.Outcome{{Emits: courante.Types(ordered{})}}})
	courante.On(bills, courante.Reaction[ordered]{
		Step: courante.Step{Name: "bill", Outcomes: []courante.Outcome{{Emits: courante.Types(billed{})}}},
		Do: func(d *courante.Decision, p ordered) error {
			bill.Load(d, "all").Emit(billed(p))
			return nil
		},
	})
	f.rt, err = courante.NewRuntime(courante.Config{
		Database: f.db, Lanes: 1, // so that what it saw has one order
		Services: []courante.Mount{{Service: orders, Store: f.orders}, {Service: bills, Store: f.bills}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.rt.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	f.stop = sync.OnceFunc(func() { cancel(); wg.Wait(); f.db.Close() })
	t.Cleanup(f.stop)
	f.eventually("the runtime runs", func() bool { return f.rt.CheckTicker() == nil })
	return f
}

// order places the orders n, one transaction each.
func (f *follower) order(numbers ...int) (last courante.Token) {
	f.t.Helper()
	for _, n := range numbers {
		id := fmt.Sprint(n)
		result, err := f.place.Do(f.t.Context(), courante.Call{Keys: []courante.Key{f.log.Key(id)}, Do: func(d *courante.Decision) error {
			f.log.Load(d, id).Emit(ordered{n})
			return nil
		}})
		if err != nil {
			f.t.Fatal(err)
		}
		last = result.Token
	}
	return last
}

// saw returns the orders that bills has billed, in order.
func (f *follower) saw() []int {
	f.t.Helper()
	var got []int
	for e, err := range f.bills.ReadStream(f.t.Context(), "bill:all", 0) {
		if err != nil {
			f.t.Fatal(err)
		}
		s, err := courante.Decode[billed](&e)
		if err != nil {
			f.t.Fatal(err)
		}
		got = append(got, s.N)
	}
	return got
}

func (f *follower) eventually(what string, holds func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			f.t.Fatalf("%s: not within 20 s; bills saw %v, lanes: %v", what, f.saw(), f.rt.CheckLanes())
		case <-poll.C:
		}
	}
}

// loseTail makes the log of orders what it was when it ended behind the order,
// as a restore from a backup does, while the subscriber's database stays.
func loseTail(t *testing.T, f *follower, after int) {
	t.Helper()
	var tick int64
	for e, err := range f.orders.ReadStream(t.Context(), fmt.Sprintf("order:%d", after), 0) {
		if err != nil {
			t.Fatal(err)
		}
		err := f.db.pool.QueryRow(t.Context(), "select min(n) from "+f.db.schema+
			".tick where log = 'orders' and pg_visible_in_snapshot($1::text::xid8, snapshot)", fmt.Sprint(e.Xid)).Scan(&tick)
		if err != nil {
			t.Fatal(err)
		}
	}
	conn := testConn(t)
	mustExec(t, conn, f.orders, "delete from {schema}.event e using "+f.db.schema+
		".tick t where t.log = 'orders' and t.n = $1 and not pg_visible_in_snapshot(e.xid, t.snapshot)", tick)
	mustExec(t, conn, f.orders, "delete from "+f.db.schema+".tick where log = 'orders' and n > $1", tick)
}

func TestRepairAfterTheLogLostItsTail(t *testing.T) {
	t.Parallel()
	tests := []struct {
		to   RepairTo
		want []int // what bills saw in the end
	}{
		// 1 to 3 were handled, 4 and 5 as well and then lost; 6 and 7 are in
		// their place.
		{RepairLastCommon, []int{1, 2, 3, 4, 5, 6, 7, 8}},
		{RepairStart, []int{1, 2, 3, 4, 5, 1, 2, 3, 6, 7, 8}},
		{RepairNow, []int{1, 2, 3, 4, 5, 8}},
	}
	for _, tt := range tests {
		t.Run(string(tt.to), func(t *testing.T) {
			t.Parallel()
			config := NewTestConfig(t)
			f := startFollower(t, config)
			for n := 1; n <= 5; n++ {
				f.order(n) // each with a progress row of its own
				f.eventually("handling", func() bool { return len(f.saw()) == n })
			}
			f.stop()

			admin, orders := openConfig(t, config)
			broken := &follower{t: t, db: admin, orders: orders}
			loseTail(t, broken, 3)

			f = startFollower(t, config)
			last := f.order(6, 7)
			f.eventually("a tick", func() bool { _, err := f.orders.Locate(t.Context(), last); return err == nil })
			var lost *courante.LogBrokenError
			f.eventually("the subscriber stops", func() bool { return errors.As(f.rt.CheckLanes(), &lost) })
			if got, want := f.saw(), []int{1, 2, 3, 4, 5}; !slices.Equal(got, want) {
				t.Errorf("the stopped subscriber saw %v, want %v", got, want)
			}

			plan, err := f.bills.PlanRepair(t.Context(), f.orders)
			if err != nil {
				t.Fatal(err)
			}
			if !plan.Broken() || len(plan.Lanes) != 1 || plan.Lanes[0].LastCommon.Tick == 0 {
				t.Fatalf("got plan %+v, want one broken lane with a last common place behind the start", plan)
			}
			if err := plan.Apply(t.Context(), tt.to); err != nil {
				t.Fatal(err)
			}
			f.stop()

			f = startFollower(t, config)
			f.order(8)
			f.eventually("the subscriber goes on", func() bool { return len(f.saw()) >= len(tt.want) })
			if got := f.saw(); !slices.Equal(got, tt.want) {
				t.Errorf("bills saw %v, want %v", got, tt.want)
			}
			if err := f.rt.CheckLanes(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRepairRefuses(t *testing.T) {
	t.Parallel()
	f := startFollower(t, NewTestConfig(t))
	f.order(1)
	f.eventually("handling", func() bool { return len(f.saw()) == 1 })
	if _, err := f.orders.PlanRepair(t.Context(), f.bills); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("repair of a subscription that is not there: got %v, want ErrNotFound", err)
	}
	plan, err := f.bills.PlanRepair(t.Context(), f.orders)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Broken() {
		t.Errorf("a healthy subscriber is called broken: %+v", plan)
	}
	if err := plan.Apply(t.Context(), "yesterday"); err == nil {
		t.Error("a place that does not exist is accepted")
	}
	f.order(2)
	f.eventually("handling", func() bool { return len(f.saw()) == 2 })
	if err := plan.Apply(t.Context(), RepairStart); !errors.Is(err, courante.ErrFenced) {
		t.Errorf("repair behind the back of a running subscriber: got %v, want ErrFenced", err)
	}
	if got := f.saw(); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("bills saw %v, want nothing twice", got)
	}
}
