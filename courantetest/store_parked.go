package courantetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante"
)

var parkedCases = []storeCase{{
	"parked messages wait in order until they are resolved",
	"a key's messages are requeued in the order in which they were set aside, with what is needed to judge them",
	parkInOrder,
}, {
	"a parked message that failed again keeps its place",
	"writing its cause, attempts and retry time again must not put it behind younger messages of its key, nor bring back one that is resolved",
	func(t *storeTest) {
		for i := range 3 {
			t.mustCommit(courante.Changes{Park: []courante.Parked{{Subscriber: "test", Reaction: "reserve", Key: "1", Cause: "first", Attempts: 1, Event: noteAt("order:1", int64(i+1)), FirstBy: "v1", LastBy: "v1"}}})
		}
		before := t.parkedBy("test")
		again := before[0]
		again.Cause, again.Attempts, again.RetryAt = "second", 2, time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC)
		again.Stack, again.Fingerprint, again.LastBy = "main.reserve", "f00d", "v2"
		again.FirstFailed, again.LastFailed = again.RetryAt.Add(-time.Hour), again.RetryAt.Add(-time.Minute)
		t.mustCommit(courante.Changes{Park: []courante.Parked{again}})

		resolved := before[1]
		t.mustCommit(courante.Changes{Unpark: []int64{resolved.ID}})
		resolved.Cause = "too late"
		t.mustCommit(courante.Changes{Park: []courante.Parked{resolved}})

		after := t.parkedBy("test")
		if len(after) != 2 {
			t.Fatalf("%d messages are parked, want 2", len(after))
		}
		t.wantParked(after[0], again)
		t.wantParked(after[1], before[2])
	},
}, {
	"a parked message is resolved once",
	"two owners that requeue one message both handle it: the second's commit must fail as a whole, or the change happens twice",
	func(t *storeTest) {
		for range 2 {
			t.mustCommit(courante.Changes{Park: []courante.Parked{{Subscriber: "test", Key: "1", Event: noteAt("order:1", 1)}}})
		}
		messages := t.parkedBy("test")
		t.mustCommit(courante.Changes{Unpark: []int64{messages[0].ID}})
		for _, ids := range [][]int64{{messages[0].ID}, {messages[1].ID, messages[0].ID}, {messages[1].ID + 1000}} {
			_, err := t.commit(courante.Changes{Events: []courante.Event{noteAt("order:1", 1)}, Unpark: ids})
			t.wantError(err, courante.ErrFenced)
		}
		t.wantStream("order:1", 0)
		if left := t.parkedBy("test"); len(left) != 1 || left[0].ID != messages[1].ID {
			t.Errorf("%d messages are parked, want the second one only", len(left))
		}
	},
}, {
	"parked messages are found by key and by saga, the first ones first",
	"an owner of a lane takes up one key at a time out of very many, and a saga asks for its own",
	findParked,
}, {
	"what a key waits for is what its first message waits for",
	"an owner of a lane that took another one for it would overtake the first, or never go on",
	firstOfKey,
}}

func parkInOrder(t *storeTest) {
	event := noteAt("order:1", 4)
	event.Log, event.Epoch, event.Tick, event.Position, event.Xid = "ordering", 1, 9, math.MaxInt64, math.MaxUint64>>1
	event.Notes = &courante.Notes{Clear: []string{"pay"}}
	want := []courante.Parked{
		{Subscriber: "test", Reaction: "reserve", Event: event, Key: "1", Cause: "no such SKU: \"ü\"", Attempts: 3, RetryAt: time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC),
			Stack: "main.reserve\n\tstock.go:17", Fingerprint: "cafe", FirstFailed: time.Date(2026, 2, 28, 0, 0, 0, 2000, time.UTC), LastFailed: time.Date(2026, 3, 1, 0, 0, 0, 3000, time.UTC), FirstBy: "v1.2", LastBy: "v1.3"},
		{Subscriber: "test", Event: noteAt("order:1", 5), Key: "1"}, // only waits behind the first
		{Subscriber: "test", Event: noteAt("order:2", 1), Key: "2", Cause: "x", Attempts: 1},
	}
	t.mustCommit(courante.Changes{Park: want[:2]})
	t.mustCommit(courante.Changes{Park: []courante.Parked{want[2], {Subscriber: "other", Event: noteAt("order:3", 1), Key: "3"}}})

	got := t.parkedBy("test")
	if len(got) != len(want) {
		t.Fatalf("%d messages are parked, want %d", len(got), len(want))
	}
	for i := range got {
		t.wantParked(got[i], want[i])
		t.wantEvent("Parked", got[i].Event, want[i].Event)
		if i > 0 && got[i].ID <= got[i-1].ID || got[i].ID == 0 {
			t.Errorf("message %d has id %d, and ids ascend from 1", i, got[i].ID)
		}
	}
	if e := got[0].Event; e.Epoch != event.Epoch || e.Tick != event.Tick || e.Position != event.Position || e.Xid != event.Xid {
		t.Errorf("the parked event's place in its log is %d %d %d %d, want %d %d %d %d",
			e.Epoch, e.Tick, e.Position, e.Xid, event.Epoch, event.Tick, event.Position, event.Xid)
	}

	t.mustCommit(courante.Changes{Unpark: []int64{got[0].ID, got[2].ID}})
	left := t.parkedBy("test")
	if len(left) != 1 || left[0].ID != got[1].ID {
		t.Errorf("after two are resolved %d are parked, want message %d only", len(left), got[1].ID)
	}
	if others := t.parkedBy("other"); len(others) != 1 {
		t.Errorf("another subscriber has %d messages, want its one", len(others))
	}
}

func findParked(t *storeTest) {
	var all []courante.Parked
	for i := range 6 {
		e := noteAt(fmt.Sprintf("order:%d", i%3), int64(i+1))
		e.Correlation = fmt.Sprintf("saga-%d", i%2)
		all = append(all, courante.Parked{Subscriber: "test", Key: e.Key(), Event: e, Cause: "x", Attempts: 1})
	}
	t.mustCommit(courante.Changes{Park: all})
	for _, c := range []struct {
		which courante.ParkedQuery
		want  string // versions of the events
	}{
		{courante.ParkedQuery{}, "1 2 3 4 5 6"},
		{courante.ParkedQuery{Max: 4}, "1 2 3 4"},
		{courante.ParkedQuery{Keys: []string{"2", "0"}}, "1 3 4 6"},
		{courante.ParkedQuery{Keys: []string{"2", "0"}, Max: 3}, "1 3 4"},
		{courante.ParkedQuery{Keys: []string{}}, ""},
		{courante.ParkedQuery{Correlation: "saga-1"}, "2 4 6"},
		{courante.ParkedQuery{Correlation: "saga-1", Keys: []string{"0"}}, "4"},
		{courante.ParkedQuery{Correlation: "saga-7"}, ""},
	} {
		list, err := t.Parked(t.Context(), "test", c.which)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range list {
			got = append(got, fmt.Sprint(p.Event.Version))
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%+v finds %q, want %q", c.which, got, c.want)
		}
	}
}

func firstOfKey(t *storeTest) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC)
	message := func(key string, cause string, retryAt time.Time) courante.Parked {
		return courante.Parked{Subscriber: "test", Key: key, Event: noteAt("order:"+key, 1), Cause: cause, RetryAt: retryAt}
	}
	t.mustCommit(courante.Changes{Park: []courante.Parked{
		message("a", "x", at), message("a", "", time.Time{}), message("b", "y", time.Time{}), message("c", "z", at), message("c", "", time.Time{}),
	}})
	check := func(keys []string, want ...courante.AsideKey) {
		t.Helper()
		aside, err := t.Aside(t.Context(), "test", keys)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(aside.Keys, func(a, b courante.AsideKey) int { return strings.Compare(a.Key, b.Key) })
		if got, want := asJSON(aside.Keys), asJSON(want); got != want && len(aside.Keys)+len(want) > 0 {
			t.Errorf("of %v are aside %s, want %s", keys, got, want)
		}
	}
	a, b, c := courante.AsideKey{Key: "a", Failed: true, RetryAt: at}, courante.AsideKey{Key: "b", Failed: true}, courante.AsideKey{Key: "c", Failed: true, RetryAt: at}
	check(nil, a, b, c)
	check([]string{"c", "d"}, c)
	check([]string{})
	t.mustCommit(courante.Changes{Unpark: []int64{t.parkedBy("test")[0].ID}})
	check(nil, courante.AsideKey{Key: "a"}, b, c)
	if other, err := t.Aside(t.Context(), "other", nil); err != nil || len(other.Keys) != 0 {
		t.Errorf("another subscriber has %v aside (error %v), want nothing", other.Keys, err)
	}
}

func (t *storeTest) parkedBy(subscriber string) []courante.Parked {
	t.Helper()
	list, err := t.Parked(t.Context(), subscriber, courante.ParkedQuery{})
	if err != nil {
		t.Fatalf("Parked(%s): %v", subscriber, err)
	}
	return list
}

// wantParked compares all but the id and the event.
func (t *storeTest) wantParked(got, want courante.Parked) {
	t.Helper()
	id, retryAt := got.ID, got.RetryAt
	got.Event, want.Event, got.ID, want.ID = courante.Event{}, courante.Event{}, 0, 0
	got.RetryAt, want.RetryAt = time.Time{}, want.RetryAt.UTC()
	if !retryAt.Equal(want.RetryAt) || retryAt.IsZero() != want.RetryAt.IsZero() {
		t.Errorf("message %d is retried at %v, want %v", id, retryAt, want.RetryAt)
	}
	want.RetryAt = time.Time{}
	if got, want := asJSON(got), asJSON(want); got != want {
		t.Errorf("message %d is %s, want %s", id, got, want)
	}
}
