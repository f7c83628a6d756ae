package memory_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// TestSimulation runs a few processes that write to shared streams and rows,
// two tickers and a reader under a scheduler that picks the next step at
// random, and breaks calls and processes. Whatever happens, what was
// acknowledged is in the log once and in stream order, what failed is not, and
// the log is read alike while it grows and afterwards.
func TestSimulation(t *testing.T) {
	t.Parallel()
	var committed, unknown, conflicts, deadlocks, crashes, inverted int
	for seed := range uint64(100) {
		w := simulate(seed)
		if again := simulate(seed); again.trace.Sum64() != w.trace.Sum64() {
			t.Fatalf("seed %d gives another history the second time", seed)
		}
		w.check(t, seed)
		committed, unknown = committed+len(w.acknowledged), unknown+len(w.unknown)
		conflicts, deadlocks, crashes = conflicts+w.conflicts, deadlocks+w.deadlocks, crashes+w.crashes
		inverted += w.inverted()
	}
	// A simulation that never meets the hard cases proves nothing.
	t.Logf("%d commits acknowledged, %d unknown, %d conflicts, %d deadlocks, %d crashes, %d events read behind one with a higher position",
		committed, unknown, conflicts, deadlocks, crashes, inverted)
	for name, n := range map[string]int{"commits": committed, "unknown outcomes": unknown, "conflicts": conflicts,
		"deadlocks": deadlocks, "crashes": crashes, "inversions of position": inverted} {
		if n == 0 {
			t.Errorf("no %s in all runs", name)
		}
	}
}

func BenchmarkSimulation(b *testing.B) {
	for seed := uint64(0); b.Loop(); seed++ {
		simulate(seed)
	}
}

var (
	errLost    = courante.Transient(errors.New("connection lost"))
	errUnknown = courante.Unknown(errors.New("connection lost during the commit"))
)

type world struct {
	db      *memory.Database
	rand    *rand.Rand
	trace   interface{ Sum64() uint64 }
	actors  []*actor
	handles []*memory.Store

	acknowledged, unknown         map[string]bool // by the events' payload
	seen                          []courante.Event
	cursor                        courante.Cursor
	conflicts, deadlocks, crashes int
}

func simulate(seed uint64) *world {
	s := &scheduler{}
	trace := fnv.New64a()
	w := &world{
		db:    memory.New(memory.Config{Pause: s.pause}),
		rand:  rand.New(rand.NewPCG(seed, 1)),
		trace: trace,

		acknowledged: make(map[string]bool), unknown: make(map[string]bool),
	}
	const writers = 5
	spawn := func(i int) *actor {
		w.handles[i] = w.db.Store("ordering")
		return newActor(s, func() { w.write(w.handles[i], fmt.Sprintf("%d.%d", i, w.crashes)) })
	}
	w.handles = make([]*memory.Store, writers)
	for i := range writers {
		w.actors = append(w.actors, spawn(i))
	}
	defer func() {
		for _, a := range w.actors {
			a.kill()
		}
	}()
	reader := w.db.Store("ordering")
	for range 2 {
		w.actors = append(w.actors, newActor(s, func() {
			for {
				if _, err := w.db.Tick(context.Background()); errors.Is(err, errStopped) {
					return
				}
			}
		}))
	}
	w.actors = append(w.actors, newActor(s, func() { w.read(reader) }))

	for range 1500 {
		i := w.rand.IntN(len(w.actors))
		a := w.actors[i]
		switch roll := w.rand.IntN(200); {
		case roll == 0 && i < writers:
			w.crashes++
			w.db.Crash(w.handles[i])
			a.kill()
			w.actors[i] = spawn(i)
			continue
		case roll < 6 && (a.point == memory.PointCommitAfter || a.point == memory.PointAppendAfter):
			a.inject = errUnknown
		case roll < 6:
			a.inject = errLost
		}
		a.step()
		fmt.Fprintf(trace, "%d %s\n", i, a.point)
	}
	return w
}

// write commits, again and again, an event on one of a few streams together
// with the states of two rows, which it loads one after the other: so writers
// conflict, wait and deadlock.
func (w *world) write(s *memory.Store, name string) {
	ctx := context.Background()
	for n := 0; ; n++ {
		payload := fmt.Sprintf(`"%s.%d"`, name, n)
		stream := courante.Key{Category: "order", ID: fmt.Sprint(w.rand.IntN(4)), Sourced: true}
		w.unknown[payload] = true // until an answer tells; a crash leaves it so
		var err error
		if w.rand.IntN(2) == 0 {
			err = w.append(ctx, s, stream, payload)
		} else {
			err = w.unit(ctx, s, stream, payload)
		}
		var conflict *courante.ConflictError
		switch {
		case errors.Is(err, errStopped) || errors.Is(err, courante.ErrClosed):
			return
		case errors.Is(err, errUnknown):
			continue
		case err == nil:
			w.acknowledged[payload] = true
		case errors.As(err, &conflict):
			w.conflicts++
		case !errors.Is(err, errLost):
			w.deadlocks++
		}
		delete(w.unknown, payload)
	}
}

func (w *world) append(ctx context.Context, s *memory.Store, stream courante.Key, payload string) error {
	states, err := s.Read(ctx, []courante.Key{stream})
	if err != nil {
		return err
	}
	e := event("", 0)
	e.Data = []byte(payload)
	_, err = s.Append(ctx, stream.Stream(), states[0].Version, e)
	return err
}

func (w *world) unit(ctx context.Context, s *memory.Store, stream courante.Key, payload string) error {
	u, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer u.Rollback(ctx)
	var changes courante.Changes
	for range 2 {
		k := courante.Key{Category: "stock", ID: fmt.Sprint(w.rand.IntN(3))}
		if len(changes.States) > 0 && changes.States[0].Key == k {
			continue
		}
		states, err := u.Load(ctx, []courante.Key{k, stream}, nil)
		if err != nil {
			return err
		}
		states[0].Data = []byte(payload)
		changes.States = append(changes.States, states[0])
		e := event(stream.Stream(), states[1].Version+1)
		e.Data = []byte(payload)
		changes.Events = []courante.Event{e}
	}
	_, err = u.Commit(ctx, changes)
	return err
}

func (w *world) read(s *memory.Store) {
	for {
		events, next, err := s.ReadLog(context.Background(), w.cursor, 1+w.rand.IntN(5))
		if errors.Is(err, errStopped) {
			return
		}
		if err == nil {
			w.seen, w.cursor = append(w.seen, events...), next
		}
	}
}

func (w *world) check(t *testing.T, seed uint64) {
	t.Helper()
	ctx, s := t.Context(), w.db.Store("ordering")
	w.db.Crash(w.handles...)
	if _, err := w.db.Tick(ctx); err != nil {
		t.Fatal(err)
	}
	readOn := func(after courante.Cursor) (all []courante.Event) {
		for {
			events, next, err := s.ReadLog(ctx, after, 7)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if after = next; len(events) == 0 {
				return all
			}
			all = append(all, events...)
		}
	}
	w.seen = append(w.seen, readOn(w.cursor)...)
	again := readOn(courante.Cursor{})
	sameEvent := func(a, b courante.Event) bool {
		return a.ID() == b.ID() && a.Tick == b.Tick && a.Position == b.Position
	}
	if !slices.EqualFunc(w.seen, again, sameEvent) {
		t.Fatalf("seed %d: the log is read differently the second time", seed)
	}
	versions, payloads := make(map[string]int64), make(map[string]bool)
	for _, e := range w.seen {
		if versions[e.Stream]++; versions[e.Stream] != e.Version {
			t.Fatalf("seed %d: %s is read where version %d belongs", seed, e.ID(), versions[e.Stream])
		}
		payload := string(e.Data)
		if payloads[payload] || !w.acknowledged[payload] && !w.unknown[payload] {
			t.Fatalf("seed %d: %s with %s is there twice, or its commit had failed", seed, e.ID(), payload)
		}
		payloads[payload] = true
	}
	for payload := range w.acknowledged {
		if !payloads[payload] {
			t.Fatalf("seed %d: %s was acknowledged and is not in the log", seed, payload)
		}
	}
}

// inverted counts events that follow one with a higher position.
func (w *world) inverted() (n int) {
	for i := 1; i < len(w.seen); i++ {
		if w.seen[i].Position < w.seen[i-1].Position {
			n++
		}
	}
	return n
}
