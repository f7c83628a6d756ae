package memory

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante"
)

// keepReplies is how long an answer is remembered; on PostgreSQL its partition
// is dropped then.
const keepReplies = 8 * 24 * time.Hour

// insert makes the changes within the transaction. Every table is written in
// the order of its keys, so that two units that write the same keys wait for
// one another and do not deadlock. On an error the caller ends the transaction.
func (t *tx) insert(ctx context.Context, c courante.Changes) error {
	c, err := t.normal(c)
	if err != nil {
		return err
	}
	t.id()
	// Progress first: a zombie has to learn that it is one, rather than that
	// the streams have moved on without it.
	if err := t.insertProgress(ctx, c.Progress); err != nil {
		return err
	}
	var conflicts []string
	for _, insert := range []func(context.Context, courante.Changes) ([]string, error){
		t.insertEvents, t.writeStates, t.insertReplies,
	} {
		streams, err := insert(ctx, c)
		if err != nil {
			return err
		}
		conflicts = append(conflicts, streams...)
	}
	if len(conflicts) > 0 {
		slices.Sort(conflicts)
		return &courante.ConflictError{Streams: slices.Compact(conflicts)}
	}
	if c.Park, err = t.park(ctx, c.Park, c.Unpark); err != nil {
		return err
	}
	t.changes = c
	return nil
}

// normal returns a copy of the changes as the tables will hold them, in the
// order in which they are written, or says why they cannot be.
func (t *tx) normal(c courante.Changes) (courante.Changes, error) {
	c.Events = slices.Clone(c.Events)
	c.States = slices.Clone(c.States)
	c.Progress = slices.Clone(c.Progress)
	c.Replies = slices.Clone(c.Replies)
	c.Park = slices.Clone(c.Park)
	c.Unpark = slices.Clone(c.Unpark)
	slices.SortStableFunc(c.Events, func(a, b courante.Event) int { return strings.Compare(a.Stream, b.Stream) })
	slices.SortStableFunc(c.States, func(a, b courante.State) int { return strings.Compare(a.Stream(), b.Stream()) })
	slices.SortStableFunc(c.Progress, compareProgress)
	slices.SortStableFunc(c.Replies, func(a, b courante.Reply) int { return strings.Compare(a.Key, b.Key) })
	for i := range c.Events {
		e := &c.Events[i]
		e.Log, e.Epoch, e.Tick, e.Position, e.Xid = t.store.name, t.db.epoch, 0, 0, 0
		e.Time = e.Time.UTC().Truncate(time.Microsecond)
		if len(e.Data) == 0 {
			e.Data = json.RawMessage("null")
		}
		if err := checkEvent(e); err != nil {
			return c, err
		}
		if i > 0 && e.Stream == c.Events[i-1].Stream && e.Version != c.Events[i-1].Version+1 {
			return c, fmt.Errorf("event %s does not follow version %d", e.ID(), c.Events[i-1].Version)
		}
	}
	for i := range c.States {
		s := &c.States[i]
		if i > 0 && s.Stream() == c.States[i-1].Stream() {
			return c, fmt.Errorf("state %s is written twice", s.Stream())
		}
	}
	return c, checkDocuments(c)
}

func compareProgress(a, b courante.Progress) int {
	return cmp.Or(
		strings.Compare(a.Subscriber, b.Subscriber),
		strings.Compare(a.Log, b.Log),
		cmp.Compare(a.Epoch, b.Epoch),
		cmp.Compare(a.K, b.K),
		cmp.Compare(a.N, b.N),
	)
}

func (t *tx) insertProgress(ctx context.Context, rows []courante.Progress) error {
	for i, p := range rows {
		lane := row(t.log().lanes, p.Lane)
		if err := t.hold(ctx, &lane.slot); err != nil {
			return fmt.Errorf("progress %d of %s lane %d: %w", p.N, p.Subscriber, p.K, err)
		}
		last := lane.last.N
		if i > 0 && rows[i-1].Lane == p.Lane {
			last = rows[i-1].N
		}
		if p.N != last+1 {
			return fmt.Errorf("progress %d of %s lane %d, which is at %d: %w", p.N, p.Subscriber, p.K, last, courante.ErrFenced)
		}
	}
	return nil
}

// insertEvents inserts the events and returns the streams that conflict.
func (t *tx) insertEvents(ctx context.Context, c courante.Changes) (conflicts []string, err error) {
	l := t.log()
	var to int
	for from := 0; from < len(c.Events); from = to {
		first := &c.Events[from]
		for to = from + 1; to < len(c.Events) && c.Events[to].Stream == first.Stream; to++ {
		}
		s := row(l.streams, first.Stream)
		if int64(len(s.events)) != first.Version-1 {
			conflicts = append(conflicts, first.Stream)
			continue
		}
		// The row has its position before the index finds that the key is
		// taken and makes it wait.
		first.Position, first.Xid = l.nextPosition(), t.id()
		if err := t.hold(ctx, &s.slot); err != nil {
			return nil, fmt.Errorf("append to %s: %w", first.Stream, err)
		}
		if int64(len(s.events)) != first.Version-1 { // the transaction it waited for committed
			conflicts = append(conflicts, first.Stream)
			continue
		}
		for i := from + 1; i < to; i++ {
			c.Events[i].Position, c.Events[i].Xid = l.nextPosition(), t.id()
		}
	}
	return conflicts, nil
}

// writeStates locks or inserts the rows and returns those that conflict.
func (t *tx) writeStates(ctx context.Context, c courante.Changes) (conflicts []string, err error) {
	for _, s := range c.States {
		name := s.Stream()
		stored := row(t.log().states, name)
		if err := t.hold(ctx, &stored.slot); err != nil {
			return nil, fmt.Errorf("store state %s: %w", name, err)
		}
		if stored.row.Row != s.Row {
			conflicts = append(conflicts, name)
		}
	}
	return conflicts, nil
}

func (t *tx) insertReplies(ctx context.Context, c courante.Changes) (conflicts []string, err error) {
	for i, r := range c.Replies {
		stored := row(t.log().replies, r.Key)
		if err := t.hold(ctx, &stored.slot); err != nil {
			return nil, fmt.Errorf("reply to %s: %w", r.Key, err)
		}
		if t.db.remembers(stored) || i > 0 && c.Replies[i-1].Key == r.Key {
			conflicts = append(conflicts, r.Key)
		}
	}
	return conflicts, nil
}

// remembers reports whether the row is a committed answer that is not yet
// forgotten.
func (db *Database) remembers(r *reply) bool {
	return r != nil && !r.at.IsZero() && db.config.Now().Sub(r.at) < keepReplies
}

// park gives new messages their ids, locks those that are written again or
// resolved, and returns the messages to write. To resolve one that somebody
// else has resolved means to have handled it a second time.
func (t *tx) park(ctx context.Context, messages []courante.Parked, resolved []int64) ([]courante.Parked, error) {
	l := t.log()
	locks := slices.Clone(resolved)
	for _, p := range messages {
		if p.ID != 0 {
			locks = append(locks, p.ID)
		}
	}
	slices.Sort(locks)
	for _, id := range locks {
		if p := l.parked[id]; p != nil {
			if err := t.hold(ctx, &p.slot); err != nil {
				return nil, fmt.Errorf("parked message %d: %w", id, err)
			}
		}
	}
	for _, id := range resolved {
		if l.parked[id] == nil {
			return nil, fmt.Errorf("parked message %d is resolved already: %w", id, courante.ErrFenced)
		}
	}
	messages = slices.DeleteFunc(messages, func(p courante.Parked) bool { return p.ID != 0 && l.parked[p.ID] == nil })
	for i := range messages {
		if messages[i].ID == 0 {
			l.parkedID++
			messages[i].ID = l.parkedID
		}
	}
	return messages, nil
}
