package courantetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

var brokerContent = []brokerCase{
	{"whole event", "All of an event arrives but its notes, which are its own context's business.", func(t *testing.T, f BrokerFixture) {
		q := laneQueue("inventory", 2)
		wantEvents(t, f, q, courante.Event{
			Log: "ordering", Stream: "order:17", Version: 1<<62 + 1, Type: "shop.order_created", Schema: 7,
			Time:        time.Date(2026, 11, 22, 23, 59, 59, 999999000, time.UTC),
			Correlation: "17", Causation: "ordering/order:17@1", Subject: "person:4", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			Data:  json.RawMessage(`{"total": {"amount":1250,"currency":"GBP"} }`),
			Notes: &courante.Notes{Clear: []string{"payment"}},
			Epoch: 3, Tick: 1 << 40, TickHash: 1<<64 - 1, Position: 1<<62 + 3, Xid: 1<<64 - 2,
		}, courante.Event{
			Log: "ordering", Stream: "order:18", Version: 1, Type: "shop.order_created", Schema: 1, Epoch: 1, Tick: 1, Position: 1, Xid: 1,
		})
	}},
	{"hostile texts", "Texts arrive as they are, whatever is in them.", func(t *testing.T, f BrokerFixture) {
		var list []courante.Event
		for _, text := range []string{
			"a/b:c@d#e*f.g.h", "#", "*", "a,b;c d", "\x00\x01\xff\xfe", "Ünïcödé 🛒", strings.Repeat("x", 300), "line\r\nbreak: 1\r\n\r\n", `"quoted\"`, "%2F%", "CC", "cloudEvents:id", " ",
		} {
			list = append(list, courante.Event{
				Log: text, Stream: text, Type: text, Correlation: text, Causation: text, Subject: text, Trace: text, Data: json.RawMessage(fmt.Sprintf("%q", text)),
				Version: int64(len(list)) + 1,
			})
		}
		wantEvents(t, f, courante.Queue{Subscriber: "a/b.c#*%é 1of2", Lanes: 1000, K: 999}, list...)
	}},
	{"subscribers apart", "Names that look alike are different queues.", func(t *testing.T, f BrokerFixture) {
		b := f.Connect(t)
		queues := []courante.Queue{{Subscriber: "a", Lanes: 12, K: 1}, {Subscriber: "a", Lanes: 2, K: 1}, {Subscriber: "a", Lanes: 12, K: 11}, {Subscriber: "a/1", Lanes: 2}, {Subscriber: "A", Lanes: 2, K: 1}, {Subscriber: "#", Lanes: 1}, {Subscriber: "*", Lanes: 1}}
		declare(t, b, queues...)
		for i, q := range queues {
			publish(t, b, numbered(int64(i)+1, q), numbered(int64(i)+100, q))
		}
		for i, q := range queues {
			if got := numbers(take(t, consume(t, b, q), 2)); !slices.Equal(got, []int64{int64(i) + 1, int64(i) + 100}) {
				t.Errorf("%v got %v, want %d and %d", q, got, i+1, i+100)
			}
		}
	}},
	{"marks", "A mark tells lanes of a place without an event, among the events in order.", func(t *testing.T, f BrokerFixture) {
		b, q, other := f.Connect(t), laneQueue("inventory", 0), laneQueue("payment", 3)
		declare(t, b, q, other)
		at := courante.Cursor{Epoch: 2, Tick: 9, Position: courante.MaxPosition, Hash: 77}
		mark := courante.Message{Log: "ordering", At: at, Links: []courante.Link{{Queue: q, Epoch: 1, Before: cursorOf(1)}, {Queue: other, Epoch: 2}}}
		publish(t, b, numbered(1, q), mark, numbered(2, q))
		got := take(t, consume(t, b, q), 3)
		if !slices.Equal(numbers(got), []int64{1, 0, 2}) {
			t.Fatalf("got %v, want event 1, a mark, event 2", numbers(got))
		}
		for i, d := range []courante.Delivery{got[1], take(t, consume(t, b, other), 1)[0]} {
			if d.Event != nil || d.Log != "ordering" || d.At != at || d.Link != mark.Links[i] || d.Err != nil {
				t.Errorf("got %+v, want the mark with link %d", d, i)
			}
		}
	}},
	{"large", "A megabyte is carried, also many of them at once.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		declare(t, b, q)
		list := series(1, 8, q)
		data := json.RawMessage(`"` + strings.Repeat("0123456789abcdef", 1<<16) + `"`)
		for i := range list {
			list[i].Event.Data = data
		}
		publish(t, b, list...)
		got := take(t, consume(t, b, q), 8)
		wantNumbers(t, got, 1, 8)
		for _, d := range got {
			if string(d.Event.Data) != string(data) {
				t.Errorf("event %d came with %d bytes, want the %d sent", d.Event.Version, len(d.Event.Data), len(data))
			}
		}
	}},
	{"requests", "Requests reach whoever relays the log, also if it comes later, and nobody else.", func(t *testing.T, f BrokerFixture) {
		lane, relay := f.Connect(t), f.Connect(t)
		want := []courante.RelayRequest{
			{Epoch: courante.LaneEpoch{Subscriber: "inventory", Log: "ordering", N: 2, From: cursorOf(4), Types: []string{"a", "b"}, Lanes: 4, By: "somebody", Began: time.Date(2026, 11, 22, 1, 2, 3, 4000, time.UTC)}},
			{Epoch: courante.LaneEpoch{Subscriber: "inventory", Log: "ordering", N: 3, Retired: true}, Again: true, K: 3, After: cursorOf(9)},
		}
		ask(t, lane, "ordering", want[0])
		ask(t, lane, "payment", courante.RelayRequest{K: 7})
		asked, err := relay.Asked(t.Context(), "ordering")
		if err != nil {
			t.Fatal(err)
		}
		defer asked.Close()
		ask(t, lane, "ordering", want[1])
		if got := answer(t, asked, 2); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		asked.Close()
		ask(t, lane, "ordering", want[1])
		again, err := relay.Asked(t.Context(), "ordering")
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if got := answer(t, again, 1); !reflect.DeepEqual(got, want[1:]) {
			t.Errorf("the next relay got %+v, want %+v: what was taken is over", got, want[1:])
		}
	}},
}

// wantEvents sends events to the queue and compares what arrives.
func wantEvents(t *testing.T, f BrokerFixture, q courante.Queue, events ...courante.Event) {
	t.Helper()
	b := f.Connect(t)
	declare(t, b, q)
	var list []courante.Message
	for i := range events {
		list = append(list, courante.Message{Event: &events[i], At: events[i].Cursor(), Links: []courante.Link{{Queue: q, Epoch: 1}}})
	}
	publish(t, b, list...)
	for i, d := range take(t, consume(t, b, q), len(list)) {
		if d.Err != nil {
			t.Errorf("event %d: %v", i, d.Err)
			continue
		}
		want := events[i]
		want.Notes = nil
		if len(d.Event.Data) == 0 {
			d.Event.Data = nil
		}
		if !reflect.DeepEqual(*d.Event, want) {
			t.Errorf("event %d arrived as\n%+v, want\n%+v", i, *d.Event, want)
		}
		if d.Log != want.Log || d.At != want.Cursor() {
			t.Errorf("event %d is of log %q at %v, want %q at %v", i, d.Log, d.At, want.Log, want.Cursor())
		}
	}
}

func ask(t *testing.T, b courante.Broker, log string, r courante.RelayRequest) {
	t.Helper()
	if err := b.Ask(t.Context(), log, r); err != nil {
		t.Fatal(err)
	}
}

func answer(t *testing.T, r courante.Requests, n int) (all []courante.RelayRequest) {
	t.Helper()
	deadline := time.NewTimer(brokerPatience)
	defer deadline.Stop()
	for len(all) < n {
		list, err := r.Take(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, list...); len(list) > 0 {
			continue
		}
		select {
		case <-r.Arrived():
		case <-deadline.C:
			t.Fatalf("got %d requests, want %d", len(all), n)
		}
	}
	return all
}
