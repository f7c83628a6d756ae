package courante

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

func newNode(rt *Runtime, m Mount) *node {
	n := &node{
		rt: rt, svc: m.Service, store: m.Store, commands: commandQueue{begun: make(chan struct{})},
		labels: newLabels(m.Service), journeys: newJourneys(m.Service, rt.cfg.Shared),
	}
	n.backlog.n = n
	n.reads.ask = n.store.Read
	n.locates.ask = n.locateEach
	return n
}

// read reads a state, together with those that others want at the same time.
func (n *node) read(ctx context.Context, key Key) (State, error) {
	if n.rt.cfg.Stepped { // it runs nothing by itself
		states, err := n.store.Read(ctx, []Key{key})
		if err != nil {
			return State{}, err
		}
		return states[0], nil
	}
	return n.reads.call(ctx, key)
}

// locateEach says of each token what is wrong with it, if anything is. Tokens
// of one epoch share their fate, so one look decides for all of them.
func (n *node) locateEach(ctx context.Context, tokens []Token) ([]error, error) {
	errs := make([]error, len(tokens))
	known := map[int32]error{}
	for i, t := range tokens {
		err, looked := known[t.Epoch]
		if !looked {
			if _, err = n.store.Locate(ctx, t); errors.Is(err, ErrNotFound) {
				err = nil
			}
			known[t.Epoch] = err
		}
		errs[i] = err
	}
	return errs, nil
}

// command runs one call and answers it.
func (n *node) command(ctx context.Context, c *Command, call Call) (res Result, err error) {
	it := &item{
		step: c.step, keys: call.Keys, decide: call.Do, correlation: call.Correlation,
		causation: "command:" + n.rt.newID(),
	}
	if it.correlation == "" && len(call.Keys) > 0 {
		it.correlation = call.Keys[0].ID
	}
	start := time.Now()
	ctx = n.rt.begin(ctx, it, n.svc.name+" "+c.Name)
	defer func() {
		n.rt.metrics.command(ctx, n, c, time.Since(start), err)
		it.end(err)
	}()
	if call.Idempotency == "" {
		return n.settle(ctx, it)
	}
	it.idem = &Reply{Key: call.Idempotency, Hash: call.Hash}
	if !n.rt.cfg.Stepped { // there is one goroutine, which must not wait for itself; the stored reply decides
		release, err := n.commands.exclusive(ctx, call.Idempotency)
		if err != nil {
			return Result{}, err
		}
		defer release()
	}
	res, err = n.settle(ctx, it)
	if err == nil {
		return res, nil
	}
	// The key may have been used before: then the first answer stands, whatever
	// this run would have said.
	reply, lookup := n.store.Reply(ctx, call.Idempotency)
	switch {
	case errors.Is(lookup, ErrNotFound):
		return Result{}, err
	case lookup != nil:
		return Result{}, lookup
	case reply.Hash != call.Hash:
		return Result{}, Reject("key_reused", "the idempotency key was used before with another request")
	}
	return Result{Reply: reply.Body, Token: reply.Token, Repeated: true}, nil
}

// settle submits the call until its outcome is known.
func (n *node) settle(ctx context.Context, it *item) (Result, error) {
	const tries = 5
	var unknown *Event // first event of a run whose commit was not answered
	for try := 1; ; try++ {
		err := n.submit(ctx, it)
		if err == nil {
			err = it.err
		}
		if err == nil {
			return it.result(), nil
		}
		if errors.Is(err, ErrUnknownOutcome) && it.decision != nil {
			if first, ok := it.decision.first(); ok {
				unknown = &first
			} else {
				return Result{}, err // it left no mark that could be found
			}
		}
		if unknown != nil {
			token, committed, lookup := n.find(ctx, unknown)
			if committed {
				it.token = token
				return it.result(), nil
			}
			if lookup != nil {
				return Result{}, Unknown(errors.Join(err, lookup))
			}
		}
		if !isTransient(err) || errors.Is(err, ErrClosed) || errors.Is(err, ErrOverloaded) || try == tries || ctx.Err() != nil {
			return Result{}, err
		}
		if !n.rt.cfg.Stepped {
			select {
			case <-ctx.Done():
				return Result{}, err
			case <-time.After(n.rt.backoff(try, minPause, time.Second)):
			}
		}
	}
}

func (it *item) result() Result {
	r := Result{Token: it.token}
	if it.decision != nil {
		r.Reply = it.decision.reply
	}
	return r
}

// find looks for an event whose commit was not answered.
func (n *node) find(ctx context.Context, e *Event) (Token, bool, error) {
	for have, err := range n.store.ReadStream(ctx, e.Stream, e.Version-1) {
		if err != nil {
			return Token{}, false, err
		}
		if have.Causation == e.Causation {
			return Token{Log: n.svc.name, Epoch: have.Epoch, Xid: have.Xid}, true, nil
		}
		// Somebody else's event has the version, or ours comes later.
	}
	return Token{}, false, nil
}

// submit has the item decided on and written. The error is the unit's; the
// item's own is in it.err.
func (n *node) submit(ctx context.Context, it *item) error {
	if n.rt.cfg.Stepped {
		return n.process(ctx, &work{items: []*item{it}})
	}
	return n.commands.submit(ctx, it)
}

// commandQueue merges what many goroutines submit at once into few
// transactions: a worker takes what is queued, without lingering, so a batch
// grows by itself under load.
type commandQueue struct {
	workers []*worker
	begun   chan struct{} // closed when Run has begun, or ended before that

	mu   sync.Mutex // guards what follows
	open bool
	busy map[string]chan struct{} // idempotency keys under way
}

// worker decides on the items whose first key hashes to it: what concerns one
// state is decided by one worker, so that callers in this process do not
// conflict with each other.
type worker struct {
	wake chan struct{}

	mu    sync.Mutex // guards queue
	queue []*item
}

const (
	commandWorkers = 2    // one decides while the other waits for its commit; a third made units smaller, see docs/benchmarks.md
	commandBatch   = 256  // more saves nothing, see facts on group size in docs/benchmarks.md
	commandQueued  = 8192 // beyond it a caller would wait for seconds; it is told at once instead
)

// ErrOverloaded says that more commands are waiting than can be served soon.
var ErrOverloaded = errors.New("overloaded")

func (q *commandQueue) start(ctx context.Context, n *node, wg *sync.WaitGroup) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range commandWorkers {
		w := &worker{wake: make(chan struct{}, 1)}
		q.workers = append(q.workers, w)
		wg.Go(func() { w.run(ctx, n) })
	}
	q.open = true
	close(q.begun)
}

// close lets the workers finish what is queued and refuses further items.
func (q *commandQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open {
		close(q.begun)
		return
	}
	q.open = false
	for _, w := range q.workers {
		close(w.wake)
	}
}

func (q *commandQueue) submit(ctx context.Context, it *item) error {
	select {
	case <-q.begun:
	case <-ctx.Done():
		return ctx.Err()
	}
	it.done = make(chan error, 1)
	key := it.correlation
	if len(it.keys) > 0 {
		key = it.keys[0].ID
	}
	q.mu.Lock()
	if !q.open {
		q.mu.Unlock()
		return Transient(fmt.Errorf("runtime is not running: %w", ErrClosed))
	}
	w := q.workers[LaneOf(key, len(q.workers))]
	w.mu.Lock()
	if len(w.queue) >= commandQueued {
		w.mu.Unlock()
		q.mu.Unlock()
		return Transient(ErrOverloaded)
	}
	w.queue = append(w.queue, it)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	q.mu.Unlock()

	select {
	case err := <-it.done:
		return err
	case <-ctx.Done():
	}
	if w.remove(it) {
		return ctx.Err()
	}
	// A worker has it. Its transaction is not ours to cancel, and it is short.
	err := <-it.done
	return err
}

// remove takes back an item that no worker has begun with.
func (w *worker) remove(it *item) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, queued := range w.queue {
		if queued == it {
			w.queue = append(w.queue[:i], w.queue[i+1:]...)
			return true
		}
	}
	return false
}

func (w *worker) take() []*item {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), commandBatch)
	items := w.queue[:n:n]
	w.queue = w.queue[n:]
	if len(w.queue) == 0 {
		w.queue = nil // let go of the array
	}
	return items
}

func (w *worker) run(ctx context.Context, n *node) {
	for {
		items := w.take()
		if len(items) == 0 {
			if _, open := <-w.wake; !open {
				if items = w.take(); len(items) == 0 {
					return
				}
			} else {
				continue
			}
		}
		end := n.rt.beginBatch(ctx, n, items)
		err := n.process(ctx, &work{items: items})
		end(err)
		for _, it := range items {
			if it.over {
				it.done <- nil
				continue
			}
			it.done <- err
		}
	}
}

// exclusive waits until no other call with the key is under way in this
// process. Across processes the stored reply decides.
func (q *commandQueue) exclusive(ctx context.Context, key string) (release func(), err error) {
	for {
		q.mu.Lock()
		other := q.busy[key]
		if other == nil {
			if q.busy == nil {
				q.busy = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			q.busy[key] = mine
			q.mu.Unlock()
			return func() {
				q.mu.Lock()
				delete(q.busy, key)
				q.mu.Unlock()
				close(mine)
			}, nil
		}
		q.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// progressed returns a channel that is closed at the next progress of a lane.
func (n *node) progressed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.movedC == nil {
		n.movedC = make(chan struct{})
	}
	return n.movedC
}

func (n *node) signalProgress() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.movedC != nil {
		close(n.movedC)
		n.movedC = nil
	}
}
