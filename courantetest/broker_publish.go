package courantetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/courante-dev/courante"
)

var brokerPublish = []brokerCase{
	{"order", "A queue keeps the order in which messages were published.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		declare(t, b, q)
		publish(t, b, series(1, 3000, q)...)
		publish(t, b, series(3001, 3001, q)...)
		c := consume(t, b, q)
		for at := int64(0); at < 3001; {
			list := take(t, c, 1)
			wantNumbers(t, list, at+1, at+int64(len(list)))
			at += int64(len(list))
			acknowledge(t, c, list[len(list)-1])
		}
	}},
	{"order of each publisher", "Several may publish at once; the messages of each stay in order.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		declare(t, b, q)
		const publishers, each = 4, 200
		var group sync.WaitGroup
		for p := range publishers {
			group.Go(func() {
				for first := int64(1); first <= each; first += 50 {
					list := series(first, first+49, q)
					for i := range list {
						list[i].Event.Log = fmt.Sprintf("log%d", p)
					}
					if err := b.Publish(t.Context(), list); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		next := map[string]int64{}
		for _, d := range take(t, consume(t, b, q), publishers*each) {
			if next[d.Log]++; d.Event.Version != next[d.Log] {
				t.Fatalf("event %d of %s came as its number %d", d.Event.Version, d.Log, next[d.Log])
			}
		}
	}},
	{"confirmed before consumed", "What Publish has confirmed is there for a consumer that comes later, whoever published it is gone by then or not.", func(t *testing.T, f BrokerFixture) {
		q := laneQueue("inventory", 0)
		b := f.Connect(t)
		declare(t, b, q)
		publish(t, b, series(1, 50, q)...)
		f.Cut(t)
		wantNumbers(t, take(t, consume(t, f.Connect(t), q), 50), 1, 50)
	}},
	{"every queue", "One message goes to each lane that it is for, with the lane's own link, and to no other.", func(t *testing.T, f BrokerFixture) {
		b := f.Connect(t)
		queues := []courante.Queue{laneQueue("inventory", 0), laneQueue("inventory", 1), laneQueue("payment", 0), {Subscriber: "payment", Lanes: 2, K: 0}}
		declare(t, b, queues...)
		both := numbered(1, queues[0], queues[2])
		both.Links[0].Epoch, both.Links[0].Before = 3, courante.Cursor{Epoch: 1, Tick: 9, Position: courante.MaxPosition, Hash: 1<<64 - 1}
		both.Links[1].Epoch, both.Links[1].Before = 4, courante.Cursor{}
		publish(t, b, both, numbered(2, queues...))
		for i, q := range queues {
			want := map[int][]courante.Link{0: {both.Links[0]}, 2: {both.Links[1]}}[i]
			want = append(want, courante.Link{Queue: q, Epoch: 1, Before: cursorOf(1)})
			got := take(t, consume(t, b, q), len(want))
			if len(got) != len(want) {
				t.Errorf("%v got %v, want %d messages", q, numbers(got), len(want))
				continue
			}
			for j := range want {
				if got[j].Link != want[j] {
					t.Errorf("%v got link %+v, want %+v", q, got[j].Link, want[j])
				}
			}
		}
	}},
	{"nowhere to go", "A message none of whose queues is there gives an error, for the caller to try again.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		err := b.Publish(t.Context(), series(1, 3, q))
		if !errors.Is(err, courante.ErrTransient) {
			t.Fatalf("published to a queue that was never declared: %v, want a transient error", err)
		}
		declare(t, b, q)
		publish(t, b, series(1, 3, q)...)
		f.Delete(t, q)
		if err := b.Publish(t.Context(), series(4, 5, q)); !errors.Is(err, courante.ErrTransient) {
			t.Fatalf("published to a queue that was deleted: %v, want a transient error", err)
		}
		declare(t, b, q)
		publish(t, b, series(4, 5, q)...)
		wantNumbers(t, take(t, consume(t, b, q), 2), 4, 5)
	}},
	{"declared twice", "Declare makes what is missing and leaves the rest as it is.", func(t *testing.T, f BrokerFixture) {
		b, q, other := f.Connect(t), laneQueue("inventory", 0), laneQueue("inventory", 1)
		declare(t, b)
		declare(t, b, q)
		publish(t, b, series(1, 2, q)...)
		declare(t, f.Connect(t), q, other)
		publish(t, b, series(3, 4, q, other)...)
		wantNumbers(t, take(t, consume(t, b, q), 4), 1, 4)
		wantNumbers(t, take(t, consume(t, b, other), 2), 3, 4)
	}},
	{"cut while publishing", "Whatever breaks, messages that were repeated until Publish succeeded are all there, and the last copies are in order.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		declare(t, b, q)
		const most = 4000
		half := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for first := int64(1); first <= most; first += 100 {
				if first == most/2+1 {
					close(half)
				}
				for b.Publish(t.Context(), series(first, first+99, q)) != nil {
					if t.Context().Err() != nil {
						return
					}
				}
			}
		}()
		<-half
		f.Cut(t)
		<-done
		c := consume(t, b, q)
		at := int64(0)
		for at < most {
			list := take(t, c, 1)
			for _, n := range numbers(list) {
				if n == at+1 {
					at = n
				}
			}
			if err := c.Ack(t.Context(), list[len(list)-1].Tag); err != nil {
				t.Fatal(err)
			}
		}
	}},
	{"cancelled", "A caller that gives up gets an error, and the next one is served.", func(t *testing.T, f BrokerFixture) {
		b, q := f.Connect(t), laneQueue("inventory", 0)
		declare(t, b, q)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Publish(ctx, series(1, 1, q)); !errors.Is(err, context.Canceled) {
			t.Errorf("Publish after its context was cancelled: %v", err)
		}
		publish(t, b, series(1, 10, q)...)
		list := takeTo(t, consume(t, b, q), 10)
		wantNumbers(t, list[len(list)-10:], 1, 10)
	}},
}
