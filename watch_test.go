package courante_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

type stepped struct {
	N int `json:"n"`
}

func (stepped) EventType() string { return "test.stepped" }

// walks is a service whose states can be watched; each change is a step.
type walks struct {
	svc   *courante.Service
	walks *courante.Entity[int]
	watch *courante.Watch
	walk  *courante.Command
}

// lastStep ends a walk.
const lastStep = 1000

func newWalks() *walks {
	w := &walks{svc: courante.NewService("walks")}
	w.svc.Emits(courante.Private, stepped{})
	w.walks = courante.Sourced(w.svc, "walk", courante.Evolve(func(n *int, e stepped) { *n = e.N }))
	w.walk = courante.NewCommand(w.svc, courante.Step{Name: "walk", Outcomes: []courante.Outcome{{Emits: courante.Types(stepped{})}}})
	w.watch = courante.NewWatch(w.walks, courante.WatchSpec[int]{
		Of:    courante.NewCollection(w.walks, "walk", 1, func(_ string, n int, _ []courante.Event) (any, error) { return n, nil }),
		Show:  func(_ string, n int, _ *courante.Event) (any, error) { return n, nil },
		Ended: func(n int) bool { return n == lastStep },
	})
	return w
}

// steps walks on, in one commit.
func (w *walks) steps(t testing.TB, id string, ns ...int) string {
	t.Helper()
	res, err := w.walk.Do(context.Background(), courante.Call{Keys: []courante.Key{w.walks.Key(id)}, Do: func(d *courante.Decision) error {
		for _, n := range ns {
			w.walks.Load(d, id).Emit(stepped{n})
		}
		return nil
	}})
	if err != nil {
		t.Error(err)
	}
	return res.Token.String()
}

func (w *walks) open(t testing.TB, id, token string, after int64) *courante.Watcher {
	t.Helper()
	watcher, err := w.watch.Open(t.Context(), id, token, 5*time.Second, after)
	if err != nil {
		t.Fatal(err)
	}
	return watcher
}

// expect fails the test unless that is what the watcher is told next.
func expect(t testing.TB, watcher *courante.Watcher, whole bool, version int64) courante.Update {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	u, err := watcher.Next(ctx)
	if err != nil || u.Whole != whole || u.Version != version {
		t.Fatalf("got version %d, whole: %v, %v; want version %d, whole: %v", u.Version, u.Whole, err, version, whole)
	}
	return u
}

func startWalks(t *testing.T, broadcast courante.Broadcast) *walks {
	t.Helper()
	w := newWalks()
	db := memory.New(memory.Config{})
	rt, err := courante.NewRuntime(courante.Config{
		Database: db, Services: []courante.Mount{{Service: w.svc, Store: db.Store("walks")}}, Broadcast: broadcast,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w := startWalks(t, nil)
	if _, err := w.watch.Open(t.Context(), "nobody", "", 0, 0); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("a state that is not there: %v; want not found", err)
	}
	token := w.steps(t, "a", 1, 2)
	first := w.open(t, "a", token, 0)
	defer first.Close()
	if u := expect(t, first, true, 2); u.Token.String() != token {
		t.Errorf("the state has token %q, want that of the command, %q", u.Token, token)
	}
	w.steps(t, "a", 3)
	w.steps(t, "a", 4, 5)
	for v := int64(3); v <= 5; v++ {
		expect(t, first, false, v)
	}
	for after, want := range map[int64]struct {
		whole   bool
		version int64
	}{
		1: {false, 2}, 3: {false, 4}, // back, and told the rest
		0: {true, 5}, 77: {true, 5}, // never here, or in a time that was undone
	} {
		again := w.open(t, "a", "", after)
		expect(t, again, want.whole, want.version)
		again.Close()
	}
	if first.Ended() {
		t.Error("it has ended; want that it goes on")
	}
	w.steps(t, "a", lastStep)
	expect(t, first, false, 6)
	if _, err := first.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v; want io.EOF", err)
	}
	late := w.open(t, "a", "", 6)
	defer late.Close()
	if !late.Ended() {
		t.Error("who has seen the end is not told that there is nothing more")
	}
}

func TestWatchDeclarations(t *testing.T) {
	t.Parallel()
	show := func(string, int, *courante.Event) (any, error) { return nil, nil }
	for what, declare := range map[string]func(w *walks){
		"WatchSpec.Of must be a collection of the same states": func(w *walks) {
			other := courante.Sourced(w.svc, "other", courante.Evolve(func(*int, stepped) {}))
			courante.NewWatch(other, courante.WatchSpec[int]{Of: courante.NewCollection(w.walks, "else", 1, func(string, int, []courante.Event) (any, error) { return nil, nil }), Show: show})
		},
		"WatchSpec.Show": func(w *walks) {
			other := courante.Sourced(w.svc, "other", courante.Evolve(func(*int, stepped) {}))
			courante.NewWatch(other, courante.WatchSpec[int]{Of: courante.NewCollection(other, "other", 1, func(string, int, []courante.Event) (any, error) { return nil, nil })})
		},
		"declared twice": func(w *walks) {
			courante.NewWatch(w.walks, courante.WatchSpec[int]{Of: courante.NewCollection(w.walks, "else", 1, func(string, int, []courante.Event) (any, error) { return nil, nil }), Show: show})
		},
	} {
		w := newWalks()
		declare(w)
		db := memory.New(memory.Config{})
		_, err := courante.NewRuntime(courante.Config{Database: db, Services: []courante.Mount{{Service: w.svc, Store: db.Store("walks")}}})
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want that it says %q", err, what)
		}
	}
}

// A watcher whose change cannot be shown is told so, and the others go on.
func TestWatchThatCannotShow(t *testing.T) {
	t.Parallel()
	w := newWalks()
	failure := errors.New("no words for it")
	cursed := courante.Sourced(w.svc, "cursed", courante.Evolve(func(n *int, e stepped) { *n = e.N }))
	curse := courante.NewCommand(w.svc, courante.Step{Name: "curse", Outcomes: []courante.Outcome{{Emits: courante.Types(stepped{})}}})
	watch := courante.NewWatch(cursed, courante.WatchSpec[int]{
		Of: courante.NewCollection(cursed, "cursed", 1, func(_ string, n int, _ []courante.Event) (any, error) { return n, nil }),
		Show: func(_ string, n int, _ *courante.Event) (any, error) {
			if n == 13 {
				return nil, failure
			}
			return n, nil
		},
	})
	stop, err := memory.Start(w.svc)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	set := func(n int) {
		_, err := curse.Do(t.Context(), courante.Call{Keys: []courante.Key{cursed.Key("a")}, Do: func(d *courante.Decision) error {
			cursed.Load(d, "a").Emit(stepped{n})
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	watcher, err := watch.Open(t.Context(), "a", "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	expect(t, watcher, true, 1)
	set(12)
	set(13)
	expect(t, watcher, false, 2)
	if _, err := watcher.Next(t.Context()); !errors.Is(err, failure) {
		t.Errorf("got %v, want %v", err, failure)
	}
	w.steps(t, "a", 1)
	other := w.open(t, "a", "", 0)
	defer other.Close()
	expect(t, other, true, 1)
}

// A watcher that comes back in the midst of a burst, each time perhaps to find
// its topic gone, is told every change once and in order.
func TestWatchersComeBack(t *testing.T) {
	t.Parallel()
	w := startWalks(t, &noise{})
	w.steps(t, "a", 1)
	const rounds, each = 20, 40 // each round is less than what is kept for the slow
	version := int64(1)
	for range rounds {
		var writer sync.WaitGroup
		writer.Go(func() {
			for left := each; left > 0; {
				n := min(left, 1+rand.IntN(3))
				w.steps(t, "a", slices.Repeat([]int{1}, n)...)
				left -= n
			}
		})
		for end := version + each; version < end; {
			watcher := w.open(t, "a", "", version)
			for range 1 + rand.IntN(5) {
				if version < end {
					expect(t, watcher, false, version+1)
					version++
				}
			}
			watcher.Close()
		}
		writer.Wait()
	}
}

// A watcher that does not read holds up nobody, and is told the state anew.
func TestWatcherThatIsSlow(t *testing.T) {
	t.Parallel()
	w := startWalks(t, nil)
	w.steps(t, "a", 1)
	slow, quick := w.open(t, "a", "", 0), w.open(t, "a", "", 0)
	defer slow.Close()
	defer quick.Close()
	expect(t, slow, true, 1)
	expect(t, quick, true, 1)
	for v := int64(2); v <= 300; v++ {
		w.steps(t, "a", int(v))
		expect(t, quick, false, v)
	}
	expect(t, slow, true, 300)
	w.steps(t, "a", 301)
	expect(t, slow, false, 301)
}

// noise is a broadcast that tells things twice, in the wrong order, or not.
type noise struct {
	mu    sync.Mutex // guards heard
	heard func(log string, events []courante.Event)
}

func (b *noise) Tell(_ context.Context, log string, events []courante.Event, _ courante.Cursor) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heard == nil {
		return nil
	}
	for range 2 {
		told := slices.Clone(events)
		rand.Shuffle(len(told), func(i, j int) { told[i], told[j] = told[j], told[i] })
		b.heard(log, told[rand.IntN(len(told)):])
	}
	return nil
}

func (b *noise) Place(context.Context, string) (courante.Cursor, error) {
	return courante.Cursor{}, nil
}

func (b *noise) Hear(ctx context.Context, _ []string, heard func(log string, events []courante.Event)) error {
	b.mu.Lock()
	b.heard = heard
	b.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

// record is a broadcast that keeps what it was told.
type record struct {
	noise
	told []int64
	at   courante.Cursor
}

func (r *record) Tell(_ context.Context, _ string, events []courante.Event, to courante.Cursor) error {
	for i := range events {
		r.told = append(r.told, events[i].Version)
	}
	r.at = to
	return nil
}

func (r *record) Place(context.Context, string) (courante.Cursor, error) { return r.at, nil }

// What was committed, and not yet told when the process died, the next one
// tells.
func TestBroadcastAfterACrash(t *testing.T) {
	t.Parallel()
	db, told := memory.New(memory.Config{}), &record{}
	now := time.Now()
	clock := func() time.Time { // each look at it is a second later, so that no tick has to wait
		now = now.Add(time.Second)
		return now
	}
	process := func() (*walks, func(names ...string)) {
		w := newWalks()
		rt, err := courante.NewRuntime(courante.Config{
			Database: db, Services: []courante.Mount{{Service: w.svc, Store: db.Store("walks")}}, Broadcast: told, Stepped: true, Now: clock,
		})
		if err != nil {
			t.Fatal(err)
		}
		return w, func(names ...string) {
			for _, name := range names {
				i := slices.IndexFunc(rt.Actors(), func(a *courante.Actor) bool { return a.Name == name })
				for worked := true; worked; {
					if worked, err = rt.Actors()[i].Step(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	w, step := process()
	w.steps(t, "a", 1)
	step("ticker", "tail walks", "broadcast walks") // it begins at the end
	w.steps(t, "a", 2)
	step("ticker", "tail walks", "broadcast walks")
	w.steps(t, "a", 3, 4)
	step("ticker", "tail walks") // and here it dies

	w, step = process()
	step("ticker", "tail walks", "broadcast walks")
	w.steps(t, "a", 5)
	step("ticker", "tail walks", "broadcast walks")
	if want := []int64{2, 3, 4, 5}; !slices.Equal(told.told, want) {
		t.Errorf("told were the versions %v, want %v", told.told, want)
	}
}
