package replay

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
)

// Bounds of what is in memory and under way.
const (
	// maxWaiting is how many requests may wait for their turn: enough to find
	// some that can go beside a customer with hundreds of orders.
	maxWaiting = 1024

	// underWayEach is how many orders may be on their way to their end for each
	// request at once. More would not be faster: they would wait in the system,
	// each against its deadline.
	underWayEach = 16
)

// engine sends the steps of a file.
type engine struct {
	hash     string
	client   *client
	watcher  *watcher
	account  *account
	ledger   *ledger
	sequence *sequence

	stop     context.CancelCauseFunc
	work     sync.WaitGroup
	waiting  chan struct{} // places of requests that are not answered
	underWay chan struct{} // places of orders that have not ended

	trouble               trouble
	orders, ordersRefused atomic.Int64
	stocked, toStock      atomic.Int64 // SKUs received before the first order
}

// key is the idempotency key of what begins at a line. It is the same in every
// run, which is what makes it safe to run again.
func (e *engine) key(line int) string { return fmt.Sprintf("%s.%d", e.hash[:32], line) }

// feed starts the steps, each as soon as it may go, and returns when all are
// started. What an earlier run has done is not done at its pace again: if the
// system has the first order, it is asked for each until one is not there.
func (e *engine) feed(ctx context.Context, steps iter.Seq2[step, error], p *pace, first string) error {
	repeating := false
	if p.slow() && first != "" {
		var err error
		if _, repeating, err = e.watcher.get(ctx, first, ""); err != nil {
			return err
		}
	}
	for s, err := range steps {
		if err != nil {
			return err
		}
		if repeating && s.id != "" {
			if _, repeating, err = e.watcher.get(ctx, s.id, ""); err != nil {
				return err
			}
		}
		if !repeating {
			err = p.wait(ctx, s.at)
		}
		if err != nil {
			return err
		}
		if err := e.start(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// start gives the step its place and lets it run. Places are taken in the order
// of the file, and a step only waits for earlier ones, so none waits for ever.
func (e *engine) start(ctx context.Context, s step) error {
	if err := place(ctx, e.waiting); err != nil {
		return err
	}
	if s.order {
		if err := place(ctx, e.underWay); err != nil {
			<-e.waiting
			return err
		}
		e.orders.Add(1)
	}
	turn := e.sequence.take(s.claims)
	answered := sync.OnceFunc(func() {
		close(turn.done)
		<-e.waiting
	})
	e.background(ctx, func(ctx context.Context) error {
		defer answered()
		if err := turn.wait(ctx); err != nil {
			if s.order {
				e.leave()
			}
			return err
		}
		return s.run(ctx, e, answered)
	})
	return nil
}

// background runs a part of the replay; if it fails, the replay ends.
func (e *engine) background(ctx context.Context, run func(context.Context) error) {
	e.work.Go(func() {
		if err := run(ctx); err != nil {
			e.stop(err)
		}
	})
}

// leave gives back the place of an order under way.
func (e *engine) leave() { <-e.underWay }

func place(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
