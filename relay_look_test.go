package courante_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// A subscriber that is gone for long is sent no more than its queue should
// hold; when it is back it gets all of it.
func TestQueuesStayShort(t *testing.T) {
	t.Parallel()
	const events, most = 40_000, 30_000
	var looks atomic.Int64
	w := newTown(t, "memory", memory.BrokerConfig{Pause: func(point string) error {
		if point == memory.PointBrokerDepth {
			looks.Add(1)
		}
		return nil
	}})
	desk, hotel := w.start(t, "desk", 1), w.start(t, "hotel", 1)
	turned := func(id string) bool { // away
		s, _, err := hotel.stays.Get(t.Context(), id)
		return err == nil && s.Status == "full"
	}
	if _, err := desk.doBook(t.Context(), "first", "closed"); err != nil {
		t.Fatal(err)
	}
	until(t, "the relay knows of the hotel", func() bool { return turned("first") })
	hotel.stop()

	store := w.databases["desk"]().store("desk")
	var list []courante.Event
	for n := range events {
		e := booked{ID: fmt.Sprint("b", n), Hotel: "closed"}
		list = append(list, courante.Event{Type: e.EventType(), Schema: 1, Data: fmt.Appendf(nil, `{"id":%q,"hotel":%q}`, e.ID, e.Hotel)})
		if len(list) == 500 {
			if _, err := store.Append(t.Context(), fmt.Sprint("booking:", n), 0, list...); err != nil {
				t.Fatal(err)
			}
			list = nil
		}
	}
	queue := courante.Queue{Subscriber: "hotel", Lanes: 1}
	depth := func() int {
		n, err := desk.conn.Depth(t.Context(), queue)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	until(t, "the queue is long", func() bool { return depth() >= 20_000 })
	from := looks.Load()
	until(t, "the relay waits and looks", func() bool { return looks.Load() > from+5 })
	if n := depth(); n > most {
		t.Errorf("%d messages wait for a subscriber that is gone, want at most %d", n, most)
	}
	hotel = w.start(t, "hotel", 1)
	until(t, "the last one is handled", func() bool { return turned(fmt.Sprint("b", events-1)) })
}

// A relay whose log nobody wants anything of is not behind: it moves its place
// on, also when the last event is past and nothing wakes it any more.
func TestRelayWithoutSubscribersIsNotBehind(t *testing.T) {
	t.Parallel()
	onEachTown(t, memory.BrokerConfig{}, func(t *testing.T, w *town) {
		desk := w.start(t, "desk", 1) // and no hotel
		store := w.databases["desk"]().store("desk")
		w.book(t, desk, "a", 50)
		until(t, "the relay is at the end", func() bool {
			head, err := store.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			p, err := store.Progress(t.Context(), courante.Lane{Subscriber: "desk/relay", Log: "desk", Epoch: 1})
			if err != nil && !errors.Is(err, courante.ErrNotFound) {
				t.Fatal(err)
			}
			return head.Tick > 0 && p.Cursor == head
		})
	})
}
