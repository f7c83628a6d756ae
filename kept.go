package courante

import (
	"slices"
	"sync"
)

// Known names the last event that a caller has of a stream: its version, and
// the transaction that committed it. After a restore another event may have the
// version, and then its transaction is another one, even where nobody began a
// new epoch.
type Known struct {
	Version int64
	Epoch   int32
	Xid     uint64
}

// kept are folded states of a service that its units have come by, so that the
// next unit need only read what was added to the stream since. They are never
// trusted: each unit asks the store for what comes after them, and whether
// they are part of the stream at all.
//
// It forgets by generations: what was not used while as many others were is
// gone.
type kept struct {
	mu         sync.Mutex // guards what follows
	young, old map[Key]State
}

// keptMost is how many states a generation has. A saga uses its states some
// times within seconds and hardly ever again; this is enough for thousands that
// are under way at once.
const keptMost = 4096

// of returns what is kept of the keys, and what of it is to be asked for.
func (k *kept) of(keys []Key) (found map[Key]State, known map[Key]Known) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		st, ok := k.young[key]
		if !ok {
			if st, ok = k.old[key]; !ok {
				continue
			}
			k.put(st)
		}
		if found == nil {
			found, known = make(map[Key]State, len(keys)), make(map[Key]Known, len(keys))
		}
		found[key], known[key] = st, Known{st.Version, st.epoch, st.xid}
	}
	return found, known
}

// put keeps the state. The mutex is held.
func (k *kept) put(st State) {
	if len(k.young) >= keptMost {
		k.old, k.young = k.young, nil
	}
	if k.young == nil {
		k.young = make(map[Key]State, keptMost)
	}
	k.young[st.Key] = st
}

// keep remembers what a unit has committed or only read.
func (k *kept) keep(b *batch, r Receipt) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range b.order {
		bx := b.boxes[key]
		if bx.whole == nil {
			continue
		}
		st := bx.State
		st.tail = slices.Concat(st.tail, st.Events) // Open has them in it
		st.Events, st.Data = nil, nil
		if len(bx.emitted) > 0 {
			st.epoch, st.xid = r.Token.Epoch, r.Token.Xid
		}
		have, ok := k.young[key]
		if st.epoch == 0 || ok && have.epoch == st.epoch && have.Version > st.Version {
			continue // it is not known in which epoch it was, or somebody else is further
		}
		k.put(st)
	}
}

// complete puts what is kept and what the store has added to it together. A
// state that the store returned whole stays as it is.
func complete(states []State, from map[Key]State) {
	for i := range states {
		st := &states[i]
		if n := len(st.Events); n > 0 {
			st.epoch, st.xid = st.Events[n-1].Epoch, st.Events[n-1].Xid
		}
		if !st.After {
			continue
		}
		have := from[st.Key]
		if len(st.Events) > 0 {
			have.Version, have.epoch, have.xid, have.Events = st.Version, st.epoch, st.xid, st.Events
		}
		*st = have
	}
}

// memo is what a state needs to be kept.
type memo struct {
	whole any     // *S, which nobody changes; nil if it was not folded, or cannot be copied
	tail  []Event // that come after it; State.Open has them in it, unlike State.Events
	epoch int32   // of the last event, 0 if it is not known
	xid   uint64  // of the last event, with epoch
}
