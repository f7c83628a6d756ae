package memory

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/courante-dev/courante"
)

// Store implements [courante.Store] on one log of a [Database]. Get one from
// [Database.Store].
type Store struct {
	db      *Database
	name    string
	crashed bool // guarded by db.mu
}

var _ courante.Store = (*Store)(nil)

// Log implements [courante.Store].
func (s *Store) Log() string { return s.name }

// Append implements [courante.Store]. Each append has a transaction of its own.
func (s *Store) Append(ctx context.Context, stream string, expected int64, events ...courante.Event) (courante.Receipt, error) {
	if len(events) == 0 {
		return courante.Receipt{}, nil
	}
	events = slices.Clone(events)
	for i := range events {
		events[i].Stream, events[i].Version = stream, expected+1+int64(i)
	}
	if err := checkAppend(events); err != nil {
		return courante.Receipt{}, fmt.Errorf("append to %s at version %d: %w", stream, expected, err)
	}
	s.db.mu.Lock()
	if s.crashed {
		s.db.mu.Unlock()
		return courante.Receipt{}, errCrashed
	}
	t := s.newTx()
	s.db.mu.Unlock()
	receipt, err := t.run(ctx, courante.Changes{Events: events}, points{PointAppend, PointAppendWrite, PointAppendAfter})
	if err != nil {
		return receipt, fmt.Errorf("append to %s at version %d: %w", stream, expected, err)
	}
	return receipt, nil
}

// Begin implements [courante.Store].
func (s *Store) Begin(ctx context.Context) (courante.Unit, error) {
	if err := s.enter(ctx, PointBegin); err != nil {
		return nil, err
	}
	defer s.db.mu.Unlock()
	return &unit{s.newTx()}, nil
}

// Read implements [courante.Store].
func (s *Store) Read(ctx context.Context, keys []courante.Key) ([]courante.State, error) {
	if err := s.enter(ctx, PointRead); err != nil {
		return nil, err
	}
	defer s.db.mu.Unlock()
	return s.log().statesOf(keys), nil
}

// ReadStream implements [courante.Store]. It yields what was committed when
// the iteration began.
func (s *Store) ReadStream(ctx context.Context, stream string, after int64) iter.Seq2[courante.Event, error] {
	return func(yield func(courante.Event, error) bool) {
		if err := s.enter(ctx, PointReadStream); err != nil {
			yield(courante.Event{}, err)
			return
		}
		events := s.log().after(stream, after)
		s.db.mu.Unlock()
		for _, e := range events {
			if err := ctx.Err(); err != nil {
				yield(courante.Event{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// ReadLog implements [courante.Store].
func (s *Store) ReadLog(ctx context.Context, after courante.Cursor, max int) ([]courante.Event, courante.Cursor, error) {
	if err := s.enter(ctx, PointReadLog); err != nil {
		return nil, courante.Cursor{}, err
	}
	defer s.db.mu.Unlock()
	return s.log().read(after, max)
}

// Head implements [courante.Store].
func (s *Store) Head(ctx context.Context) (courante.Cursor, error) {
	if err := s.enter(ctx, PointHead); err != nil {
		return courante.Cursor{}, err
	}
	defer s.db.mu.Unlock()
	return s.log().head(), nil
}

// Locate implements [courante.Store].
func (s *Store) Locate(ctx context.Context, t courante.Token) (courante.Cursor, error) {
	if err := s.enter(ctx, PointLocate); err != nil {
		return courante.Cursor{}, err
	}
	defer s.db.mu.Unlock()
	if t.Log != s.name {
		return courante.Cursor{}, fmt.Errorf("locate a token of log %q in log %q", t.Log, s.name)
	}
	if t.Epoch != s.db.epoch {
		return courante.Cursor{}, &courante.TokenEpochError{Token: t, Now: s.db.epoch}
	}
	if c, ok := s.log().locate(t); ok {
		return c, nil
	}
	return courante.Cursor{}, fmt.Errorf("transaction %d in the ticks of log %q: %w", t.Xid, s.name, courante.ErrNotFound)
}

// Progress implements [courante.Store].
func (s *Store) Progress(ctx context.Context, key courante.Lane) (courante.Progress, error) {
	if err := s.enter(ctx, PointProgress); err != nil {
		return courante.Progress{}, err
	}
	defer s.db.mu.Unlock()
	if lane := s.log().lanes[key]; lane != nil && lane.last.N > 0 {
		return lane.last, nil
	}
	return courante.Progress{}, fmt.Errorf("progress of %s lane %d on %s: %w", key.Subscriber, key.K, key.Log, courante.ErrNotFound)
}

// LaneEpochs implements [courante.Store].
func (s *Store) LaneEpochs(ctx context.Context, subscriber, log string) ([]courante.LaneEpoch, error) {
	if err := s.enter(ctx, PointLaneEpochs); err != nil {
		return nil, err
	}
	defer s.db.mu.Unlock()
	return slices.Clone(s.log().epochs[subscription{subscriber, log}]), nil
}

// AddLaneEpoch implements [courante.Store].
func (s *Store) AddLaneEpoch(ctx context.Context, e courante.LaneEpoch) error {
	if err := s.enter(ctx, PointLaneEpoch); err != nil {
		return err
	}
	e.Began = s.db.config.Now().UTC().Truncate(time.Microsecond)
	added := s.log().addEpoch(e)
	s.db.mu.Unlock()
	if !added {
		return fmt.Errorf("lane epoch %d of %s on %s: %w", e.N, e.Subscriber, e.Log, courante.ErrFenced)
	}
	return s.db.pause(PointLaneEpochOK)
}

func (l *log) addEpoch(e courante.LaneEpoch) bool {
	key := subscription{e.Subscriber, e.Log}
	i, found := slices.BinarySearchFunc(l.epochs[key], e.N, func(have courante.LaneEpoch, n int) int { return have.N - n })
	if found {
		return false
	}
	e.Types = slices.Clone(e.Types)
	l.epochs[key] = slices.Insert(l.epochs[key], i, e)
	return true
}

// Parked implements [courante.Store].
func (s *Store) Parked(ctx context.Context, subscriber string, which courante.ParkedQuery) ([]courante.Parked, error) {
	if err := s.enter(ctx, PointParked); err != nil {
		return nil, err
	}
	defer s.db.mu.Unlock()
	messages := []courante.Parked{}
	for _, p := range s.log().parkedInLine[subscriber] {
		if which.Max > 0 && len(messages) == which.Max {
			break
		}
		if which.Keys != nil && !slices.Contains(which.Keys, p.Key) || which.Correlation != "" && p.Event.Correlation != which.Correlation {
			continue
		}
		messages = append(messages, p.Parked)
	}
	return messages, nil
}

// Aside implements [courante.Store]. Its revision is always 0: there is no
// operator.
func (s *Store) Aside(ctx context.Context, subscriber string, keys []string) (courante.Aside, error) {
	if err := s.enter(ctx, PointAside); err != nil {
		return courante.Aside{}, err
	}
	defer s.db.mu.Unlock()
	var aside courante.Aside
	seen := map[string]bool{}
	for _, p := range s.log().parkedInLine[subscriber] {
		if !seen[p.Key] && (keys == nil || slices.Contains(keys, p.Key)) {
			seen[p.Key] = true
			aside.Keys = append(aside.Keys, courante.AsideKey{Key: p.Key, Failed: p.Cause != "", RetryAt: p.RetryAt})
		}
	}
	return aside, nil
}

// Reply implements [courante.Store]. An answer is forgotten after eight days.
func (s *Store) Reply(ctx context.Context, key string) (courante.Reply, error) {
	if err := s.enter(ctx, PointReply); err != nil {
		return courante.Reply{}, err
	}
	defer s.db.mu.Unlock()
	if r := s.log().replies[key]; s.db.remembers(r) {
		return r.Reply, nil
	}
	return courante.Reply{}, fmt.Errorf("reply to %s: %w", key, courante.ErrNotFound)
}

// enter pauses at the point and then locks the database, unless the call
// cannot go on.
func (s *Store) enter(ctx context.Context, point string) error {
	if err := s.db.pause(point); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", point, err)
	}
	s.db.mu.Lock()
	if s.crashed {
		s.db.mu.Unlock()
		return errCrashed
	}
	return nil
}

func (s *Store) log() *log { return s.db.logs[s.name] }
