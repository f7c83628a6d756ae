package courante_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// startSource runs the services of a counting without its ledger: the program
// before the ledger was written.
func startSource(t *testing.T, b base) *counting {
	t.Helper()
	c := newCounting(false)
	var err error
	c.rt, err = courante.NewRuntime(courante.Config{Database: b.db, Services: []courante.Mount{{Service: c.source, Store: b.store("source")}}})
	if err != nil {
		t.Fatal(err)
	}
	c.run(t)
	return c
}

// wantCounts checks what the ledger has written down of key k.
func wantCounts(t *testing.T, c *counting, what string, last, wrong int64) {
	t.Helper()
	var got tally
	until(t, what, func() bool {
		got, _, _ = c.tallies.Get(t.Context(), "k")
		return got.Last >= last
	})
	if got.Last != last || got.Wrong != wrong {
		t.Errorf("%s: %+v, want last %d and %d wrong", what, got, last, wrong)
	}
}

func addMany(t *testing.T, c *counting, n int) {
	t.Helper()
	for range n {
		until(t, "it counts", func() bool {
			err := c.add(t.Context(), "k")
			if err != nil && !errors.Is(err, courante.ErrTransient) {
				t.Fatal(err)
			}
			return err == nil // else it is not up yet
		})
	}
}

// A subscriber begins where it was added, once it runs, and at the start if
// nobody added it.
func TestSubscriberBeginsWhereItWasAdded(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"memory", "postgres"} {
		for name, gap := range map[string]int64{"not added": 0, "start": 0, "now": 1} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				process := sharedBase(t, kind)
				b := process()
				before := startSource(t, b)
				addMany(t, before, 10)
				log, ledger := b.store("source"), b.store("ledger")
				until(t, "the counts are visible", func() bool { return len(readAll(t, log)) >= 10 })
				before.stop()
				var from courante.Cursor
				if name == "now" {
					var err error
					if from, err = log.Head(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if name != "not added" {
					add := func() error {
						return courante.AddSubscriber(t.Context(), ledger, "source", from, "ann")
					}
					if err := add(); err != nil {
						t.Fatal(err)
					}
					if err := add(); !errors.Is(err, courante.ErrSubscribed) {
						t.Errorf("added twice: %v", err)
					}
				}
				c := newCounting(false)
				c.start(t, process(), 2, nil)
				addMany(t, c, 10)
				wantCounts(t, c, "all counts", 20, gap) // the jump to the first is the one that is wrong
				if err := courante.AddSubscriber(t.Context(), ledger, "source", from, "ann"); !errors.Is(err, courante.ErrSubscribed) {
					t.Errorf("added while it runs: %v", err)
				}
			})
		}
	}
}

func readAll(t *testing.T, s courante.Store) []courante.Event {
	t.Helper()
	var all []courante.Event
	for at := (courante.Cursor{}); ; {
		events, next, err := s.ReadLog(t.Context(), at, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 && next == at {
			return all
		}
		all, at = append(all, events...), next
	}
}

// A retired subscriber handles nothing more, wherever it runs and however
// often it is started, and says why; added again, it begins anew.
func TestRetiredSubscriber(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"memory", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			process := sharedBase(t, kind)
			b := process()
			log, ledger := b.store("source"), b.store("ledger")
			retire := func() error {
				end, err := log.Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_, err = courante.RetireSubscriber(t.Context(), ledger, "source", end, "ann@host", false)
				return err
			}
			if err := retire(); !errors.Is(err, courante.ErrNotFound) {
				t.Errorf("retired what never subscribed: %v", err)
			}
			c := newCounting(false)
			c.start(t, b, 2, nil)
			addMany(t, c, 10)
			wantCounts(t, c, "before", 10, 0)
			if err := retire(); err != nil {
				t.Fatal(err)
			}
			ended := reached(t, ledger)
			addMany(t, c, 10)
			says := func(c *counting) {
				t.Helper()
				until(t, "the subscriber says that it is retired", func() bool {
					err := c.rt.CheckLanes()
					return err != nil && strings.Contains(err.Error(), "ann@host") && strings.Contains(err.Error(), "courante subscriber add ledger --log source")
				})
			}
			says(c)
			c.stop()

			c = newCounting(true) // another program, of other types, is retired too
			c.start(t, process(), 3, nil)
			says(c)
			addMany(t, c, 10)
			if err := retire(); err != nil {
				t.Errorf("retired again: %v", err)
			}
			end, err := log.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := courante.AddSubscriber(t.Context(), ledger, "source", end, "bob"); err != nil {
				t.Fatal(err)
			}
			c.stop()

			c = newCounting(true)
			c.start(t, process(), 3, nil)
			addMany(t, c, 10)
			wantCounts(t, c, "after it was added again", 40, 1) // 11 to 30 were never its
			if now := reached(t, ledger); now != ended {
				t.Errorf("the retired lanes went on from %v to %v", ended, now)
			}
			if err := c.rt.CheckLanes(); err != nil {
				t.Errorf("it runs, and says: %v", err)
			}
		})
	}
}

// A lane that finds nothing to do records its place all the same, so that the
// parts of the log behind it are free.
func TestIdleLaneRecordsItsPlace(t *testing.T) {
	t.Parallel()
	b := sharedBase(t, "memory")()
	c := newCounting(false)
	var ahead atomic.Int64 // of the clock
	var err error
	c.rt, err = courante.NewRuntime(courante.Config{
		Database: b.db, Lanes: 2, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		Services: []courante.Mount{{Service: c.source, Store: b.store("source")}, {Service: c.ledger, Store: b.store("ledger")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.run(t)
	addMany(t, c, 5) // all of one key, so one lane has nothing to do
	wantCounts(t, c, "all counts", 5, 0)
	ledger := b.store("ledger")
	idle := 1 - courante.LaneOf("k", 2)
	if at := reached(t, ledger)[idle]; at != (courante.Cursor{}) {
		t.Fatalf("the idle lane is at %s already", at)
	}
	ahead.Store(int64(2 * time.Minute))
	until(t, "the idle lane records its place", func() bool { return reached(t, ledger)[idle].Tick > 0 })
}

// reached is where the ledger's first lanes are.
func reached(t *testing.T, ledger courante.Store) (at [2]courante.Cursor) {
	t.Helper()
	for k := range at {
		p, err := ledger.Progress(t.Context(), courante.Lane{Subscriber: "ledger", Log: "source", Epoch: 1, K: k})
		if err != nil && !errors.Is(err, courante.ErrNotFound) {
			t.Fatal(err)
		}
		at[k] = p.Cursor
	}
	return at
}

// What is set aside is looked at by somebody, or discarded expressly.
func TestRetireWithParkedMessages(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := memory.New(memory.Config{})
	store := db.Store("ledger")
	if err := courante.AddSubscriber(ctx, store, "source", courante.Cursor{}, ""); err != nil {
		t.Fatal(err)
	}
	park := func(log string) {
		t.Helper()
		unit, err := store.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = unit.Commit(ctx, courante.Changes{Park: []courante.Parked{{
			Subscriber: "ledger", Reaction: "write down", Key: "1", Cause: "no such account",
			Event: courante.Event{Log: log, Stream: "counter:1", Version: 1, Type: "source.counted"},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	park("source")
	park("other")
	var parked *courante.ParkedError
	_, err := courante.RetireSubscriber(ctx, store, "source", courante.Cursor{}, "", false)
	if !errors.As(err, &parked) || len(parked.Messages) != 1 || parked.Messages[0].Event.Log != "source" {
		t.Fatalf("with a message set aside: %v", err)
	}
	if epochs, _ := store.LaneEpochs(ctx, "ledger", "source"); len(epochs) != 1 {
		t.Errorf("it has %d lane epochs; a refusal changes nothing", len(epochs))
	}
	discarded, err := courante.RetireSubscriber(ctx, store, "source", courante.Cursor{}, "", true)
	if err != nil || len(discarded) != 1 {
		t.Errorf("discarded %v, %v; want the one message of the log", discarded, err)
	}
	if left, _ := store.Parked(ctx, "ledger", courante.ParkedQuery{}); len(left) != 1 || left[0].Event.Log != "other" {
		t.Errorf("%v are left, want that of the other log", left)
	}
}
