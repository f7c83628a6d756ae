package courantetest

import (
	"encoding/json"
	"math"
	"time"

	"github.com/courante-dev/courante"
)

var testLane = courante.Lane{Subscriber: "inventory", Log: "ordering", Epoch: 1, K: 0}

var laneCases = []storeCase{{
	"progress comes back as it was recorded",
	"a lane goes on where its last commit left it: the newest number, the cursor to the bit, and its note",
	func(t *storeTest) {
		_, err := t.Progress(t.Context(), testLane)
		t.wantError(err, courante.ErrNotFound)
		for n, want := range []courante.Progress{
			{},
			{Cursor: courante.Cursor{Epoch: 1, Tick: 7, Position: 3, Hash: 5}},
			{Cursor: courante.Cursor{Epoch: 2, Tick: 1 << 40, Position: courante.MaxPosition, Hash: math.MaxUint64 - 1}, Note: json.RawMessage(`{"due": 1.0}`)},
		} {
			want.Lane, want.N = testLane, int64(n+1)
			t.mustCommit(courante.Changes{Progress: []courante.Progress{want}})
			got, err := t.open("ordering").Progress(t.Context(), testLane)
			if err != nil {
				t.Fatal(err)
			}
			if got.Lane != want.Lane || got.N != want.N || got.Cursor != want.Cursor || string(got.Note) != string(want.Note) {
				t.Errorf("progress %+v, want %+v", got, want)
			}
		}
	},
}, {
	"progress is fenced by its number",
	"a lane's next commit has the last number + 1: a repeated number is a zombie's, a number further on hides a loss",
	func(t *storeTest) {
		record := func(n int64) error {
			_, err := t.commit(courante.Changes{Progress: []courante.Progress{{Lane: testLane, N: n}}})
			return err
		}
		t.wantError(record(2), courante.ErrFenced)
		for n := int64(1); n <= 3; n++ {
			if err := record(n); err != nil {
				t.Fatalf("number %d: %v", n, err)
			}
		}
		for _, n := range []int64{1, 2, 3, 5, 0} {
			t.wantError(record(n), courante.ErrFenced)
		}
		if err := record(4); err != nil {
			t.Errorf("number 4: %v", err)
		}
	},
}, {
	"a zombie writes nothing",
	"the owner that was taken for dead comes back with its batch: the lane's number is taken, and its events must not be there twice",
	func(t *storeTest) {
		zombie := t.begin(t.Store)
		t.load(zombie, sourced)
		heir := t.begin(t.open("ordering"))
		t.load(heir, sourced)
		batch := courante.Changes{
			Events:   []courante.Event{noteAt("order:1", 1)},
			Progress: []courante.Progress{{Lane: testLane, N: 1}},
		}
		if _, err := heir.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		batch.Events = []courante.Event{noteAt("order:other", 1)}
		_, err := zombie.Commit(t.Context(), batch)
		t.wantError(err, courante.ErrFenced)
		t.wantStream("order:1", 1)
		t.wantStream("order:other", 0)
	},
}, {
	"lanes are independent",
	"subscriber, source log, lane epoch and k each make another lane with numbers of its own",
	func(t *storeTest) {
		lanes := []courante.Lane{
			testLane,
			{Subscriber: "search", Log: "ordering", Epoch: 1, K: 0},
			{Subscriber: "inventory", Log: "payment", Epoch: 1, K: 0},
			{Subscriber: "inventory", Log: "ordering", Epoch: 2, K: 0},
			{Subscriber: "inventory", Log: "ordering", Epoch: 1, K: 1},
		}
		var together courante.Changes
		for i, lane := range lanes {
			together.Progress = append(together.Progress, courante.Progress{Lane: lane, N: 1, Cursor: courante.Cursor{Tick: int64(i)}})
		}
		t.mustCommit(together)
		t.mustCommit(courante.Changes{Progress: []courante.Progress{{Lane: lanes[4], N: 2, Cursor: courante.Cursor{Tick: 4}}}})
		for i, lane := range lanes {
			if p, err := t.Progress(t.Context(), lane); err != nil || p.Cursor.Tick != int64(i) {
				t.Errorf("%+v is at %v (error %v), want tick %d", lane, p.Cursor, err, i)
			}
		}
	},
}, {
	"lane epochs are recorded once, in order",
	"all owners of a subscriber's lanes cut the log in the same places: of two that add an epoch one is fenced and reads the other's",
	func(t *storeTest) {
		epochs := []courante.LaneEpoch{
			{Subscriber: "inventory", Log: "ordering", N: 1, Types: []string{"shop.order_canceled", "shop.order_created"}, Lanes: 1},
			{Subscriber: "inventory", Log: "ordering", N: 2, Types: []string{"shop.order_created"}, Lanes: 16,
				From: courante.Cursor{Epoch: 1, Tick: 9, Position: courante.MaxPosition, Hash: math.MaxUint64}},
			// What operators decide: the subscriber is retired, and begins again.
			{Subscriber: "inventory", Log: "ordering", N: 3, From: courante.Cursor{Epoch: 1, Tick: 12, Position: 7, Hash: 1}, Retired: true, By: "ann@host"},
			{Subscriber: "inventory", Log: "ordering", N: 4, By: "bob"},
		}
		for _, e := range epochs {
			if err := t.AddLaneEpoch(t.Context(), e); err != nil {
				t.Fatalf("epoch %d: %v", e.N, err)
			}
			again := e
			again.Lanes = 99
			t.wantError(t.open("ordering").AddLaneEpoch(t.Context(), again), courante.ErrFenced)
		}
		got, err := t.LaneEpochs(t.Context(), "inventory", "ordering")
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i].Began.IsZero() {
				t.Errorf("epoch %d does not say when it was recorded", i+1)
			}
			if got[i].Began = (time.Time{}); len(got[i].Types) == 0 {
				got[i].Types = nil
			}
		}
		if got, want := asJSON(got), asJSON(epochs); got != want {
			t.Errorf("epochs %s, want %s", got, want)
		}
		for k := range 2 {
			_, err := t.Progress(t.Context(), courante.Lane{Subscriber: "inventory", Log: "ordering", Epoch: 3, K: k})
			t.wantError(err, courante.ErrNotFound)
		}
		for _, other := range [][2]string{{"search", "ordering"}, {"inventory", "payment"}} {
			if got, err := t.LaneEpochs(t.Context(), other[0], other[1]); err != nil || len(got) != 0 {
				t.Errorf("epochs of %v: %v (error %v), want none", other, got, err)
			}
		}
	},
}, {
	"parked messages wait in order until they are resolved",
	"a key's messages are requeued in the order in which they were set aside, with what is needed to judge them",
	parkInOrder,
}, {
	"a parked message that failed again keeps its place",
	"writing its cause, attempts and retry time again must not put it behind younger messages of its key, nor bring back one that is resolved",
	func(t *storeTest) {
		for i := range 3 {
			t.mustCommit(courante.Changes{Park: []courante.Parked{{Subscriber: "test", Reaction: "reserve", Key: "1", Cause: "first", Attempts: 1, Event: noteAt("order:1", int64(i+1)), Version: "v1"}}})
		}
		before := t.parkedBy("test")
		again := before[0]
		again.Cause, again.Attempts, again.RetryAt = "second", 2, time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC)
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
	"a reply is remembered once",
	"the second request with a key gets the first one's answer: recording another conflicts on the key and undoes the second's change",
	func(t *storeTest) {
		_, err := t.Reply(t.Context(), "key-1")
		t.wantError(err, courante.ErrNotFound)
		want := courante.Reply{Key: "key-1", Hash: [32]byte{0, 1, 0xff}, Body: json.RawMessage(`{"id": "17", "n":1.0}`)}
		receipt := t.mustCommit(courante.Changes{Replies: []courante.Reply{want, {Key: "key-2", Body: json.RawMessage(`null`)}}})
		_, err = t.commit(courante.Changes{
			Events:  []courante.Event{noteAt("order:1", 1)},
			Replies: []courante.Reply{{Key: "key-3", Body: json.RawMessage(`{}`)}, {Key: "key-1", Body: json.RawMessage(`{}`)}},
		})
		t.wantConflict(err, "key-1")
		t.wantStream("order:1", 0)
		_, err = t.Reply(t.Context(), "key-3")
		t.wantError(err, courante.ErrNotFound)

		got, err := t.open("ordering").Reply(t.Context(), "key-1")
		if err != nil {
			t.Fatal(err)
		}
		if got.Key != want.Key || got.Hash != want.Hash || string(got.Body) != string(want.Body) {
			t.Errorf("reply %+v, want %+v", got, want)
		}
		if got.Token != receipt.Token {
			t.Errorf("the reply's token is %+v, its commit's %+v", got.Token, receipt.Token)
		}
	},
}}

func parkInOrder(t *storeTest) {
	event := noteAt("order:1", 4)
	event.Log, event.Epoch, event.Tick, event.Position, event.Xid = "ordering", 1, 9, math.MaxInt64, math.MaxUint64>>1
	event.Notes = &courante.Notes{Clear: []string{"pay"}}
	want := []courante.Parked{
		{Subscriber: "test", Reaction: "reserve", Event: event, Key: "1", Cause: "no such SKU: \"ü\"", Attempts: 3, RetryAt: time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC), Version: "v1.2"},
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

func (t *storeTest) parkedBy(subscriber string) []courante.Parked {
	t.Helper()
	list, err := t.Parked(t.Context(), subscriber)
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
