package courante

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// carrier carries a collection in the cache on after its log: of each state that
// has changed it puts the document anew. Its place is a lane of the service's
// own store, and moves after the documents were put, so that a crash repeats
// some and leaves none out; their versions make that harmless.
//
// A cache that has lost something is not filled again from the beginning: a new
// generation begins at the end of the log. What is older than that is loaded by
// who reads it, and cannot have changed since without being put.
type carrier struct {
	n     *node
	of    *Collection
	actor *Actor

	opened   bool
	progress Progress // as recorded
	recorded time.Time
	note     carried
	checked  time.Time // when the cache was last looked at, and leave given
	standby  time.Time // not before: somebody else carries the collection on

	mu sync.Mutex // guards at
	at Cursor
}

// carried is what a carrier records with its place.
type carried struct {
	Version int       `json:"version"` // of the collection
	Mark    CacheMark `json:"mark"`
}

const (
	// carryRead is how many events one step reads at most.
	carryRead = 1 << 10
	// carryLoads is how many documents are made at once. They share queries.
	carryLoads = 32
	// cacheLeave is how long readers may use the cache without hearing from its
	// carrier, and so the oldest that a document can be when the carrier dies or
	// the cache stands still.
	cacheLeave = 3 * time.Second
	// leaveEvery leaves time for one renewal that fails.
	leaveEvery = time.Second
	// carryRecord is how often a place is recorded: what was put since is put
	// again after a crash, which costs less than a commit for each tick.
	carryRecord = time.Second
	// carryStandby is how long a carrier leaves the collection to a faster one.
	carryStandby = 3 * time.Second
)

func (rt *Runtime) enlistCarriers(n *node) {
	if rt.cfg.Cache == nil {
		return
	}
	for _, of := range n.svc.collections {
		c := &carrier{n: n, of: of}
		c.actor = rt.actor(fmt.Sprintf("collection %s/%s", n.svc.name, of.name), c.step, c.next)
		n.carriers = append(n.carriers, c)
	}
}

// name is how the collection is called in leases, and its place in the store.
func (c *carrier) name() string { return "collection/" + c.of.name }

func (c *carrier) lane() Lane {
	return Lane{Subscriber: c.n.svc.name + "/" + c.name(), Log: c.n.svc.name, Epoch: 1}
}

func (c *carrier) step(ctx context.Context) (worked bool, err error) {
	if !c.n.holds(c.name()) || c.n.rt.now().Before(c.standby) {
		c.opened = false
		return false, nil
	}
	worked, err = c.try(ctx)
	var broken *LogBrokenError
	switch {
	case errors.As(err, &broken):
		c.n.rt.log.Warn("the log was restored beneath a collection; it begins anew", "collection", c.of.full(), "error", err)
		c.opened = false
		if err := c.begin(ctx, c.note.Mark); err != nil {
			return false, err
		}
		return true, nil
	case errors.Is(err, ErrFenced):
		c.n.rt.log.Info("another process carries the collection on; standing by", "collection", c.of.full())
		c.opened, c.standby = false, c.n.rt.now().Add(carryStandby)
		return false, nil
	case err != nil:
		c.opened = false
	}
	return worked, err
}

// next is when there is something to do without a wake-up.
func (c *carrier) next() time.Time {
	switch {
	case c.n.rt.now().Before(c.standby):
		return c.standby
	case !c.opened: // it is another process's; a lease that comes wakes us
		return time.Time{}
	}
	return c.checked.Add(leaveEvery)
}

func (c *carrier) try(ctx context.Context) (bool, error) {
	if !c.opened {
		if err := c.open(ctx); err != nil {
			return false, err
		}
	} else if c.n.rt.now().Sub(c.checked) >= leaveEvery {
		if err := c.check(ctx); err != nil {
			return false, err
		}
	}
	at := c.place()
	events, to, err := c.n.rt.tails[c.n.svc.name].read(ctx, at, carryRead)
	if err != nil {
		return false, err
	}
	worked := to != at
	if worked {
		if err := c.put(ctx, events); err != nil {
			return false, err
		}
		c.move(to)
	}
	if len(events) < carryRead && c.n.rt.now().Sub(c.checked) >= leaveEvery {
		if err := c.leave(ctx); err != nil {
			return worked, err
		}
	}
	if c.place() != c.progress.Cursor && c.n.rt.now().Sub(c.recorded) >= carryRecord {
		err = c.record(ctx)
	}
	return worked, err
}

// open finds the place where the collection was left.
func (c *carrier) open(ctx context.Context) error {
	p, err := firstPlace(ctx, c.n.store, c.lane(), 1)
	if err != nil {
		return err
	}
	c.note = carried{}
	if len(p.Note) > 0 {
		if err := json.Unmarshal(p.Note, &c.note); err != nil {
			return fmt.Errorf("collection %s: decode record %d: %w", c.of.full(), p.N, err)
		}
	}
	c.progress, c.recorded = p, c.n.rt.now()
	c.move(p.Cursor)
	c.opened = true
	return c.check(ctx)
}

// check begins anew if the cache has lost something.
func (c *carrier) check(ctx context.Context) error {
	mark, err := c.n.rt.cfg.Cache.Mark(ctx, c.of.full())
	if err != nil {
		return err
	}
	if mark.Generation != c.note.Mark.Generation || mark.Before(c.note.Mark) || c.note.Version != c.of.version {
		if c.note.Mark.Before(mark) {
			c.note.Mark = mark // the store is older than the cache: it was restored
		}
		return c.begin(ctx, c.note.Mark)
	}
	if c.note.Mark.Before(mark) {
		c.note.Mark = mark // put, and not yet recorded when somebody died
	}
	return nil
}

// begin begins the generation after the mark's, at the end of the log. It is
// recorded first: nobody else can then begin the same.
func (c *carrier) begin(ctx context.Context, mark CacheMark) error {
	head, err := c.n.store.Head(ctx)
	if err != nil {
		return err
	}
	c.note = carried{Version: c.of.version, Mark: CacheMark{Generation: mark.Generation + 1}}
	c.move(head)
	if err := c.record(ctx); err != nil {
		return err
	}
	c.n.rt.log.Info("the cache begins anew", "collection", c.of.full(), "generation", c.note.Mark.Generation)
	return c.leave(ctx)
}

// put puts the documents of the states that the events changed.
func (c *carrier) put(ctx context.Context, events []Event) error {
	ids := c.changed(events)
	if len(ids) == 0 {
		return nil
	}
	docs := make([]Document, len(ids))
	errs := make([]error, len(ids))
	var loads sync.WaitGroup
	slots := make(chan struct{}, carryLoads)
	for i, id := range ids {
		slots <- struct{}{}
		loads.Go(func() {
			docs[i], errs[i] = c.of.load(ctx, id)
			<-slots
		})
	}
	loads.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	mark := c.note.Mark
	mark.N++
	if err := c.n.rt.cfg.Cache.Put(ctx, c.of.full(), mark, 0, docs); err != nil {
		return err
	}
	c.note.Mark = mark
	return nil
}

// changed are the ids of the collection's states that the events are of.
func (c *carrier) changed(events []Event) []string {
	var ids []string
	known := map[string]bool{}
	for i := range events {
		if id, ok := strings.CutPrefix(events[i].Stream, c.of.category+":"); ok && !known[id] {
			known[id] = true
			ids = append(ids, id)
		}
	}
	return ids
}

// leave lets readers use the cache: at this moment it is as fresh as the log.
func (c *carrier) leave(ctx context.Context) error {
	now := c.n.rt.now()
	if err := c.n.rt.cfg.Cache.Put(ctx, c.of.full(), c.note.Mark, cacheLeave, nil); err != nil {
		return err
	}
	c.checked = now
	return nil
}

func (c *carrier) record(ctx context.Context) error {
	note, err := json.Marshal(c.note)
	if err != nil {
		return err
	}
	p := Progress{Lane: c.lane(), N: c.progress.N + 1, Cursor: c.place(), Note: note}
	if err := commit(ctx, c.n.store, Changes{Progress: []Progress{p}}); err != nil {
		return err
	}
	c.progress, c.recorded = p, c.n.rt.now()
	return nil
}

func (c *carrier) place() Cursor {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *carrier) move(to Cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = to
}
