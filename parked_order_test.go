package courante_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/courante-dev/courante"
)

// A diary writes down the numbers of each key in the order in which it hears of
// them, and fails as it is told to. What it writes of key "large" is more than
// a store takes.
type diary struct {
	svc   *courante.Service
	pages *courante.Entity[page]
	fails func(e counted) error
}

type page struct {
	Numbers []int64
	Text    string
}

func newDiary(fails func(counted) error) *diary {
	d := &diary{svc: courante.NewService("diary"), fails: fails}
	d.svc.Emits(courante.Critical, grown{})
	d.pages = courante.Stored[page](d.svc, "page")
	courante.On(d.svc, courante.Reaction[counted]{
		Step: courante.Step{Name: "write down", Outcomes: []courante.Outcome{{}, {Emits: courante.Types(grown{})}}},
		Keys: func(e counted) []courante.Key { return []courante.Key{d.pages.Key(e.Key)} },
		Do: func(dec *courante.Decision, e counted) error {
			if err := d.fails(e); err != nil {
				return err
			}
			r := d.pages.Load(dec, e.Key)
			s := r.State
			s.Numbers = append(slices.Clip(s.Numbers), e.N)
			r.Put(s)
			if e.Key == "large" {
				r.Emit(grown{strings.Repeat("large", 1<<20)})
			}
			return nil
		},
	})
	return d
}

func (d *diary) numbers(t *testing.T, key string) []int64 {
	t.Helper()
	s, _, err := d.pages.Get(t.Context(), key)
	if err != nil && !errors.Is(err, courante.ErrNotFound) {
		t.Fatal(err)
	}
	return s.Numbers
}

// run runs the diary beside the source of what it hears, until the test or the
// caller stops it.
func (d *diary) run(t *testing.T, b base, version string) (stop func()) {
	t.Helper()
	rt, err := courante.NewRuntime(courante.Config{Database: b.db, Lanes: 1, Version: version, Services: []courante.Mount{
		{Service: newCounting(false).source, Store: b.store("source")}, {Service: d.svc, Store: b.store("diary")}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := rt.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

// tell appends the next number of a key to the source's log.
func tell(t *testing.T, b base, key string, n int64) {
	t.Helper()
	e := courante.Event{Type: "source.counted", Schema: 1, Correlation: key, Data: fmt.Appendf(nil, `{"key":%q,"n":%d}`, key, n)}
	if _, err := b.store("source").Append(t.Context(), "counter:"+key, n-1, e); err != nil {
		t.Fatal(err)
	}
}

func parkedIn(t *testing.T, b base) []courante.Parked {
	t.Helper()
	list, err := b.store("diary").Parked(t.Context(), "diary", courante.ParkedQuery{})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestFailingHandlerIsRetriedInTheOrderOfItsKey(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		var healed atomic.Bool
		d := newDiary(func(e counted) error {
			if e.Key == "sick" && e.N == 2 && !healed.Load() {
				return errors.New("not now")
			}
			return nil
		})
		d.run(t, b, "v1")
		tell(t, b, "sick", 1)
		tell(t, b, "sick", 2)
		until(t, "the second is set aside", func() bool { return len(parkedIn(t, b)) == 1 })
		for n := int64(3); n <= 6; n++ {
			tell(t, b, "sick", n)
			tell(t, b, "well", n-2)
		}
		until(t, "what follows waits behind it", func() bool { return len(parkedIn(t, b)) == 5 })
		until(t, "its neighbour goes on", func() bool { return len(d.numbers(t, "well")) == 4 })
		if got := d.numbers(t, "sick"); !slices.Equal(got, []int64{1}) {
			t.Errorf("written down were %v while the second fails, want the first only", got)
		}
		healed.Store(true)
		tell(t, b, "sick", 7)
		until(t, "nothing is set aside any more", func() bool { return len(d.numbers(t, "sick")) == 7 && len(parkedIn(t, b)) == 0 })
		if got := d.numbers(t, "sick"); !slices.Equal(got, []int64{1, 2, 3, 4, 5, 6, 7}) {
			t.Errorf("written down were %v, want them in order", got)
		}
	})
}

// TestFailureInOneHalfHoldsBackItsKeyInTheOther has one unit that the store
// refuses, so that it is bisected, and in it a key whose first message fails
// long before its second one comes.
func TestFailureInOneHalfHoldsBackItsKeyInTheOther(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		d := newDiary(func(e counted) error {
			if e.Key == "sick" && e.N == 1 {
				return courante.Park(errors.New("never"))
			}
			return nil
		})
		// All of it is there before anybody reads, so it is one unit.
		tell(t, b, "sick", 1)
		for i := range 20 {
			tell(t, b, fmt.Sprintf("k%d", i), 1)
		}
		tell(t, b, "large", 1)
		tell(t, b, "sick", 2)
		d.run(t, b, "v1")
		until(t, "both keys are set aside", func() bool { return len(parkedIn(t, b)) == 3 })
		for _, p := range parkedIn(t, b) {
			if p.Event.Version == 2 && p.Cause != "" {
				t.Errorf("%s was tried (%s), and only waits", p.Event.ID(), p.Cause)
			}
		}
		if got := d.numbers(t, "sick"); len(got) != 0 {
			t.Errorf("written down were %v although the first failed", got)
		}
	})
}
