package courante_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/courante-dev/courante"
)

// refusing is a store that refuses what a stream named "bad" gets, and fails for
// a moment when it is the turn of the half that has it and the other half is
// written.
type refusing struct {
	courante.Store

	mu       sync.Mutex // guards what follows
	refused  bool       // since the last hit
	halfDone bool       // something was written after that
	hit      bool
}

func (s *refusing) Begin(ctx context.Context) (courante.Unit, error) {
	u, err := s.Store.Begin(ctx)
	return refusingUnit{u, s}, err
}

type refusingUnit struct {
	courante.Unit
	s *refusing
}

func (u refusingUnit) Commit(ctx context.Context, c courante.Changes) (courante.Receipt, error) {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	bad := slices.ContainsFunc(c.Events, func(e courante.Event) bool { return e.Stream == "counter:bad" })
	switch {
	case bad && u.s.halfDone:
		u.s.refused, u.s.halfDone, u.s.hit = false, false, true
		return courante.Receipt{}, courante.Transient(errors.New("the server restarts"))
	case bad:
		u.s.refused = len(c.Events) > 1 // then the halves come next
		return courante.Receipt{}, errors.New("this cannot be stored")
	}
	u.s.halfDone = u.s.refused
	return u.Unit.Commit(ctx, c)
}

// TestHalfThatIsWrittenIsNotWrittenAgain: commands share a unit that the store
// refuses because of one of them. One half is written by itself; that the other
// then fails for a moment must not make the first run again.
func TestHalfThatIsWrittenIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	b := inMemory(t)
	store := &refusing{Store: b.store("source")}
	svc := courante.NewService("source")
	svc.Emits(courante.Private, counted{})
	counters := courante.Sourced(svc, "counter", courante.Evolve(func(c *count, _ counted) { c.N++ }))
	add := courante.NewCommand(svc, courante.Step{Name: "add", Outcomes: []courante.Outcome{{Emits: courante.Types(counted{})}}})
	running(t, base{b.db, func(string) courante.Store { return store }, b.fresh}, svc)
	call := func(id string) error {
		_, err := add.Do(t.Context(), courante.Call{Keys: []courante.Key{counters.Key(id)}, Do: func(d *courante.Decision) error {
			counters.Load(d, id).Emit(counted{Key: id})
			return nil
		}})
		return err
	}
	var ids []string // of the worker of commands that has "bad" as well
	for i := 0; len(ids) < 10; i++ {
		if id := fmt.Sprint(i); courante.LaneOf(id, 3) == courante.LaneOf("bad", 3) {
			ids = append(ids, id)
		}
	}
	told := map[string]int64{}
	until(t, "a half to fail when the other is written", func() bool {
		var mu sync.Mutex
		var calls sync.WaitGroup
		for i := range 40 {
			id := ids[i%10]
			if i%10 == 9 {
				id = "bad"
			}
			calls.Go(func() {
				if err := call(id); (err != nil) != (id == "bad") {
					t.Errorf("counter %s: %v", id, err)
				}
				mu.Lock()
				defer mu.Unlock()
				told[id]++
			})
		}
		calls.Wait()
		store.mu.Lock()
		defer store.mu.Unlock()
		return store.hit
	})
	told["bad"] = 0
	for id, want := range told {
		_, version, err := counters.Get(t.Context(), id)
		if err != nil && !errors.Is(err, courante.ErrNotFound) || version != want {
			t.Errorf("counter %s was counted %d times (%v), and %d callers were told so", id, version, err, want)
		}
	}
}
