package courantetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante"
)

var appendCases = []storeCase{{
	"versions are dense",
	"events of a stream have the versions 1, 2, 3 and so on, over all appends; readers take a gap for a loss",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(2)...)
		t.mustAppend("order:1", 2, notes(1)...)
		t.mustAppend("order:2", 0, notes(3)...)
		t.wantStream("order:1", 3)
		t.wantStream("order:2", 3)
	},
}, {
	"a stale expected version conflicts",
	"an append decided on an old state must not succeed, and names the stream, so that the caller knows what to load again",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(2)...)
		for expected := range int64(2) {
			_, err := t.Append(t.Context(), "order:1", expected, note("stale"))
			t.wantConflict(err, "order:1")
		}
		t.wantStream("order:1", 2)
	},
}, {
	"an expected version past the end conflicts",
	"a version whose predecessor is not there would leave a gap for ever",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(2)...)
		_, err := t.Append(t.Context(), "order:1", 3, note("too far"))
		t.wantConflict(err, "order:1")
		_, err = t.Append(t.Context(), "order:new", 1, note("too far"))
		t.wantConflict(err, "order:new")
		t.wantStream("order:1", 2)
		t.wantStream("order:new", 0)
	},
}, {
	"an append is all or none",
	"the events of one decision belong together: where the first is taken already, the free versions behind it must stay free",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(2)...)
		_, err := t.Append(t.Context(), "order:1", 1, notes(3)...)
		t.wantConflict(err, "order:1")
		t.wantStream("order:1", 2)
		t.tick()
		if events, _ := t.readOn(courante.Cursor{}, 100); len(events) != 2 {
			t.Errorf("the log has %v, want the first two events only", ids(events))
		}
	},
}, {
	"an append of no events is a no-op",
	"a decision to do nothing is no conflict and no change, at whatever version",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(2)...)
		for _, expected := range []int64{0, 2, 9} {
			t.mustAppend("order:1", expected)
		}
		t.mustAppend("order:none", 0)
		t.wantStream("order:1", 2)
		t.wantStream("order:none", 0)
	},
}, {
	"an event over the limit is refused",
	"one huge event would stall every reader behind it; the caller hears ErrTooLarge and nothing of its append is written",
	func(t *storeTest) {
		huge := note("huge")
		huge.Data = json.RawMessage(`"` + strings.Repeat("x", 32<<20) + `"`)
		_, err := t.Append(t.Context(), "order:1", 0, note("small"), huge)
		t.wantError(err, courante.ErrTooLarge)
		t.wantStream("order:1", 0)
		t.mustAppend("order:1", 0, notes(1)...)

		huge.Stream, huge.Version = "order:1", 2
		_, err = t.commit(courante.Changes{Events: []courante.Event{huge}})
		t.wantError(err, courante.ErrTooLarge)
		t.wantStream("order:1", 1)
	},
}, {
	"a text that fits into no header is refused",
	"what cannot be sent over a broker would stop all that comes behind it in the log; whoever emits it hears ErrTooLarge",
	func(t *storeTest) {
		long := note("small")
		for name, text := range map[string]*string{
			"type": &long.Type, "correlation": &long.Correlation, "causation": &long.Causation, "subject": &long.Subject, "trace": &long.Trace,
		} {
			before := *text
			*text = strings.Repeat("x", 5<<10)
			if _, err := t.Append(t.Context(), "order:1", 0, long); !errors.Is(err, courante.ErrTooLarge) {
				t.Errorf("a %s of 5 KiB: %v, want ErrTooLarge", name, err)
			}
			*text = before
		}
		t.wantStream("order:1", 0)
	},
}, {
	"an event comes back as it was appended",
	"what was decided is what is read, to the byte: every field, empty or in any script, numbers as they were written, times to the microsecond in UTC",
	roundTrip,
}, {
	"a stream is read from behind the version",
	"a reader that has a state at version n folds the events after n, each once; a stream that is not there has none",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(5)...)
		for after, want := range map[int64][]int64{0: {1, 2, 3, 4, 5}, 3: {4, 5}, 5: nil, 9: nil} {
			if got := versions(t.stream("order:1", after)); !slices.Equal(got, want) {
				t.Errorf("after %d: versions %v, want %v", after, got, want)
			}
		}
		if got := t.stream("order:unknown", 0); len(got) != 0 {
			t.Errorf("an unknown stream has %v", ids(got))
		}
	},
}, {
	"a reader may stop early",
	"leaving the loop ends the read and leaves the store usable",
	func(t *storeTest) {
		t.mustAppend("order:1", 0, notes(5)...)
		for range 20 { // more often than a pool has connections
			for _, err := range t.ReadStream(t.Context(), "order:1", 0) {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		t.wantStream("order:1", 5)
	},
}, {
	"a long stream is read whole",
	"a stream longer than any page or batch of the store comes in order and without a hole",
	func(t *storeTest) {
		const n = 3000
		for at := int64(0); at < n; at += 1000 {
			t.mustAppend("order:1", at, notes(1000)...)
		}
		t.wantStream("order:1", n)
	},
}, {
	"the receipt's token stands for the events",
	"read-your-writes compares the token with ticks; one that names another transaction would promise a state that is not there yet",
	func(t *storeTest) {
		receipts := []courante.Receipt{
			t.mustAppend("order:1", 0, notes(2)...),
			t.mustCommit(courante.Changes{Events: []courante.Event{noteAt("order:2", 1)}}),
		}
		t.tick()
		events, _ := t.readOn(courante.Cursor{}, 100)
		for i, e := range []courante.Event{events[0], events[2]} {
			want := courante.Token{Log: "ordering", Epoch: e.Epoch, Xid: e.Xid}
			if got := receipts[i].Token; got != want || got.Xid == 0 || got.Epoch == 0 {
				t.Errorf("token %+v, want %+v, nothing of it zero", got, want)
			}
		}
	},
}, {
	"logs are separate, handles of one log are not",
	"a context's names are its own; the processes of one context see what the others committed at once",
	func(t *storeTest) {
		other, again := t.open("inventory"), t.open("ordering")
		t.mustAppend("order:1", 0, notes(2)...)
		if _, err := other.Append(t.Context(), "order:1", 0, note("mine")); err != nil {
			t.Fatalf("the same stream name in another log: %v", err)
		}
		if _, err := again.Append(t.Context(), "order:1", 2, note("from another process")); err != nil {
			t.Fatalf("append by another handle at the version committed by the first: %v", err)
		}
		t.wantStream("order:1", 3)
		if t.Log() != "ordering" || other.Log() != "inventory" {
			t.Errorf("logs are named %q and %q", t.Log(), other.Log())
		}
		t.Store = other
		t.wantStream("order:1", 1)
	},
}}

func roundTrip(t *storeTest) {
	full := courante.Event{
		Type: "shop.order_created", Schema: 7,
		Time:        time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC),
		Correlation: "Bestellung-Ü17", Causation: "ordering/order:1@1", Subject: "персона-9", Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		Data: json.RawMessage(`{"b": 12345678901234567890.1200, "a":"\u00e9 é 日本 \"<&>'", "nested":[{"x":null},-0.0,1e400], "a":2}`),
		Notes: &courante.Notes{
			Set:   []courante.Deadline{{Name: "pay by", Due: time.Date(2026, 3, 1, 0, 0, 0, 1000, time.UTC)}},
			Clear: []string{"confirm", ""},
			Ask:   []courante.Request{{ID: "charge-1", Effect: "charge", Data: json.RawMessage(`{"amount":12345678901234567890}`)}},
			Done:  []string{"quote-1"},
		},
	}
	empty := courante.Event{Type: "t", Schema: 1, Time: time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), Data: json.RawMessage(`""`)}
	elsewhere := empty
	elsewhere.Time = time.Date(2026, 7, 1, 12, 0, 0, 999999999, time.FixedZone("far", 5*3600+1800))

	const stream = `order:"Ünï/côde" 'x' {1,2} \n`
	t.mustAppend(stream, 0, full, empty, elsewhere)
	fullAgain := full
	fullAgain.Stream, fullAgain.Version = stream, 4
	t.mustCommit(courante.Changes{Events: []courante.Event{fullAgain}})
	t.tick()

	fromLog, _ := t.readOn(courante.Cursor{}, 100)
	key := courante.Key{Category: "order", ID: strings.TrimPrefix(stream, "order:"), Sourced: true}
	for from, events := range map[string][]courante.Event{
		"ReadStream": t.stream(stream, 0),
		"ReadLog":    fromLog,
		"Load":       t.loadOnce(key)[0].Events,
		"Read":       t.read(key)[0].Events,
	} {
		want := []courante.Event{full, empty, elsewhere, full}
		if len(events) != len(want) {
			t.Fatalf("%s: %d events, want %d", from, len(events), len(want))
		}
		want[2].Time = time.Date(2026, 7, 1, 6, 30, 0, 999999000, time.UTC)
		for i, e := range events {
			want[i].Log, want[i].Stream, want[i].Version = "ordering", stream, int64(i+1)
			t.wantEvent(from, e, want[i])
			if e.Epoch == 0 || e.Position == 0 || e.Xid == 0 {
				t.Errorf("%s: %s was read with epoch %d, position %d, xid %d; none may be zero", from, e.ID(), e.Epoch, e.Position, e.Xid)
			}
		}
	}
	if e := t.stream(stream, 0)[0]; e.Key() != strings.TrimPrefix(stream, "order:") {
		t.Errorf("key %q", e.Key())
	}
}

// wantEvent compares what the caller of an append decides about an event.
func (t *storeTest) wantEvent(from string, got, want courante.Event) {
	t.Helper()
	check := func(field string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s of %s is %v, want %v", from, field, want, got, want)
		}
	}
	check("log", got.Log, want.Log)
	check("stream", got.Stream, want.Stream)
	check("version", got.Version, want.Version)
	check("type", got.Type, want.Type)
	check("schema", got.Schema, want.Schema)
	check("time", got.Time.Format(time.RFC3339Nano), want.Time.Format(time.RFC3339Nano)) // with its zone
	check("correlation", got.Correlation, want.Correlation)
	check("causation", got.Causation, want.Causation)
	check("subject", got.Subject, want.Subject)
	check("trace", got.Trace, want.Trace)
	check("notes", asJSON(got.Notes), asJSON(want.Notes))
	if !bytes.Equal(got.Data, want.Data) {
		t.Errorf("%s: data is %s, want %s", from, got.Data, want.Data)
	}
}

func asJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
