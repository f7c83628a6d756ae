package courante

import (
	"context"
	"sync"
	"time"
)

// group answers calls that come at once with one question to the store, as
// appends and commands share transactions. A question takes all calls that wait
// when it begins, and none that comes later, so every answer is as fresh as if
// the caller had asked alone.
type group[Q, A any] struct {
	ask func(ctx context.Context, questions []Q) ([]A, error) // answers in the order of the questions

	mu      sync.Mutex // guards what follows
	waiting []*asked[Q, A]
	asking  int
}

type asked[Q, A any] struct {
	question Q
	answer   A
	err      error
	done     chan struct{}
}

const (
	// groupAsking is how many questions are under way at once: while the
	// database answers one, the answers to the other are worked on.
	groupAsking = 2
	// groupMost is how many calls share a question. A state has some kB.
	groupMost = 128
	// groupTimeout is for a database that does not answer. It is not the
	// callers' to cancel: others wait for the same answer.
	groupTimeout = 30 * time.Second
)

// call returns the answer to the question, or ctx's error when it ends first.
func (g *group[Q, A]) call(ctx context.Context, q Q) (A, error) {
	c := &asked[Q, A]{question: q, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	if g.asking < groupAsking {
		g.asking++
		go g.run()
	}
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

// run asks until nobody waits.
func (g *group[Q, A]) run() {
	for {
		calls := g.take()
		if len(calls) == 0 {
			return
		}
		questions := make([]Q, len(calls))
		for i, c := range calls {
			questions[i] = c.question
		}
		ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
		answers, err := g.ask(ctx, questions)
		cancel()
		for i, c := range calls {
			if c.err = err; err == nil {
				c.answer = answers[i]
			}
			close(c.done)
		}
	}
}

func (g *group[Q, A]) take() []*asked[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), groupMost)
	if n == 0 {
		g.asking--
		return nil
	}
	calls := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	if len(g.waiting) == 0 {
		g.waiting = nil // let go of the array
	}
	return calls
}
