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
