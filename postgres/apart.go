package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/courante-dev/courante"
)

// maxApart is how many appends that were set apart wait in the server at once,
// each on a connection of its own. They are appends that another process's
// open transaction stands in the way of, so they are few.
const maxApart = 4

// apart writes the appends that would hold up their neighbours: each in a
// transaction of its own, with the long wait of Config.AppendTimeout.
type apart struct {
	store *Store
	slots chan struct{}
	wg    sync.WaitGroup

	mu   sync.Mutex
	idle []*inserter
}

func newApart(s *Store) *apart {
	return &apart{store: s, slots: make(chan struct{}, maxApart)}
}

// add takes the call over and reports its outcome by finish.
func (a *apart) add(call *call, finish func(outcome)) {
	ctx, cancel := context.WithTimeout(context.Background(), a.store.db.config.AppendTimeout)
	a.wg.Go(func() {
		defer cancel()
		o, err := a.write(ctx, call)
		if err != nil {
			o = outcome{err: err}
		}
		finish(o)
	})
}

func (a *apart) write(ctx context.Context, one *call) (outcome, error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return outcome{}, courante.Transient(fmt.Errorf("postgres: append: %w: %d others wait for rows that open transactions hold",
			ctx.Err(), maxApart))
	}
	in, err := a.take(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer a.put(in)
	for tries := 1; ; tries++ {
		left := time.Millisecond
		if until, ok := ctx.Deadline(); ok {
			left = max(left, time.Until(until))
		}
		in.lockTimeout(left)
		// The lock's timeout ends the wait in time, and for certain: with ctx
		// the statement would be canceled, and its outcome perhaps unknown.
		in.deadline(left + answerTimeout)
		results, err := in.insert(context.Background(), []*call{one}, nil)
		switch {
		case err == nil:
			return results[0], nil
		case ctx.Err() != nil || tries > maxRepeats:
		case partClosed(err):
			if err := a.store.refreshPart(ctx, in.conn); err != nil {
				return outcome{}, err
			}
			continue
		case hasCode(err, "23505", "40001", "40P01"): // whoever held the row has committed
			continue
		}
		return outcome{}, translateCommit("append, set apart because an open transaction holds what it needs", err)
	}
}

func (a *apart) take(ctx context.Context) (*inserter, error) {
	a.mu.Lock()
	for len(a.idle) > 0 {
		in := a.idle[len(a.idle)-1]
		a.idle = a.idle[:len(a.idle)-1]
		if !in.conn.IsClosed() {
			a.mu.Unlock()
			return in, nil
		}
	}
	a.mu.Unlock()
	return a.store.connectInserter(ctx, a.store.db.config.AppendTimeout)
}

func (a *apart) put(in *inserter) {
	if in.conn.IsClosed() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle = append(a.idle, in)
}

// close waits for the appends that were set apart.
func (a *apart) close() {
	a.wg.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, in := range a.idle {
		in.close()
	}
	a.idle = nil
}
