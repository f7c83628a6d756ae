package replay

import (
	"context"
	"errors"
	"testing"
)

// TestTurns: readers share, writers wait for all before them and hold up all
// after them, and other keys do not matter.
func TestTurns(t *testing.T) {
	t.Parallel()
	q := newSequence()
	take := func(key string, shared bool) turn {
		return q.take([]claim{{key: "other", shared: true}, {key, shared}})
	}
	read1, read2 := take("tea", true), take("tea", true)
	write := take("tea", false)
	read3 := take("tea", true)
	ink := take("ink", false)
	ready := func(what string, turn turn, want bool) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // look, do not wait
		free := true
		for _, b := range turn.before {
			free = free && closed(b)
		}
		if free != want {
			t.Errorf("%s: got ready %v, want %v", what, free, want)
		}
		if err := turn.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: wait: got %v after the end, want it to say so", what, err)
		}
	}
	ready("the first reader", read1, true)
	ready("the second reader", read2, true)
	ready("another key", ink, true)
	ready("a writer behind readers", write, false)
	close(read1.done)
	ready("a writer behind one reader", write, false)
	close(read2.done)
	ready("a writer alone", write, true)
	ready("a reader behind a writer", read3, false)
	close(write.done)
	ready("a reader behind nobody", read3, true)
}

// TestCrowdIsForgotten: a popular key keeps only those that are not done.
func TestCrowdIsForgotten(t *testing.T) {
	t.Parallel()
	q := newSequence()
	slow := q.take([]claim{{"tea", true}})
	for range 10 * crowd {
		close(q.take([]claim{{"tea", true}}).done)
	}
	if n := len(q.lanes["tea"].readers); n > crowd {
		t.Errorf("got %d readers kept, want %d at most", n, crowd)
	}
	write := q.take([]claim{{"tea", false}})
	if len(write.before) != 1 || write.before[0] != (<-chan struct{})(slow.done) {
		t.Errorf("got a writer behind %d readers, want behind the one that is not done", len(write.before))
	}
}
