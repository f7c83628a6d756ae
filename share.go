package courante

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// SharedStore is a store on which several processes run the same service. It
// shares the service's work among them, each lane with one process at a time.
//
// A lease only saves work: two processes that both believe to have a lane, one
// of them because it slept, are told apart by the lane's progress, as ever.
type SharedStore interface {
	Store

	// Share renews what a process holds and gives it its part of what nobody
	// does. Parts differ by one at most. Whatever is not renewed in time is free
	// for others; the clock is the store's.
	Share(ctx context.Context, c Claim) (Shares, error)
}

// Claim is what a process says when it renews its leases.
type Claim struct {
	Process string        // differs from that of every other process
	For     time.Duration // how long its leases last from now on; 0: it leaves, and holds nothing any more
	Names   []string      // all there is to be held
	Keep    []string      // what it holds and means to keep; it gives the rest back
}

// Shares is the answer to a [Claim].
type Shares struct {
	Processes int      // that are there
	Held      []string // what this one holds
	Part      int      // what it ought to hold; if that is less, it gives some back with its next claim
}

const (
	// A lane of a process that died is without an owner for leaseFor at most.
	leaseFor = 3 * time.Second
	// renewEvery leaves time for two renewals that fail.
	renewEvery = time.Second
	// A place that other processes wait for is recorded so soon.
	sharedRecordAfter = 250 * time.Millisecond
	// sharedPoll is how often a reader looks how far lanes of other processes
	// have come.
	sharedPoll = 20 * time.Millisecond
)

// share keeps a service's part of the work that its processes share.
type share struct {
	n       *node
	store   SharedStore
	process string
	actor   *Actor
	renewed time.Time // when it was asked last

	mu   sync.Mutex           // guards what follows
	held map[string]time.Time // until when
}

func newShare(n *node, store SharedStore) *share {
	return &share{n: n, store: store, process: n.rt.cfg.NewID(), held: map[string]time.Time{}}
}

// laneName is how the lanes of consumer k are called in leases.
func laneName(k int) string { return fmt.Sprintf("lane/%d", k) }

// names are what this process could do.
func (s *share) names() (names []string) {
	for _, c := range s.n.consumers {
		if !c.isBroken() {
			names = append(names, laneName(c.k))
		}
	}
	for _, a := range s.n.agenda {
		names = append(names, a.name())
	}
	for _, c := range s.n.carriers {
		// Who cannot reach the cache leaves it to others, who perhaps can.
		if c.actor.errs.Load() < pausedAfter {
			names = append(names, c.name())
		}
	}
	if b := s.n.broadcaster; b != nil && b.actor.errs.Load() < pausedAfter {
		names = append(names, broadcasterName)
	}
	return names
}

func (s *share) step(ctx context.Context) (bool, error) {
	now := s.n.rt.now()
	if now.Before(s.next()) {
		return false, nil
	}
	names := s.names()
	var keep []string
	s.mu.Lock()
	for name := range s.held {
		if contains(names, name) {
			keep = append(keep, name)
		}
	}
	s.mu.Unlock()
	got, err := s.store.Share(ctx, Claim{Process: s.process, For: leaseFor, Names: names, Keep: keep})
	if err != nil {
		return false, err
	}
	s.renewed = now
	slices.Sort(got.Held)
	if len(got.Held) > got.Part {
		// They stop here now, and are given back with the next renewal.
		got.Held = got.Held[:got.Part]
	}
	s.mu.Lock()
	changed := len(got.Held) != len(s.held)
	held := make(map[string]time.Time, len(got.Held))
	for _, name := range got.Held {
		held[name] = now.Add(leaseFor)
		if _, had := s.held[name]; !had {
			changed = true
		}
	}
	s.held = held
	s.mu.Unlock()
	if changed {
		s.n.rt.log.Info("this process has its part of the service's lanes", "service", s.n.svc.name, "processes", got.Processes, "held", got.Held)
		s.n.wakeConsumers()
		s.n.wakeAgenda()
		for _, c := range s.n.carriers {
			c.actor.Wake()
		}
		if s.n.broadcaster != nil {
			s.n.broadcaster.actor.Wake()
		}
	}
	return false, nil
}

func (s *share) next() time.Time {
	if s.renewed.IsZero() {
		return s.renewed
	}
	return s.renewed.Add(renewEvery)
}

// leave gives everything back, for others to take at once.
func (s *share) leave(ctx context.Context) error {
	s.mu.Lock()
	clear(s.held)
	s.mu.Unlock()
	_, err := s.store.Share(ctx, Claim{Process: s.process})
	return err
}

// holds reports whether that work is this process's. Without sharing all is.
func (n *node) holds(name string) bool {
	if n.share == nil {
		return true
	}
	n.share.mu.Lock()
	defer n.share.mu.Unlock()
	until, held := n.share.held[name]
	return held && n.rt.now().Before(until)
}

// everywhere reports whether all lanes of the service have recorded that they
// processed a log up to the place, in whatever process they run.
func (n *node) everywhere(ctx context.Context, log string, to Cursor) (bool, error) {
	epochs, err := n.store.LaneEpochs(ctx, n.svc.name, log)
	if err != nil || len(epochs) == 0 {
		return false, err
	}
	e := epochs[len(epochs)-1]
	for k := range e.Lanes {
		p, err := laneProgress(ctx, n.store, e, k)
		if err != nil || p.Cursor.Before(to) {
			return false, err
		}
	}
	return true, nil
}
