package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/courante-dev/courante"
)

// unit implements courante.Unit over one transaction.
type unit struct{ tx *tx }

func (u *unit) Load(ctx context.Context, keys []courante.Key, known map[courante.Key]courante.Known) ([]courante.State, error) {
	if err := u.tx.db.pause(PointLoad); err != nil {
		u.tx.rollback()
		return nil, err
	}
	u.tx.db.mu.Lock()
	defer u.tx.db.mu.Unlock()
	err := u.tx.usable(ctx)
	if err == nil {
		err = u.lock(ctx, keys)
	}
	if err != nil {
		u.tx.end(errEnded) // as PostgreSQL aborts the transaction of a statement that failed
		return nil, fmt.Errorf("load states: %w", err)
	}
	states := u.tx.log().statesOf(keys)
	for i := range states {
		if k, ok := known[states[i].Key]; ok {
			u.tx.log().begin(&states[i], k)
		}
	}
	return states, nil
}

// lock locks the stored rows behind the keys. A row that is not there, or not
// yet committed, cannot be locked; two units that both find none compete at
// their commits.
func (u *unit) lock(ctx context.Context, keys []courante.Key) error {
	var names []string
	for _, k := range keys {
		if !k.Sourced {
			names = append(names, k.Stream())
		}
	}
	slices.Sort(names)
	for _, name := range names {
		s := u.tx.log().states[name]
		if s == nil || s.row.Row == 0 {
			continue
		}
		u.tx.id() // a row lock is a write
		if err := u.tx.hold(ctx, &s.slot); err != nil {
			return fmt.Errorf("lock %s: %w", name, err)
		}
	}
	return nil
}

func (l *log) statesOf(keys []courante.Key) []courante.State {
	states := make([]courante.State, len(keys))
	for i, k := range keys {
		states[i] = l.state(k)
	}
	return states
}

// state returns what is committed of the key.
func (l *log) state(k courante.Key) courante.State {
	if !k.Sourced {
		s := courante.State{Key: k}
		if stored := l.states[k.Stream()]; stored != nil && stored.row.Row > 0 {
			s = stored.row
			s.Key = k
		}
		return s
	}
	s := courante.State{Key: k}
	if baseline, ok := l.snapshots[k.Stream()]; ok {
		s.Row, s.Data, s.Open = baseline.Row, baseline.Data, baseline.Open
	}
	s.Events = l.after(k.Stream(), s.Row)
	s.Version = s.Row + int64(len(s.Events))
	return s
}

// begin leaves out of the state what comes before an event that is known, if
// the stream has that event.
func (l *log) begin(st *courante.State, known courante.Known) {
	s := l.streams[st.Stream()]
	if s == nil || known.Version < 1 || known.Version > int64(len(s.events)) {
		return
	}
	if e := &s.events[known.Version-1]; e.Epoch != known.Epoch || e.Xid != known.Xid {
		return
	}
	*st = courante.State{Key: st.Key, Version: st.Version, Events: l.after(st.Stream(), known.Version), After: true}
}

// after returns the committed events of the stream after the version. The
// slice is capped: a later append does not write where its readers may.
func (l *log) after(name string, version int64) []courante.Event {
	s := l.streams[name]
	if s == nil || version >= int64(len(s.events)) {
		return nil
	}
	return slices.Clip(s.events[max(version, 0):])
}

func (u *unit) Commit(ctx context.Context, c courante.Changes) (courante.Receipt, error) {
	receipt, err := u.tx.run(ctx, c, points{PointCommit, PointCommitWrite, PointCommitAfter})
	if err != nil {
		return receipt, fmt.Errorf("commit: %w", err)
	}
	return receipt, nil
}

// Rehearse makes the changes for this transaction alone to see, and ends it.
func (u *unit) Rehearse(ctx context.Context, c courante.Changes) error {
	defer u.tx.rollback()
	if err := u.tx.write(ctx, c); err != nil {
		return fmt.Errorf("rehearse a commit: %w", err)
	}
	return nil
}

// Rollback has no point of its own: all that it does is to free what others
// wait for, and they look again at their own points.
func (u *unit) Rollback(context.Context) { u.tx.rollback() }
