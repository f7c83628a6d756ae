package courante

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Watch tells live what changes in the states of one entity, to those who watch
// one of them: a customer who looks at his order.
//
// A watcher gets the state's document first and then each change of it, in order
// and none left out, because each has the version of its event. Changes come
// from the end of the log, which the process keeps in memory anyway, and by
// the [Broadcast] of the runtime if there is one; whichever is first counts, and what
// both have missed is noticed by its version and read from the stream. So who
// was away names the last version he has seen, to whatever process, and is told
// from there.
type Watch struct {
	svc      *Service
	category string
	types    []string // of events that change the states, sorted
	shown    *Collection
	fold     func(id string) folding
}

// WatchSpec declares a [Watch].
type WatchSpec[S any] struct {
	// Of is where watchers get the state from that they begin with.
	Of *Collection

	// Show makes of an event, and of the state right after it, what watchers are
	// told, as a value for JSON. It depends on nothing else and keeps nothing of
	// the state. Nil tells nothing.
	Show func(id string, state S, e *Event) (any, error)

	// Ended reports that nothing will happen to the state any more, so that its
	// watchers may go. Nil: something always may.
	Ended func(state S) bool
}

// NewWatch declares that states of the entity can be watched.
func NewWatch[S any](e *Entity[S], spec WatchSpec[S]) *Watch {
	w := &Watch{svc: e.svc, category: e.category, shown: spec.Of}
	for typ := range e.evolve {
		w.types = append(w.types, typ)
	}
	slices.Sort(w.types)
	w.fold = func(id string) folding {
		var s S
		return func(ev *Event) (data []byte, ended bool, err error) {
			if apply := e.evolve[ev.Type]; apply != nil {
				if err := apply(&s, ev); err != nil {
					return nil, false, err
				}
			}
			told, err := spec.Show(id, s, ev)
			if err == nil && told != nil {
				data, err = json.Marshal(told)
			}
			if err != nil {
				return nil, false, fmt.Errorf("tell watchers of %s: %w", ev.ID(), err)
			}
			return data, spec.Ended != nil && spec.Ended(s), nil
		}
	}
	switch {
	case spec.Of == nil || spec.Of.svc != e.svc || spec.Of.category != e.category:
		e.svc.problem("watch of %s: WatchSpec.Of must be a collection of the same states", e.category)
	case spec.Show == nil:
		e.svc.problem("watch of %s: it needs WatchSpec.Show", e.category)
	}
	for _, other := range e.svc.watches {
		if other.category == e.category {
			e.svc.problem("watch of %s is declared twice", e.category)
		}
	}
	e.svc.watches = append(e.svc.watches, w)
	return w
}

// folding takes the next event of a state and returns what is told of it.
type folding func(e *Event) (data []byte, ended bool, err error)

// Update is what a watcher is told.
type Update struct {
	Whole   bool   // Data is the state's document; otherwise what WatchSpec.Show made of one event
	Version int64  // of the stream: whoever was told this has seen all up to there
	Token   Token  // for reads that are at least as fresh
	Data    []byte // JSON
}

// Watcher is told what changes in one state. It is used by one goroutine. What
// it has not yet asked for is kept for all watchers of the state together, so a
// slow one costs nothing and holds up nobody: one who has fallen far behind is
// told the state anew.
type Watcher struct {
	w     *Watch
	id    string
	topic *topic
	seen  int64   // version up to which it was told everything
	first *Update // the state to begin with
}

// Open begins to watch a state, which is read as [Collection.Get] reads it, and
// with the same errors. after is the version of the last update that the
// watcher got when he was here before, 0 if he was not: he is told what came
// after, or the state anew if that is long ago.
func (w *Watch) Open(ctx context.Context, id, token string, wait time.Duration, after int64) (_ *Watcher, err error) {
	n := w.svc.node
	if n == nil {
		return nil, errors.New("watch " + w.category + ": the service has no runtime; hand it to NewRuntime first")
	}
	// It listens before it reads: what happens in between it hears, and drops
	// what the state includes already.
	v := &Watcher{w: w, id: id, topic: n.topics.join(Key{Category: w.category, ID: id}.Stream(), w.fold, id), seen: after}
	n.rt.metrics.watchers.Add(ctx, 1, n.labels.service)
	defer func() {
		if err != nil {
			v.Close()
		}
	}()
	state, err := v.state(ctx, token, wait)
	if err != nil {
		return nil, err
	}
	if err := v.topic.ready(ctx, n.store, max(state.Version, after)); err != nil {
		return nil, err
	}
	if !v.topic.covers(after) {
		v.seen, v.first = 0, &state
	}
	return v, nil
}

// Close ends it. It must be called.
func (v *Watcher) Close() {
	n := v.w.svc.node
	n.topics.leave(v.topic)
	n.rt.metrics.watchers.Add(context.Background(), -1, n.labels.service)
}

// Ended reports that there is nothing more to be told, ever.
func (v *Watcher) Ended() bool { return v.first == nil && v.topic.endedAt(v.seen) }

// Next returns the next update and waits for it until ctx ends. After an error
// that is not that of ctx, nothing more will come; io.EOF says that the state
// has ended.
func (v *Watcher) Next(ctx context.Context) (Update, error) {
	if u := v.first; u != nil {
		v.first, v.seen = nil, u.Version
		return *u, nil
	}
	u, err := v.topic.next(ctx, v.w.svc.node, v.seen)
	if errors.Is(err, errFarBehind) {
		v.w.svc.node.rt.metrics.resyncs.Add(ctx, 1, v.w.svc.node.labels.service)
		u, err = v.state(ctx, v.topic.latest().String(), watchWait)
	}
	if err != nil {
		return Update{}, err
	}
	v.seen = u.Version
	return u, nil
}

// watchWait bounds the wait for a state that is not yet where its watchers are.
const watchWait = 10 * time.Second

// state reads the document.
func (v *Watcher) state(ctx context.Context, token string, wait time.Duration) (Update, error) {
	d, err := v.w.shown.Get(ctx, v.id, token, wait)
	if err != nil {
		return Update{}, err
	}
	u := Update{Whole: true, Version: d.Version, Data: d.Data}
	if len(d.Seen) > 0 {
		last := d.Seen[len(d.Seen)-1]
		u.Token = Token{Log: v.w.svc.name, Epoch: last.Epoch, Xid: last.Xid}
	}
	return u, nil
}

// watched reports whether somebody may watch the stream's state.
func (s *Service) watched(stream string) bool {
	for _, w := range s.watches {
		if len(stream) > len(w.category) && stream[:len(w.category)] == w.category && stream[len(w.category)] == ':' {
			return true
		}
	}
	return false
}
