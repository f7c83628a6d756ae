package courantetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/courante-dev/courante"
)

var concurrencyCases = []storeCase{{
	"of appends that race for a version one wins",
	"group commit and unique indexes must agree: exactly one of the callers gets the version, the others a conflict that names the stream",
	func(t *storeTest) {
		const racers = 16
		for round := range int64(5) {
			errs := make(chan error, racers)
			for range racers {
				go func() {
					_, err := t.Append(t.Context(), "order:1", round*2, notes(2)...)
					errs <- err
				}()
			}
			var won int
			for range racers {
				if err := <-errs; err == nil {
					won++
				} else {
					t.wantConflict(err, "order:1")
				}
			}
			if won != 1 {
				t.Fatalf("round %d: %d of %d appends succeeded, want 1", round, won, racers)
			}
		}
		t.wantStream("order:1", 10)
	},
}, {
	"a conflict fails no neighbour",
	"appends share transactions: one that is stale must not take down those that are committed with it",
	func(t *storeTest) {
		t.mustAppend("order:stale", 0, notes(1)...)
		const writers = 16
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				for v := range int64(10) {
					if w%2 == 0 {
						_, err := t.Append(t.Context(), "order:stale", 0, note("stale"))
						var conflict *courante.ConflictError
						if !errors.As(err, &conflict) || !slices.Equal(conflict.Streams, []string{"order:stale"}) {
							t.Errorf("a stale append: error %v, want a conflict on order:stale", err)
						}
					} else if _, err := t.Append(t.Context(), fmt.Sprintf("order:%d", w), v, note("good")); err != nil {
						t.Errorf("a neighbour's append at version %d: %v", v, err)
					}
				}
			})
		}
		group.Wait()
		for w := 1; w < writers; w += 2 {
			t.wantStream(fmt.Sprintf("order:%d", w), 10)
		}
		t.wantStream("order:stale", 1)
	},
}, {
	"locked rows lose no update",
	"units that load the same rows, in whatever order they name them, wait for one another: none conflicts, none deadlocks, every change is there",
	func(t *storeTest) {
		keys := []courante.Key{{Category: "stock", ID: "a"}, {Category: "stock", ID: "b"}, {Category: "stock", ID: "c"}}
		for _, k := range keys {
			t.mustCommit(courante.Changes{States: []courante.State{{Key: k, Data: json.RawMessage(`0`)}}})
		}
		const workers, each = 6, 10
		var group sync.WaitGroup
		for w := range workers {
			order := []courante.Key{keys[w%3], keys[(w+1)%3], keys[(w+2)%3]}
			if w%2 == 1 {
				slices.Reverse(order)
			}
			group.Go(func() {
				for range each {
					if err := increment(t, order); err != nil {
						t.Errorf("worker %d: %v", w, err)
						return
					}
				}
			})
		}
		group.Wait()
		for _, s := range t.read(keys...) {
			if want := strconv.Itoa(workers * each); string(s.Data) != want || s.Row != workers*each+1 {
				t.Errorf("%s is %s at row %d, want %s at row %d", s.Stream(), s.Data, s.Row, want, workers*each+1)
			}
		}
	},
}, {
	"of owners that race for a lane one wins",
	"two owners of one lane may both be alive for a moment; whatever they do at once, each number is committed by one of them",
	func(t *storeTest) {
		const racers = 8
		for n := int64(1); n <= 5; n++ {
			errs := make(chan error, racers)
			for i := range racers {
				go func() {
					u, err := t.Begin(t.Context())
					if err == nil {
						_, err = u.Commit(t.Context(), courante.Changes{
							Events:   []courante.Event{noteAt(fmt.Sprintf("order:%d.%d", n, i), 1)},
							Progress: []courante.Progress{{Lane: testLane, N: n}},
						})
					}
					errs <- err
				}()
			}
			var won int
			for range racers {
				if err := <-errs; err == nil {
					won++
				} else {
					t.wantError(err, courante.ErrFenced)
				}
			}
			if won != 1 {
				t.Fatalf("number %d was committed %d times, want once", n, won)
			}
		}
		t.tick()
		if events, _ := t.readOn(courante.Cursor{}, 100); len(events) != 5 {
			t.Errorf("the log has %v, want the events of the five winners", ids(events))
		}
	},
}, {
	"every event is read once and in stream order",
	"many writers, several tickers and a reader at once: the log has every committed event exactly once, and is read alike while it grows and afterwards",
	hammer,
}}

// increment adds one to each of the stored rows in one unit.
func increment(t *storeTest, keys []courante.Key) error {
	u, err := t.Begin(t.Context())
	if err != nil {
		return err
	}
	defer u.Rollback(t.Context())
	states, err := u.Load(t.Context(), keys, nil)
	if err != nil {
		return err
	}
	for i := range states {
		n, err := strconv.Atoi(string(states[i].Data))
		if err != nil {
			return err
		}
		states[i].Data = json.RawMessage(strconv.Itoa(n + 1))
	}
	_, err = u.Commit(t.Context(), courante.Changes{States: states})
	return err
}

func hammer(t *storeTest) {
	const writers, each, streams = 16, 25, 5
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				key := courante.Key{Category: "order", ID: fmt.Sprint((w*7 + i) % streams), Sourced: true}
				if err := writeNext(t, key, fmt.Sprintf("%d.%d", w, i), i%2 == 0); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	var written atomic.Bool
	for range 2 {
		reading.Go(func() {
			for !written.Load() {
				if _, err := t.db.Tick(t.Context()); err != nil {
					t.Errorf("Tick: %v", err)
					return
				}
			}
		})
	}
	var seen []courante.Event
	var cursor courante.Cursor
	reading.Go(func() {
		for !written.Load() {
			events, next, err := t.ReadLog(t.Context(), cursor, 10)
			if err != nil {
				t.Errorf("ReadLog: %v", err)
				return
			}
			seen, cursor = append(seen, events...), next
		}
	})
	writing.Wait()
	written.Store(true)
	reading.Wait()
	t.tick()
	rest, _ := t.readOn(cursor, 10)
	seen = append(seen, rest...)

	t.wantStreamOrder(seen)
	t.wantSameOrder(seen)
	times := make(map[string]int)
	for _, e := range seen {
		times[string(e.Data)]++
	}
	if len(seen) != writers*each || len(times) != writers*each {
		t.Errorf("read %d events, %d different ones; %d were committed", len(seen), len(times), writers*each)
	}
}

// writeNext adds a note to the stream, by an append or by a unit, deciding
// again as often as somebody else was faster.
func writeNext(t *storeTest, key courante.Key, text string, unit bool) error {
	for {
		states, err := t.Read(t.Context(), []courante.Key{key})
		if err != nil {
			return err
		}
		e := note(text)
		if unit {
			e.Stream, e.Version = key.Stream(), states[0].Version+1
			var u courante.Unit
			if u, err = t.Begin(t.Context()); err == nil {
				_, err = u.Commit(t.Context(), courante.Changes{Events: []courante.Event{e}})
			}
		} else {
			_, err = t.Append(t.Context(), key.Stream(), states[0].Version, e)
		}
		var conflict *courante.ConflictError
		if !errors.As(err, &conflict) && !errors.Is(err, courante.ErrTransient) {
			return err
		}
	}
}
