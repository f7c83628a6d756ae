package courante_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/courante-dev/courante"
)

func TestSnapshotSeesWhatEndedBeforeIt(t *testing.T) {
	t.Parallel()
	s, err := courante.ParseSnapshot("10:20:12,15")
	if err != nil {
		t.Fatal(err)
	}
	for xid, want := range map[uint64]bool{9: true, 10: true, 12: false, 13: true, 15: false, 19: true, 20: false, 99: false} {
		if got := s.Visible(xid); got != want {
			t.Errorf("Visible(%d) = %t, want %t", xid, got, want)
		}
	}
	if s.String() != "10:20:12,15" {
		t.Errorf("String = %q", s)
	}
}

func FuzzParseSnapshot(f *testing.F) {
	for _, seed := range []string{"10:20:12,15", "1:1:", "", "::", "5:4:", "1:2:3,", "18446744073709551615:1:x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := courante.ParseSnapshot(text)
		if err != nil {
			return
		}
		again, err := courante.ParseSnapshot(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q reads as %q and that as %q, %v", text, s, again, err)
		}
	})
}

// TestOrderIsTheFirstTickThatSees compares Order with its definition, on random
// histories: transactions take ids, hold them for a while, commit in any order,
// and ticks are taken in between.
func TestOrderIsTheFirstTickThatSees(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var (
			next, position = uint64(100), int64(0)
			running        []uint64
			ticks          []courante.Tick
			events         []courante.Event
			want           = map[int64]int64{} // tick by position
			unseen         []courante.Event    // committed, not in a tick yet
			open           = map[uint64][]courante.Event{}
		)
		for range 400 {
			switch rnd.IntN(5) {
			case 0, 1: // begin
				running = append(running, next)
				next++
			case 2: // insert
				if len(running) > 0 {
					xid := running[rnd.IntN(len(running))]
					position++
					open[xid] = append(open[xid], courante.Event{Xid: xid, Position: position})
				}
			case 3: // commit
				if len(running) > 0 {
					i := rnd.IntN(len(running))
					unseen = append(unseen, open[running[i]]...)
					running = slices.Delete(running, i, i+1)
				}
			case 4: // tick
				s := courante.Snapshot{Xmin: next, Xmax: next, InProgress: slices.Sorted(slices.Values(running))}
				if len(running) > 0 {
					s.Xmin = s.InProgress[0]
				}
				ticks = append(ticks, courante.Tick{N: int64(len(ticks) + 1), Epoch: 1, Snapshot: s})
				for _, e := range unseen {
					want[e.Position] = int64(len(ticks))
				}
				events, unseen = append(events, unseen...), nil
			}
		}
		all := slices.Concat(events, unseen)
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		got := courante.Order(all, ticks)
		if len(got) != len(events) {
			t.Fatalf("seed %d: %d events in ticks, want %d", seed, len(got), len(events))
		}
		for i, e := range got {
			if e.Tick != want[e.Position] {
				t.Fatalf("seed %d: position %d in tick %d, want %d", seed, e.Position, e.Tick, want[e.Position])
			}
			if i > 0 && !got[i-1].Cursor().Before(e.Cursor()) {
				t.Fatalf("seed %d: %v before %v", seed, got[i-1].Cursor(), e.Cursor())
			}
			if e.TickHash != ticks[e.Tick-1].Hash() {
				t.Fatalf("seed %d: event of tick %d has another tick's hash", seed, e.Tick)
			}
		}
	}
}

func TestHashTellsTicksApart(t *testing.T) {
	t.Parallel()
	one := courante.Tick{N: 5, Epoch: 1, Snapshot: courante.Snapshot{Xmin: 10, Xmax: 20, InProgress: []uint64{12}}}
	for name, other := range map[string]courante.Tick{
		"number":      {N: 6, Epoch: 1, Snapshot: one.Snapshot},
		"epoch":       {N: 5, Epoch: 2, Snapshot: one.Snapshot},
		"in progress": {N: 5, Epoch: 1, Snapshot: courante.Snapshot{Xmin: 10, Xmax: 20, InProgress: []uint64{13}}},
	} {
		if one.Hash() == other.Hash() {
			t.Errorf("a tick with another %s has the same hash", name)
		}
	}
}
