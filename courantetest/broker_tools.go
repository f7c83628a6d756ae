package courantetest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

// brokerPatience is how long a test waits for a message: a broker that lost
// its connections needs a moment, a slow machine some more.
const brokerPatience = 30 * time.Second

func laneQueue(subscriber string, k int) courante.Queue {
	return courante.Queue{Subscriber: subscriber, Lanes: 4, K: k}
}

// numbered is the message of event n of a log, for the queues, linked to the
// event before it.
func numbered(n int64, queues ...courante.Queue) courante.Message {
	e := courante.Event{
		Log: "ordering", Stream: "order:17", Version: n, Type: "shop.order_created", Schema: 1,
		Time: time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC),
		Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n)), Epoch: 1, Tick: n, TickHash: uint64(n) * 31, Position: n + 100, Xid: uint64(n) + 1000,
	}
	m := courante.Message{Event: &e, At: e.Cursor()}
	for _, q := range queues {
		m.Links = append(m.Links, courante.Link{Queue: q, Epoch: 1, Before: cursorOf(n - 1)})
	}
	return m
}

// cursorOf is the place behind event n.
func cursorOf(n int64) courante.Cursor {
	if n == 0 {
		return courante.Cursor{}
	}
	return courante.Cursor{Epoch: 1, Tick: n, Hash: uint64(n) * 31, Position: n + 100}
}

// series is the messages of events from..to.
func series(from, to int64, queues ...courante.Queue) (list []courante.Message) {
	for n := from; n <= to; n++ {
		list = append(list, numbered(n, queues...))
	}
	return list
}

func declare(t *testing.T, b courante.Broker, queues ...courante.Queue) {
	t.Helper()
	if err := b.Declare(t.Context(), queues...); err != nil {
		t.Fatal(err)
	}
}

func publish(t *testing.T, b courante.Broker, messages ...courante.Message) {
	t.Helper()
	if err := b.Publish(t.Context(), messages); err != nil {
		t.Fatal(err)
	}
}

func consume(t *testing.T, b courante.Broker, q courante.Queue) courante.Consumption {
	t.Helper()
	c, err := b.Consume(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// wantDepth waits until the broker has counted what is under way.
func wantDepth(t *testing.T, b courante.Broker, q courante.Queue, want int) {
	t.Helper()
	deadline := time.NewTimer(brokerPatience)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		got, err := b.Depth(t.Context(), q)
		if err == nil && got == want {
			return
		}
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("Depth = %d, %v, want %d", got, err, want)
		}
	}
}

// takeUntil takes until enough says so.
func takeUntil(t *testing.T, c courante.Consumption, enough func([]courante.Delivery) bool) []courante.Delivery {
	t.Helper()
	deadline := time.NewTimer(brokerPatience)
	defer deadline.Stop()
	var all []courante.Delivery
	for !enough(all) {
		list, err := c.Take(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, list...); len(list) > 0 {
			continue
		}
		select {
		case <-c.Arrived():
		case <-deadline.C:
			t.Fatalf("got %d messages (%v) and then nothing for %v", len(all), numbers(all), brokerPatience)
		}
	}
	return all
}

func take(t *testing.T, c courante.Consumption, n int) []courante.Delivery {
	t.Helper()
	return takeUntil(t, c, func(list []courante.Delivery) bool { return len(list) >= n })
}

// takeTo takes until event n has come.
func takeTo(t *testing.T, c courante.Consumption, n int64) []courante.Delivery {
	t.Helper()
	return takeUntil(t, c, func(list []courante.Delivery) bool {
		return len(list) > 0 && list[len(list)-1].Event != nil && list[len(list)-1].Event.Version == n
	})
}

// numbers are those of the events, 0 for a mark.
func numbers(list []courante.Delivery) []int64 {
	all := make([]int64, len(list))
	for i := range list {
		if list[i].Event != nil {
			all[i] = list[i].Event.Version
		}
	}
	return all
}

// wantNumbers checks that the deliveries are events from..to, in order.
func wantNumbers(t *testing.T, list []courante.Delivery, from, to int64) {
	t.Helper()
	got := numbers(list)
	if int64(len(got)) != to-from+1 {
		t.Errorf("got %d messages, want %d: %v", len(got), to-from+1, got)
		return
	}
	for i, n := range got {
		if n != from+int64(i) {
			t.Errorf("message %d is event %d, want %d: %v", i, n, from+int64(i), got)
			return
		}
	}
}
