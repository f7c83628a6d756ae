package courantetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
)

// planted are bugs that others have had. A simulation that does not find them
// proves nothing when it finds none.
var planted = []struct {
	name  string
	flaws flaws
}{
	{"progress is recorded before the change", flaws{store: onCommit(ackBeforeCommit)}},
	{"deadlines are lost", flaws{store: onCommit(loseDeadlines)}},
	{"the fence of a lane is ignored", flaws{store: onCommit(ignoreFence)}},
	{"the log is read by position", flaws{store: readByPosition}},
	{"each attempt has another idempotency key", flaws{freshKeys: true}},
	{"an unknown outcome counts as success", flaws{store: onCommit(assumeCommitted)}},
	{"expected versions are not checked", flaws{store: onCommit(overrideVersions)}},
	{"stored rows are neither locked nor checked", flaws{store: ignoreRows}},
	{"effects are forgotten by the record of the agenda", flaws{store: onCommit(forgetEffects)}},
	{"a repeated command is applied again", flaws{noGuard: true}},
	{"answers are not remembered by idempotency key", flaws{store: onCommit(forgetReplies)}},
	{"lane epochs are read once", flaws{store: rememberEpochs}},
	{"a cancellation that overtakes leaves no mark", flaws{noTombstone: true}},
	{"a compensation is forgotten", flaws{forgetVoid: true}},
}

func TestPlantedBugsAreFound(t *testing.T) {
	t.Parallel()
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 1000; seed++ {
				if run := shopping(p.flaws).Run(seed); run.Err != nil {
					t.Logf("found after %d seeds: %s", seed, strings.SplitN(run.Err.Error(), "\n", 2)[0])
					return
				}
			}
			t.Error("not found within 1000 seeds")
		})
	}
}

// badStore is a store with a bug. The fields that are nil have none.
type badStore struct {
	courante.Store
	commit  func(context.Context, courante.Store, courante.Unit, courante.Changes) (courante.Receipt, error)
	load    func(context.Context, courante.Store, courante.Unit, []courante.Key) ([]courante.State, error)
	readLog func(ctx context.Context, s courante.Store, after courante.Cursor, max int) ([]courante.Event, courante.Cursor, error)
}

type badUnit struct {
	courante.Unit
	s *badStore
}

func (s *badStore) Begin(ctx context.Context) (courante.Unit, error) {
	u, err := s.Store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &badUnit{u, s}, nil
}

func (u *badUnit) Commit(ctx context.Context, c courante.Changes) (courante.Receipt, error) {
	if u.s.commit == nil {
		return u.Unit.Commit(ctx, c)
	}
	return u.s.commit(ctx, u.s.Store, u.Unit, c)
}

func (u *badUnit) Load(ctx context.Context, keys []courante.Key, known map[courante.Key]courante.Known) ([]courante.State, error) {
	if u.s.load == nil {
		return u.Unit.Load(ctx, keys, known)
	}
	return u.s.load(ctx, u.s.Store, u.Unit, keys)
}

func (s *badStore) ReadLog(ctx context.Context, after courante.Cursor, max int) ([]courante.Event, courante.Cursor, error) {
	if s.readLog == nil {
		return s.Store.ReadLog(ctx, after, max)
	}
	return s.readLog(ctx, s.Store, after, max)
}

func onCommit(commit func(context.Context, courante.Store, courante.Unit, courante.Changes) (courante.Receipt, error)) func(courante.Store) courante.Store {
	return func(s courante.Store) courante.Store { return &badStore{Store: s, commit: commit} }
}

func ackBeforeCommit(ctx context.Context, s courante.Store, u courante.Unit, c courante.Changes) (courante.Receipt, error) {
	if len(c.Progress) > 0 {
		ack, err := s.Begin(ctx)
		if err != nil {
			return courante.Receipt{}, err
		}
		if _, err := ack.Commit(ctx, courante.Changes{Progress: c.Progress}); err != nil {
			return courante.Receipt{}, err
		}
		c.Progress = nil
	}
	return u.Commit(ctx, c)
}

func loseDeadlines(ctx context.Context, _ courante.Store, u courante.Unit, c courante.Changes) (courante.Receipt, error) {
	c.Events = slices.Clone(c.Events)
	for i, e := range c.Events {
		if e.Notes != nil {
			n := *e.Notes
			n.Set = nil
			c.Events[i].Notes = &n
		}
	}
	return u.Commit(ctx, c)
}

func ignoreFence(ctx context.Context, s courante.Store, u courante.Unit, c courante.Changes) (courante.Receipt, error) {
	c.Progress = slices.Clone(c.Progress)
	for i := range c.Progress {
		last, err := s.Progress(ctx, c.Progress[i].Lane)
		if err != nil && !errors.Is(err, courante.ErrNotFound) {
			return courante.Receipt{}, err
		}
		c.Progress[i].N = last.N + 1
	}
	return u.Commit(ctx, c)
}

func assumeCommitted(ctx context.Context, _ courante.Store, u courante.Unit, c courante.Changes) (courante.Receipt, error) {
	r, err := u.Commit(ctx, c)
	if errors.Is(err, courante.ErrUnknownOutcome) {
		err = nil
	}
	return r, err
}

func overrideVersions(ctx context.Context, s courante.Store, u courante.Unit, c courante.Changes) (courante.Receipt, error) {
	c.Events = slices.Clone(c.Events)
	for i := range c.Events {
		if i > 0 && c.Events[i].Stream == c.Events[i-1].Stream {
			c.Events[i].Version = c.Events[i-1].Version + 1
			continue
		}
		category, id, _ := strings.Cut(c.Events[i].Stream, ":")
		states, err := s.Read(ctx, []courante.Key{{Category: category, ID: id, Sourced: true}})
		if err != nil {
			return courante.Receipt{}, err
		}
		c.Events[i].Version = states[0].Version + 1
	}
	return u.Commit(ctx, c)
}

func forgetEffects(ctx context.Context, _ courante.Store, u courante.Unit, c courante.Changes) (courante.Receipt, error) {
	c.Progress = slices.Clone(c.Progress)
	for i := range c.Progress {
		var tasks []map[string]any
		if json.Unmarshal(c.Progress[i].Note, &tasks) != nil {
			continue // of a lane, not of an agenda
		}
		tasks = slices.DeleteFunc(tasks, func(t map[string]any) bool { return t["effect"] != nil })
		c.Progress[i].Note, _ = json.Marshal(tasks)
	}
	return u.Commit(ctx, c)
}

func forgetReplies(ctx context.Context, _ courante.Store, u courante.Unit, c courante.Changes) (courante.Receipt, error) {
	c.Replies = nil
	return u.Commit(ctx, c)
}

// ignoreRows reads stored rows without a lock, and writes them whatever is
// there by then.
func ignoreRows(s courante.Store) courante.Store {
	return &badStore{
		Store: s,
		load: func(ctx context.Context, s courante.Store, _ courante.Unit, keys []courante.Key) ([]courante.State, error) {
			return s.Read(ctx, keys)
		},
		commit: func(ctx context.Context, s courante.Store, u courante.Unit, c courante.Changes) (courante.Receipt, error) {
			c.States = slices.Clone(c.States)
			for i := range c.States {
				now, err := s.Read(ctx, []courante.Key{c.States[i].Key})
				if err != nil {
					return courante.Receipt{}, err
				}
				c.States[i].Row = now[0].Row
			}
			return u.Commit(ctx, c)
		},
	}
}

// rememberEpochs never hears that another program has begun a new lane epoch.
func rememberEpochs(s courante.Store) courante.Store {
	return &epochCache{s, map[string][]courante.LaneEpoch{}}
}

type epochCache struct {
	courante.Store
	bySource map[string][]courante.LaneEpoch
}

func (s *epochCache) LaneEpochs(ctx context.Context, subscriber, log string) ([]courante.LaneEpoch, error) {
	if list := s.bySource[log]; list != nil {
		return list, nil
	}
	list, err := s.Store.LaneEpochs(ctx, subscriber, log)
	s.bySource[log] = list
	return list, err
}

func (s *epochCache) AddLaneEpoch(ctx context.Context, e courante.LaneEpoch) error {
	delete(s.bySource, e.Log)
	return s.Store.AddLaneEpoch(ctx, e)
}

// readByPosition follows the positions of a log as many an outbox does, so that
// what commits late stays behind the cursor.
func readByPosition(s courante.Store) courante.Store { return naiveStore{s} }

type naiveStore struct{ courante.Store }

func (s naiveStore) ReadLog(ctx context.Context, after courante.Cursor, limit int) ([]courante.Event, courante.Cursor, error) {
	all, _, err := s.Store.ReadLog(ctx, courante.Cursor{}, math.MaxInt32)
	if err != nil {
		return nil, after, err
	}
	slices.SortFunc(all, func(a, b courante.Event) int { return int(a.Position - b.Position) })
	var events []courante.Event
	for _, e := range all {
		if e.Position > after.Position && len(events) < limit {
			e.Tick, e.TickHash = 1, 0
			events = append(events, e)
			after = e.Cursor()
		}
	}
	return events, after, nil
}

func (s naiveStore) Head(ctx context.Context) (courante.Cursor, error) {
	_, head, err := s.ReadLog(ctx, courante.Cursor{}, math.MaxInt32)
	return head, err
}
