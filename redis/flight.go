package redis

import (
	"context"
	"sync"

	"github.com/courante-dev/courante"
)

// flights has what several want at the same time made once.
type flights struct {
	running sync.WaitGroup

	mu     sync.Mutex // guards flying
	flying map[string]*flight
}

type flight struct {
	done chan struct{}
	doc  courante.Document
	err  error
}

// do returns what f, or the f of an earlier caller, makes.
func (g *flights) do(ctx context.Context, key string, f func() (courante.Document, error)) (courante.Document, error) {
	fl := g.begin(key, f)
	select {
	case <-fl.done:
		return fl.doc, fl.err
	case <-ctx.Done():
		return courante.Document{}, ctx.Err()
	}
}

// begin makes sure that it is being made.
func (g *flights) begin(key string, f func() (courante.Document, error)) *flight {
	g.mu.Lock()
	defer g.mu.Unlock()
	if fl := g.flying[key]; fl != nil {
		return fl
	}
	if g.flying == nil {
		g.flying = map[string]*flight{}
	}
	fl := &flight{done: make(chan struct{})}
	g.flying[key] = fl
	g.running.Go(func() {
		fl.doc, fl.err = f()
		g.mu.Lock()
		delete(g.flying, key)
		g.mu.Unlock()
		close(fl.done)
	})
	return fl
}

// spawn runs f beside its caller, which is a flight.
func (g *flights) spawn(f func()) { g.running.Go(f) }

// wait returns when nothing is under way. Nothing may begin any more.
func (g *flights) wait() { g.running.Wait() }
