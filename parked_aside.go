package courante

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"
)

// aside is what a consumer knows of the messages that are set aside in its
// lane: of each key what its first one waits for, and nothing of what they
// hold, because there may be many.
type aside struct {
	revision int64
	looked   time.Time // when it last looked for what operators did
	due      dueKeys   // those that go on by themselves

	mu   sync.Mutex // guards changes of keys, which the metrics read
	keys map[string]*asideKey
}

type asideKey struct {
	AsideKey
	index int // in due, -1 if it waits for a person
}

func newAside(revision int64, looked time.Time) *aside {
	return &aside{revision: revision, looked: looked, keys: map[string]*asideKey{}}
}

// has reports whether messages of the key are set aside.
func (a *aside) has(key string) bool { return a.keys[key] != nil }

func (a *aside) set(k AsideKey) {
	a.remove(k.Key)
	own := &asideKey{AsideKey: k, index: -1}
	a.mu.Lock()
	a.keys[k.Key] = own
	a.mu.Unlock()
	if !k.Failed || !k.RetryAt.IsZero() {
		heap.Push(&a.due, own)
	}
}

func (a *aside) remove(key string) {
	if have := a.keys[key]; have != nil {
		a.mu.Lock()
		delete(a.keys, key)
		a.mu.Unlock()
		if have.index >= 0 {
			heap.Remove(&a.due, have.index)
		}
	}
}

// take returns keys whose time has come, at most max.
func (a *aside) take(now time.Time, max int) []string {
	var keys []string
	var taken []*asideKey
	for len(a.due) > 0 && len(keys) < max && !a.due[0].RetryAt.After(now) {
		k := heap.Pop(&a.due).(*asideKey)
		keys, taken = append(keys, k.Key), append(taken, k)
	}
	for _, k := range taken {
		heap.Push(&a.due, k) // it stays due until it is known what became of it
	}
	return keys
}

// dueKeys is a heap: the first to be tried comes first, and of several the
// smallest key, for one order in every run.
type dueKeys []*asideKey

func (d dueKeys) Len() int { return len(d) }
func (d dueKeys) Less(i, j int) bool {
	if !d[i].RetryAt.Equal(d[j].RetryAt) {
		return d[i].RetryAt.Before(d[j].RetryAt)
	}
	return d[i].Key < d[j].Key
}

func (d dueKeys) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

// Push is for container/heap.
func (d *dueKeys) Push(x any) {
	k := x.(*asideKey)
	k.index = len(*d)
	*d = append(*d, k)
}

// Pop is for container/heap.
func (d *dueKeys) Pop() any {
	last := len(*d) - 1
	k := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	k.index = -1
	return k
}

// lookAsideEvery is how soon a requeued message is taken up. It costs one read
// of one row, and only while something is set aside.
const lookAsideEvery = time.Second

// retry takes up messages of the keys whose time has come: those that failed
// and what waits behind them, in order, as many as make a batch.
func (c *consumer) retry(ctx context.Context) (bool, error) {
	if err := c.lookAside(ctx); err != nil {
		return false, err
	}
	keys := c.aside.take(c.n.rt.now(), c.n.rt.cfg.Batch)
	if len(keys) == 0 {
		return false, nil
	}
	list, err := c.n.store.Parked(ctx, c.n.svc.name, ParkedQuery{Keys: keys, Max: c.n.rt.cfg.Batch})
	if err != nil {
		return false, err
	}
	w := &work{}
	for i := range list {
		w.items = append(w.items, c.n.again(&list[i]))
	}
	if err := c.run(ctx, w); err != nil {
		return false, err
	}
	return true, c.readAside(ctx, keys)
}

// again is the item of a message that was set aside.
func (n *node) again(p *Parked) *item {
	it := n.deliver(&p.Event, n.reaction(p), &decoded{})
	it.parked = p
	return it
}

// reaction finds the reaction that a parked message is for. If the program does
// not declare it any more, the message stays parked and says so.
func (n *node) reaction(p *Parked) *reaction {
	for _, r := range n.svc.reactions[p.Event.Type] {
		if r.Name == p.Reaction {
			return r
		}
	}
	gone := fmt.Errorf("reaction %q to %s is not declared in this program", p.Reaction, p.Event.Type)
	return &reaction{
		step:   &step{Step: Step{Name: p.Reaction}, service: n.svc},
		decode: func(*Event) (any, error) { return nil, Park(gone) },
	}
}

// noteParked takes over what a unit has set aside. Of a key that is aside
// already nothing changes: the message waits behind the others.
func (c *consumer) noteParked(ctx context.Context, w *work) {
	for i := range w.parked {
		p := &w.parked[i]
		if p.Cause != "" {
			c.n.rt.log.Error("message set aside", "service", c.n.svc.name, "reaction", p.Reaction, "event_id", p.Event.ID(),
				"correlation_id", p.Event.Correlation, "fingerprint", p.Fingerprint, "attempts", p.Attempts, "retry_at", p.RetryAt, "error", p.Cause)
			c.n.rt.metrics.parked.Add(ctx, 1, c.n.labels.service)
		}
		if !c.aside.has(p.Key) {
			c.aside.set(AsideKey{Key: p.Key, Failed: p.Cause != "", RetryAt: p.RetryAt})
		}
	}
}

// next is when there is something to do about what is set aside.
func (c *consumer) nextAside() time.Time {
	if c.aside == nil || len(c.aside.keys) == 0 {
		return time.Time{}
	}
	next := c.aside.looked.Add(lookAsideEvery)
	if due := c.aside.due; len(due) > 0 {
		switch at := due[0].RetryAt; {
		case at.IsZero():
			return c.aside.looked // at once
		case at.Before(next):
			return at
		}
	}
	return next
}

// lookAside looks whether an operator has requeued or discarded something.
func (c *consumer) lookAside(ctx context.Context) error {
	now := c.n.rt.now()
	if len(c.aside.keys) == 0 || now.Sub(c.aside.looked) < lookAsideEvery {
		return nil
	}
	c.aside.looked = now
	none, err := c.n.store.Aside(ctx, c.n.svc.name, []string{})
	if err != nil || none.Revision == c.aside.revision {
		return err
	}
	return c.loadAside(ctx)
}

// loadAside reads what is set aside in the consumer's lane.
func (c *consumer) loadAside(ctx context.Context) error {
	all, err := c.n.store.Aside(ctx, c.n.svc.name, nil)
	if err != nil {
		return err
	}
	c.aside = newAside(all.Revision, c.n.rt.now())
	for _, k := range all.Keys {
		if LaneOf(k.Key, c.lanes)%c.n.rt.cfg.Lanes == c.k {
			c.aside.set(k)
		}
	}
	c.publishAside()
	return nil
}

// readAside reads what is set aside of these keys of the consumer's lane.
func (c *consumer) readAside(ctx context.Context, keys []string) error {
	now, err := c.n.store.Aside(ctx, c.n.svc.name, keys)
	if err != nil {
		return err
	}
	for _, key := range keys {
		c.aside.remove(key)
	}
	for _, k := range now.Keys {
		c.aside.set(k)
	}
	return nil
}
