package courante

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// topics are the states of a service that somebody in this process watches.
type topics struct {
	mu     sync.Mutex // guards what follows, and topic.watchers; never held during I/O
	byName map[string]*topic
}

// topic is one state that is watched. It has no goroutine: whoever watches does
// what is to be done, one of them for all.
type topic struct {
	stream   string
	watchers int // guarded by topics.mu

	mu      sync.Mutex // guards what follows; never held during I/O
	fold    folding
	folded  int64         // version up to which events were folded
	from    int64         // version after which told is complete
	told    []Update      // what was made of events, the latest last
	token   Token         // of the last event folded
	ended   bool          // as of folded
	heard   []Event       // to be folded: they come one after the other
	known   int64         // version of the latest event that was ever heard of
	reading bool          // one watcher reads the stream, the others wait for it
	broken  error         // nothing more can be made of its events
	changed chan struct{} // closed at the next change
}

const (
	// topicKeeps is how many updates a topic keeps for who is slow, or was away.
	// An order has ten in its life; what changes more often is better shown anew.
	topicKeeps = 64
	// topicHears is how many events wait to be folded; more are read again.
	topicHears = 64
	// rereadAfter is how long a watcher waits to read the stream once more after
	// that failed; chance adds up to as much again.
	rereadAfter = 500 * time.Millisecond
)

// errFarBehind says that what a watcher wants next is not kept any more.
var errFarBehind = errors.New("the watcher is far behind")

// join returns the topic of the stream, for a watcher who leaves it again.
func (ts *topics) join(stream string, fold func(id string) folding, id string) *topic {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byName[stream]
	if t == nil {
		if ts.byName == nil {
			ts.byName = map[string]*topic{}
		}
		t = &topic{stream: stream, fold: fold(id), changed: make(chan struct{})}
		ts.byName[stream] = t
	}
	t.watchers++
	return t
}

func (ts *topics) leave(t *topic) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.watchers--; t.watchers == 0 {
		delete(ts.byName, t.stream)
	}
}

// hear takes events of the service's log, from wherever they come: in any
// order, twice, and some of them never.
func (ts *topics) hear(events []Event) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.byName) == 0 {
		return
	}
	for i := range events {
		if t := ts.byName[events[i].Stream]; t != nil {
			t.hear(&events[i])
		}
	}
}

func (t *topic) hear(e *Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Version <= t.known {
		return
	}
	if e.Version == t.known+1 && len(t.heard) < topicHears {
		t.heard = append(t.heard, *e)
	} else {
		t.heard = nil // there is a gap, so all of it is read
	}
	t.known = e.Version
	t.signal()
}

// signal wakes all who wait for a change. The mutex is held.
func (t *topic) signal() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// advance folds what was heard. The mutex is held.
func (t *topic) advance() {
	for i := range t.heard {
		if t.broken == nil && t.heard[i].Version == t.folded+1 {
			t.take(&t.heard[i])
		}
	}
	t.heard = nil
}

func (t *topic) take(e *Event) {
	data, ended, err := t.fold(e)
	if err != nil {
		t.broken = err
		return
	}
	t.folded, t.ended, t.token = e.Version, ended, Token{Log: e.Log, Epoch: e.Epoch, Xid: e.Xid}
	t.known = max(t.known, t.folded)
	if data == nil {
		return
	}
	if len(t.told) >= topicKeeps {
		t.from = t.told[0].Version
		t.told = append(t.told[:0:0], t.told[1:]...)
	}
	t.told = append(t.told, Update{Version: e.Version, Token: t.token, Data: data})
}

// ready returns when everything up to the version is folded, if there is so much.
func (t *topic) ready(ctx context.Context, store Store, version int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		t.advance()
		switch {
		case t.broken != nil:
			return t.broken
		case t.folded >= version:
			return nil
		case !t.reading:
			if err := t.read(ctx, store); err != nil {
				return err
			}
			return t.broken
		default:
			if err := t.wait(ctx); err != nil {
				return err
			}
		}
	}
}

// next returns the update after the version.
func (t *topic) next(ctx context.Context, n *node, after int64) (Update, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		t.advance()
		if after < t.from {
			return Update{}, errFarBehind
		}
		for i := range t.told {
			if t.told[i].Version > after {
				return t.told[i], nil
			}
		}
		var err error
		switch {
		case t.broken != nil:
			return Update{}, t.broken
		case t.ended && t.folded == t.known:
			return Update{}, io.EOF
		case t.folded < t.known && !t.reading:
			if err = t.read(ctx, n.store); err != nil && ctx.Err() == nil {
				// The store is away, which it never is for long. The others wait with
				// this one, instead of asking too.
				n.rt.log.Debug("watchers wait for the store", "stream", t.stream, "error", err)
				t.reading = true
				t.mu.Unlock()
				pause(ctx, rereadAfter+time.Duration(float64(rereadAfter)*n.rt.cfg.Rand()))
				t.mu.Lock()
				t.reading, err = false, nil
				t.signal()
			}
		default:
			err = t.wait(ctx)
		}
		if ctx.Err() != nil {
			return Update{}, ctx.Err()
		}
		if err != nil {
			return Update{}, err
		}
	}
}

// read folds what the stream has after what was folded. The mutex is held, and
// released while it reads.
func (t *topic) read(ctx context.Context, store Store) error {
	t.reading = true
	after := t.folded
	t.mu.Unlock()
	var events []Event
	var err error
	for e, failed := range store.ReadStream(ctx, t.stream, after) {
		if err = failed; err != nil {
			break
		}
		events = append(events, e)
	}
	t.mu.Lock()
	t.reading = false
	defer t.signal()
	if err != nil {
		return err
	}
	for i := range events {
		if t.broken == nil && events[i].Version == t.folded+1 {
			t.take(&events[i])
		}
	}
	if t.folded < t.known && t.folded == after && t.broken == nil {
		// What was heard of is not there: the log was restored beneath us.
		t.known = t.folded
	}
	return nil
}

// wait waits for a change. The mutex is held, and released while it waits.
func (t *topic) wait(ctx context.Context) error {
	changed := t.changed
	t.mu.Unlock()
	defer t.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// covers reports whether one who has seen the version can be told the rest. A
// version that there never was, or not any more after a restore, cannot.
func (t *topic) covers(version int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return version > 0 && t.from <= version && version <= t.folded
}

func (t *topic) endedAt(version int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended && t.folded == t.known && (len(t.told) == 0 || t.told[len(t.told)-1].Version <= version)
}

func (t *topic) latest() Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
