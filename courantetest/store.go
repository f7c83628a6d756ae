package courantetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

// OpenStores opens one empty database for one test and returns it with a
// function that opens a log of it. The first handle of a log belongs to the
// process that opened the database, and its commits signal Committed there. Each
// further one is what one more process does that opens the log: handles of one
// name share what is committed.
// The database must not tick by itself. Whatever has to be closed is closed by
// t.Cleanup.
type OpenStores func(t *testing.T) (courante.Database, func(log string) courante.Store)

// TestStore checks that an implementation of [courante.Store] keeps the
// contract, the same one for all of them, so that what holds in a simulation
// holds in production. A case that fails says which rule is broken and what
// would go wrong without it.
func TestStore(t *testing.T, open OpenStores) {
	cases := slices.Concat(appendCases, unitCases, stateCases, laneCases, parkedCases, logCases, concurrencyCases)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the broken rule: %s", c.rule)
				}
			})
			db, openLog := open(t)
			c.run(&storeTest{T: t, db: db, open: openLog, Store: openLog("ordering")})
		})
	}
}

type storeCase struct {
	name string
	rule string // what the contract promises, and what would go wrong otherwise
	run  func(*storeTest)
}

// storeTest is one case's database and a handle on its first log.
type storeTest struct {
	*testing.T
	courante.Store
	db   courante.Database
	open func(log string) courante.Store
}

// note is a small event; text tells it from others.
func note(text string) courante.Event {
	data, _ := json.Marshal(map[string]string{"text": text})
	return courante.Event{
		Type: "test.noted", Schema: 1, Data: data,
		Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
}

// noteAt is a note of that place in a stream, for a unit.
func noteAt(stream string, version int64) courante.Event {
	e := note(fmt.Sprintf("%s@%d", stream, version))
	e.Stream, e.Version = stream, version
	return e
}

// notes are n of them.
func notes(n int) []courante.Event {
	events := make([]courante.Event, n)
	for i := range events {
		events[i] = note(fmt.Sprint(i + 1))
	}
	return events
}

func (t *storeTest) mustAppend(stream string, expected int64, events ...courante.Event) courante.Receipt {
	t.Helper()
	receipt, err := t.Append(t.Context(), stream, expected, events...)
	if err != nil {
		t.Fatalf("Append(%s, %d): %v", stream, expected, err)
	}
	return receipt
}

// stream returns the events of the stream after the version.
func (t *storeTest) stream(name string, after int64) []courante.Event {
	t.Helper()
	var events []courante.Event
	for e, err := range t.ReadStream(t.Context(), name, after) {
		if err != nil {
			t.Fatalf("ReadStream(%s, %d): %v", name, after, err)
		}
		events = append(events, e)
	}
	return events
}

// wantStream checks the versions of the stream: 1 to last.
func (t *storeTest) wantStream(name string, last int64) {
	t.Helper()
	if got, want := versions(t.stream(name, 0)), upTo(last); !slices.Equal(got, want) {
		t.Errorf("stream %s has versions %v, want %v", name, got, want)
	}
}

func versions(events []courante.Event) []int64 {
	var list []int64
	for _, e := range events {
		list = append(list, e.Version)
	}
	return list
}

func upTo(last int64) []int64 {
	var list []int64
	for v := int64(1); v <= last; v++ {
		list = append(list, v)
	}
	return list
}

func ids(events []courante.Event) []string {
	var list []string
	for _, e := range events {
		list = append(list, e.ID())
	}
	return list
}

// begin starts a unit of the store and rolls it back when the test ends.
func (t *storeTest) begin(s courante.Store) courante.Unit {
	t.Helper()
	u, err := s.Begin(t.Context())
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	// The test's context is canceled by then, and a transaction left open
	// would keep the database from closing.
	t.Cleanup(func() { u.Rollback(context.WithoutCancel(t.Context())) })
	return u
}

func (t *storeTest) load(u courante.Unit, keys ...courante.Key) []courante.State {
	t.Helper()
	states, err := u.Load(t.Context(), keys, nil)
	if err != nil {
		t.Fatalf("Load(%v): %v", keys, err)
	}
	if len(states) != len(keys) {
		t.Fatalf("Load(%v) returned %d states, want %d", keys, len(states), len(keys))
	}
	return states
}

// loadOnce loads in a unit that ends at once: an open one would keep locks, and
// a connection of a pool that may be small.
func (t *storeTest) loadOnce(keys ...courante.Key) []courante.State {
	t.Helper()
	u := t.begin(t.Store)
	defer u.Rollback(t.Context())
	return t.load(u, keys...)
}

func (t *storeTest) read(keys ...courante.Key) []courante.State {
	t.Helper()
	states, err := t.Read(t.Context(), keys)
	if err != nil {
		t.Fatalf("Read(%v): %v", keys, err)
	}
	if len(states) != len(keys) {
		t.Fatalf("Read(%v) returned %d states, want %d", keys, len(states), len(keys))
	}
	return states
}

// commit commits the changes in a unit of their own.
func (t *storeTest) commit(c courante.Changes) (courante.Receipt, error) {
	t.Helper()
	return t.begin(t.Store).Commit(t.Context(), c)
}

func (t *storeTest) mustCommit(c courante.Changes) courante.Receipt {
	t.Helper()
	receipt, err := t.commit(c)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return receipt
}

func (t *storeTest) tick() []string {
	t.Helper()
	moved, err := t.db.Tick(t.Context())
	if err != nil {
		t.Fatalf("Tick: %v", err)
	}
	return moved
}

func (t *storeTest) readLog(after courante.Cursor, max int) ([]courante.Event, courante.Cursor) {
	t.Helper()
	events, cursor, err := t.ReadLog(t.Context(), after, max)
	if err != nil {
		t.Fatalf("ReadLog(%v, %d): %v", after, max, err)
	}
	if len(events) > max {
		t.Fatalf("ReadLog(%v, %d) returned %d events", after, max, len(events))
	}
	if cursor.Before(after) {
		t.Fatalf("ReadLog(%v, %d) went back to %v", after, max, cursor)
	}
	if len(events) > 0 && !after.Before(cursor) {
		t.Fatalf("ReadLog(%v, %d) returned %d events and no further cursor", after, max, len(events))
	}
	return events, cursor
}

// readOn reads from the cursor to the end of the log, max events a call.
func (t *storeTest) readOn(after courante.Cursor, max int) ([]courante.Event, courante.Cursor) {
	t.Helper()
	var all []courante.Event
	for {
		events, next := t.readLog(after, max)
		all, after = append(all, events...), next
		if len(events) == 0 {
			return all, after
		}
	}
}

func (t *storeTest) head() courante.Cursor {
	t.Helper()
	head, err := t.Head(t.Context())
	if err != nil {
		t.Fatalf("Head: %v", err)
	}
	return head
}

// wantConflict checks that err is a conflict on exactly these streams.
func (t *storeTest) wantConflict(err error, streams ...string) {
	t.Helper()
	var conflict *courante.ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("error %v, want a *ConflictError on %v", err, streams)
	}
	got := slices.Sorted(slices.Values(conflict.Streams))
	if slices.Sort(streams); !slices.Equal(got, streams) {
		t.Errorf("conflict on %v, want %v", got, streams)
	}
}

func (t *storeTest) wantError(err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want one that is: %v", err, want)
	}
}
