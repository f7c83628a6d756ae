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
