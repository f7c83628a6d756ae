package courante_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// Queues of a number of lanes that is over go as soon as nobody has them any
// more, and those in use stay.
func TestQueuesOfFormerLanesGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "memory", memory.BrokerConfig{})
		left := func(lanes int) bool {
			return slices.ContainsFunc(w.broker.Queues(), func(q courante.Queue) bool { return q.Subscriber == "hotel" && q.Lanes == lanes })
		}
		desk, hotel := w.start(t, "desk", 1), w.start(t, "hotel", 2)
		hotel.doOpen(t, "ritz", 100)
		w.book(t, desk, "a", 20)
		w.wait(t, desk, "a", 20)
		hotel.stop()
		w.start(t, "hotel", 3)
		w.book(t, desk, "b", 20)
		w.wait(t, desk, "b", 20)
		c, err := w.broker.Connect().Consume(t.Context(), courante.Queue{Subscriber: "hotel", Lanes: 2, K: 1})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // of the bubble's time
		if !left(2) {
			t.Error("a queue was removed from under its consumer")
		}
		c.Close()
		time.Sleep(time.Minute)
		if left(2) || !left(3) {
			t.Errorf("the queues are %v, want those of three lanes", w.broker.Queues())
		}
		w.book(t, desk, "c", 20)
		w.wait(t, desk, "c", 20)
	})
}

// A subscriber that was retired gets nothing any more, keeps no part of the log,
// and leaves no queues; added again, it begins anew.
func TestRelayHearsOfRetirement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "memory", memory.BrokerConfig{})
		desk, hotel := w.start(t, "desk", 1), w.start(t, "hotel", 2)
		hotel.doOpen(t, "ritz", 100)
		w.book(t, desk, "a", 20)
		w.wait(t, desk, "a", 20)
		source, subscriber := w.databases["desk"]().store("desk"), w.databases["hotel"]().store("hotel")
		head := func() courante.Cursor {
			t.Helper()
			c, err := source.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		if _, err := courante.RetireSubscriber(t.Context(), subscriber, "desk", head(), "ann@host", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // of the bubble's time
		w.book(t, desk, "b", 20)
		time.Sleep(2 * time.Minute)
		if i := slices.IndexFunc(w.broker.Queues(), func(q courante.Queue) bool { return q.Subscriber == "hotel" }); i >= 0 {
			t.Errorf("queues of the retired subscriber are left: %v", w.broker.Queues()[i:])
		}
		p, err := source.Progress(t.Context(), courante.Lane{Subscriber: "desk/relay", Log: "desk", Epoch: 1})
		if err != nil || p.Cursor.Before(head()) {
			t.Errorf("the relay keeps the log from %s on (%v), want from its end %s on", p.Cursor, err, head())
		}
		if err := courante.AddSubscriber(t.Context(), subscriber, "desk", head(), "bob"); err != nil {
			t.Fatal(err)
		}
		w.book(t, desk, "c", 20)
		w.wait(t, desk, "c", 20)
		if n := len(w.asked.of); n != 40 {
			t.Errorf("the registry was asked for %d licences, want 40: those between were never its", n)
		}
	})
}
