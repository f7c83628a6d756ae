package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/courante-dev/courante"
)

var (
	errEnded    = errors.New("the unit has ended")
	errCrashed  = fmt.Errorf("the process of this handle has crashed: %w", courante.ErrClosed)
	errRestored = courante.Transient(errors.New("connection lost: the database was restored"))
	errDeadlock = courante.Transient(errors.New("deadlock"))
)

// slot is what one transaction at a time can hold: a stored row that it
// locked, or a key that it inserted and has not committed yet. PostgreSQL has
// two mechanisms for that, row locks and unique indexes; for others both mean
// to wait until the holder ends.
type slot struct{ holder *tx }

// tx is a transaction. Its fields are guarded by the database's mutex.
type tx struct {
	db    *Database
	store *Store // the handle that began it

	xid   uint64 // 0 until it writes
	over  error  // why it can do no more, nil while it is open
	holds []*slot
	waits *tx           // the transaction whose end it waits for
	ended chan struct{} // closed at the end; made by the first who waits for it

	// What it wrote, for nobody to see before it commits.
	changes courante.Changes
}

func (s *Store) newTx() *tx {
	t := &tx{db: s.db, store: s}
	s.db.open = append(s.db.open, t)
	return t
}

// id gives the transaction its number, on its first write.
func (t *tx) id() uint64 {
	if t.xid == 0 {
		t.db.xid++
		t.xid = t.db.xid
		t.db.active = append(t.db.active, t)
	}
	return t.xid
}

// hold takes the slot, waiting for the transaction that has it. It releases
// the database's mutex while it waits: what the caller read before may have
// changed when it returns.
func (t *tx) hold(ctx context.Context, s *slot) error {
	for s.holder != nil && s.holder != t {
		if err := t.wait(ctx, s.holder); err != nil {
			return err
		}
	}
	if s.holder == nil {
		s.holder = t
		t.holds = append(t.holds, s)
	}
	return nil
}

// wait returns when holder has ended, or perhaps earlier: the caller looks
// again.
func (t *tx) wait(ctx context.Context, holder *tx) error {
	// Whoever closes the circle finds it. If a link is stale, because a slot
	// changed hands while its next owner was not yet awake, that owner finds
	// the circle when it wakes and waits again.
	for h := holder; h != nil; h = h.waits {
		if h == t {
			return errDeadlock
		}
	}
	t.waits = holder
	defer func() { t.waits = nil }()

	if t.db.config.Pause != nil {
		t.db.mu.Unlock()
		err := t.db.pause(PointLockWait)
		t.db.mu.Lock()
		return cmp.Or(err, t.over, ctx.Err())
	}

	holderEnded, ended := holder.endSignal(), t.endSignal()
	t.db.mu.Unlock()
	select {
	case <-holderEnded:
	case <-ended: // a crash took it while it waited
	case <-ctx.Done():
	}
	t.db.mu.Lock()
	return cmp.Or(t.over, ctx.Err())
}

func (t *tx) endSignal() <-chan struct{} {
	if t.ended == nil {
		t.ended = make(chan struct{})
	}
	return t.ended
}

// end ends the transaction, after its changes were applied or without them,
// and frees what it held. reason is what later calls of its unit get.
func (t *tx) end(reason error) {
	if t.over != nil {
		return
	}
	t.over = reason
	for _, s := range t.holds {
		s.holder = nil
	}
	t.holds, t.changes = nil, courante.Changes{}
	if t.ended != nil {
		close(t.ended)
	}
	t.db.open = without(t.db.open, t)
	if t.xid != 0 {
		t.db.active = without(t.db.active, t)
		t.db.completed = max(t.db.completed, t.xid)
	}
}

func without(list []*tx, t *tx) []*tx {
	if i := slices.Index(list, t); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// points are the three moments of a commit at which others may run.
type points struct{ before, write, after string }

// run writes the changes and commits, or rolls back. The mutex is not held.
func (t *tx) run(ctx context.Context, c courante.Changes, at points) (courante.Receipt, error) {
	if err := t.db.pause(at.before); err != nil {
		t.rollback()
		return courante.Receipt{}, err
	}
	if err := t.write(ctx, c); err != nil {
		return courante.Receipt{}, err
	}
	if err := t.db.pause(at.write); err != nil {
		t.rollback()
		return courante.Receipt{}, err
	}
	receipt, err := t.commit()
	if err != nil {
		return courante.Receipt{}, err
	}
	if err := t.db.pause(at.after); err != nil {
		return courante.Receipt{}, err
	}
	return receipt, nil
}

// write makes the changes, for this transaction alone to see. If it fails the
// transaction has ended.
func (t *tx) write(ctx context.Context, c courante.Changes) error {
	t.db.mu.Lock()
	defer t.db.mu.Unlock()
	err := t.usable(ctx)
	if err == nil {
		err = t.insert(ctx, c)
	}
	if err != nil {
		t.end(errEnded)
	}
	return err
}

func (t *tx) commit() (courante.Receipt, error) {
	t.db.mu.Lock()
	defer t.db.mu.Unlock()
	if t.over != nil {
		return courante.Receipt{}, t.over
	}
	l := t.log()
	l.apply(t)
	if len(t.changes.Events) > 0 {
		t.db.signal()
	}
	t.end(errEnded)
	return courante.Receipt{Token: t.token()}, nil
}

func (t *tx) rollback() {
	t.db.mu.Lock()
	defer t.db.mu.Unlock()
	t.end(errEnded)
}

func (t *tx) token() courante.Token {
	return courante.Token{Log: t.store.name, Epoch: t.db.epoch, Xid: t.xid}
}

func (t *tx) usable(ctx context.Context) error {
	if t.over != nil {
		return t.over
	}
	return ctx.Err()
}

// log is the log of the transaction's store. It is looked up each time: a
// restore puts another one in its place, and ends all transactions.
func (t *tx) log() *log { return t.db.logs[t.store.name] }
