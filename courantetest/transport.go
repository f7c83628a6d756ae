package courantetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/courante-dev/courante"
)

// TransportFixture is what a transport is tested on: a database with the store
// of one source log, and a transport that carries it. Settle makes what was
// committed reach the transport (a tick, and for a broker the relay's work).
type TransportFixture struct {
	Store     courante.Store
	Transport courante.Transport
	Settle    func(t *testing.T)
}

// TestTransport checks that a transport keeps the contract of
// [courante.Transport] and [courante.Feed]. open makes a fixture of its own for
// each case.
func TestTransport(t *testing.T, open func(t *testing.T) TransportFixture) {
	for _, c := range transportCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if t.Failed() {
					t.Logf("the rule: %s", c.rule)
				}
			}()
			c.run(t, open(t))
		})
	}
}

var transportCases = []struct {
	name, rule string
	run        func(t *testing.T, f TransportFixture)
}{
	{"nothing new", "Fetch does not wait: with nothing new it gives no events and leaves the cursor.", func(t *testing.T, f TransportFixture) {
		feed := openFeed(t, f, 0, 1, courante.Cursor{})
		events, at := fetch(t, feed, 10)
		if len(events) != 0 || at != (courante.Cursor{}) {
			t.Errorf("Fetch on an empty log = %d events at %v, want none at the start", len(events), at)
		}
	}},
	{"order", "A lane gets a stream's events in stream order, each once.", func(t *testing.T, f TransportFixture) {
		fill(t, f, 5, 20)
		got := drain(t, openFeed(t, f, 0, 1, courante.Cursor{}), 7)
		if len(got) != 100 {
			t.Errorf("got %d events, want 100", len(got))
		}
		inOrder(t, got)
	}},
	{"lanes", "The lanes of an epoch share its events: each event goes to the lane of its key and to no other.", func(t *testing.T, f TransportFixture) {
		fill(t, f, 12, 5)
		total := 0
		for k := range 3 {
			for _, e := range drain(t, openFeed(t, f, k, 3, courante.Cursor{}), 10) {
				if want := courante.LaneOf(e.Key(), 3); want != k {
					t.Errorf("lane %d got %s of lane %d", k, e.ID(), want)
				}
				total++
			}
		}
		if total != 60 {
			t.Errorf("three lanes got %d events, want 60", total)
		}
	}},
	{"filter", "Events of types that the epoch does not name are left out, and the cursor passes them.", func(t *testing.T, f TransportFixture) {
		add(t, f, "order:1", "test.other")
		add(t, f, "order:1", "test.happened")
		add(t, f, "order:1", "test.other")
		f.Settle(t)
		feed := openFeed(t, f, 0, 1, courante.Cursor{})
		got := drain(t, feed, 10)
		if len(got) != 1 || got[0].Version != 2 {
			t.Errorf("got %d events, want the one of the type named", len(got))
		}
	}},
	{"resume", "A feed opened after a cursor goes on there: nothing is repeated from before it, and nothing after it is left out.", func(t *testing.T, f TransportFixture) {
		fill(t, f, 4, 10)
		first := openFeed(t, f, 0, 1, courante.Cursor{})
		var head []courante.Event
		var at courante.Cursor
		for len(head) < 13 {
			events, to := fetch(t, first, 5)
			head, at = append(head, events...), to
		}
		if err := first.Ack(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		first.Close()
		got := append(head, drain(t, openFeed(t, f, 0, 1, at), 5)...)
		if len(got) != 40 {
			t.Errorf("got %d events over two feeds, want 40", len(got))
		}
		inOrder(t, got)
	}},
	{"unacknowledged", "What was fetched and not acknowledged comes again to the next feed.", func(t *testing.T, f TransportFixture) {
		fill(t, f, 1, 3)
		first := openFeed(t, f, 0, 1, courante.Cursor{})
		if n := len(drain(t, first, 10)); n != 3 {
			t.Fatalf("got %d events, want 3", n)
		}
		first.Close()
		if got := drain(t, openFeed(t, f, 0, 1, courante.Cursor{}), 10); len(got) != 3 {
			t.Errorf("the next feed got %d events, want the 3 again", len(got))
		}
	}},
	{"later events", "Events committed while a feed is open reach it.", func(t *testing.T, f TransportFixture) {
		feed := openFeed(t, f, 0, 1, courante.Cursor{})
		for round := 1; round <= 3; round++ {
			add(t, f, "order:1", "test.happened")
			f.Settle(t)
			got := drain(t, feed, 10)
			if len(got) != 1 || got[0].Version != int64(round) {
				t.Fatalf("round %d: got %d events, want version %d", round, len(got), round)
			}
		}
	}},
	{"unknown log", "A lane of a log that the transport does not carry is refused when it is opened, not served silently with nothing.", func(t *testing.T, f TransportFixture) {
		lane := courante.Lane{Subscriber: "test", Log: "nowhere", Epoch: 1}
		if _, err := f.Transport.Open(t.Context(), lane, courante.LaneEpoch{N: 1, Lanes: 1}, courante.Cursor{}); err == nil {
			t.Error("Open of an unknown log gave no error")
		}
	}},
	{"broken log", "A cursor that does not fit the log stops the lane with *LogBrokenError; nothing is skipped.", func(t *testing.T, f TransportFixture) {
		fill(t, f, 1, 3)
		_, at := fetch(t, openFeed(t, f, 0, 1, courante.Cursor{}), 10)
		at.Hash++
		add(t, f, "order:1", "test.happened")
		f.Settle(t)
		feed, err := f.Transport.Open(t.Context(), laneOf(f, 0), oneEpoch(1), at)
		if err == nil {
			_, _, err = feed.Fetch(t.Context(), 10)
		}
		var lost *courante.LogBrokenError
		if !errors.As(err, &lost) {
			t.Errorf("fetch after a cursor with another hash: %v, want *LogBrokenError", err)
		}
	}},
}

func laneOf(f TransportFixture, k int) courante.Lane {
	return courante.Lane{Subscriber: "test", Log: f.Store.Log(), Epoch: 1, K: k}
}

func oneEpoch(lanes int) courante.LaneEpoch {
	return courante.LaneEpoch{Subscriber: "test", N: 1, Types: []string{"test.happened"}, Lanes: lanes}
}

func openFeed(t *testing.T, f TransportFixture, k, lanes int, after courante.Cursor) courante.Feed {
	t.Helper()
	feed, err := f.Transport.Open(t.Context(), laneOf(f, k), oneEpoch(lanes), after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(feed.Close)
	return feed
}

func fetch(t *testing.T, feed courante.Feed, limit int) ([]courante.Event, courante.Cursor) {
	t.Helper()
	events, at, err := feed.Fetch(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return events, at
}

// drain fetches until nothing new comes.
func drain(t *testing.T, feed courante.Feed, limit int) []courante.Event {
	t.Helper()
	var all []courante.Event
	last := courante.Cursor{Tick: -1}
	for {
		events, at := fetch(t, feed, limit)
		all = append(all, events...)
		if len(events) == 0 && at == last {
			return all
		}
		last = at
	}
}

// fill appends `each` events to each of so many streams, in turn.
func fill(t *testing.T, f TransportFixture, streams, each int) {
	t.Helper()
	for range each {
		for s := range streams {
			add(t, f, fmt.Sprintf("order:%d", s), "test.happened")
		}
		f.Settle(t)
	}
}

// add appends one event at the end of the stream.
func add(t *testing.T, f TransportFixture, stream, typ string) {
	t.Helper()
	version := int64(0)
	for e, err := range f.Store.ReadStream(t.Context(), stream, 0) {
		if err != nil {
			t.Fatal(err)
		}
		version = e.Version
	}
	e := courante.Event{Type: typ, Schema: 1, Data: json.RawMessage(`{}`)}
	if _, err := f.Store.Append(t.Context(), stream, version, e); err != nil {
		t.Fatal(err)
	}
}

func inOrder(t *testing.T, events []courante.Event) {
	t.Helper()
	next := map[string]int64{}
	for _, e := range events {
		if next[e.Stream]++; e.Version != next[e.Stream] {
			t.Errorf("%s came as number %d of its stream", e.ID(), next[e.Stream])
			return
		}
	}
	if !slices.IsSortedFunc(events, func(a, b courante.Event) int {
		return int(a.Position - b.Position) // one writer: positions ascend in the total order
	}) {
		t.Error("the events are not in the log's total order")
	}
}
