package rabbitmq_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/memory"
	"github.com/courante-dev/courante/rabbitmq"
)

// tossed is the one event of the domain: a penny that goes into a jar.
type tossed struct{ Jar string }

func (tossed) EventType() string { return "purse.tossed" }

// TestLanesChangeUnderLoad counts pennies with another number of lanes, back and
// forth, in processes that follow each other while pennies are tossed: each is
// counted once, and in the end there are the queues of the last number alone.
func TestLanesChangeUnderLoad(t *testing.T) {
	t.Parallel()
	prefix := courantetest.RabbitMQPrefix()
	connect := func() *rabbitmq.Broker {
		return open(t, rabbitmq.Config{URLs: []string{courantetest.RabbitMQURL(t)}, Prefix: prefix})
	}
	db := memory.New(memory.Config{})
	other := memory.New(memory.Config{})
	purse := courante.NewService("purse")
	purse.Emits(courante.Critical, tossed{})
	run := func(c courante.Config) (stop func()) {
		rt, err := courante.NewRuntime(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- rt.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	}
	pennies := courante.Sourced(purse, "penny", courante.Evolve(func(is *bool, _ tossed) { *is = true }))
	toss := courante.NewCommand(purse, courante.Step{Name: "toss", Outcomes: []courante.Outcome{{Emits: []string{"purse.tossed"}}}})
	defer run(courante.Config{Database: db, Broker: connect(), Services: []courante.Mount{{Service: purse, Store: db.Store("purse")}}})()

	var jars *courante.Entity[int]
	count := func(lanes int) (stop func()) {
		shelf := courante.NewService("shelf")
		jars = courante.Stored[int](shelf, "jar")
		courante.On(shelf, courante.Reaction[tossed]{Step: courante.Step{Name: "count"}, Do: func(d *courante.Decision, e tossed) error {
			jar := jars.Load(d, e.Jar)
			jar.Put(jar.State + 1)
			return nil
		}})
		return run(courante.Config{
			Database: other, Broker: connect(), Lanes: lanes,
			Services: []courante.Mount{{Service: shelf, Store: other.Store("shelf")}}, Foreign: []courante.Foreign{{Service: purse}},
		})
	}
	const each, names = 300, "abcdefghij"
	tossAll := func(round int) {
		for i := range each {
			id := fmt.Sprint(round, "-", i)
			_, err := toss.Do(t.Context(), courante.Call{Keys: []courante.Key{pennies.Key(id)}, Do: func(d *courante.Decision) error {
				pennies.Load(d, id).Emit(tossed{string(names[i%len(names)])})
				return nil
			}})
			if err != nil {
				t.Error(err)
			}
		}
	}
	changes := []int{2, 3, 1, 3}
	for round, lanes := range changes {
		stop := count(lanes)
		tossAll(round) // and the next process comes when some of them are not yet counted
		if round == len(changes)-1 {
			defer stop()
		} else {
			stop()
		}
	}
	until(t, "every penny is counted", func() bool {
		sum := 0
		for _, jar := range strings.Split(names, "") {
			n, _, err := jars.Get(t.Context(), jar)
			if err != nil {
				return false
			}
			sum += n
		}
		if sum > each*len(changes) {
			t.Fatalf("%d pennies were counted, want %d", sum, each*len(changes))
		}
		return sum == each*len(changes)
	})
	b := connect()
	until(t, "the queues of the last number of lanes are left", func() bool {
		states, err := b.Topology(t.Context(),
			courante.Queue{Subscriber: "shelf", Lanes: 1},
			courante.Queue{Subscriber: "shelf", Lanes: 2}, courante.Queue{Subscriber: "shelf", Lanes: 2, K: 1},
			courante.Queue{Subscriber: "shelf", Lanes: 3}, courante.Queue{Subscriber: "shelf", Lanes: 3, K: 1}, courante.Queue{Subscriber: "shelf", Lanes: 3, K: 2})
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range states {
			if s.There != (i >= 3) {
				return false
			}
		}
		return true
	})
}

// until waits for what takes a process some seconds.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit, poll := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case <-poll.C:
		case <-limit:
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}
