package courante

import (
	"context"
	"testing"
)

// pile is a queue that holds back what comes behind 500 messages that are not
// acknowledged, as a broker may.
type pile struct {
	ready   []Delivery
	out     []uint64 // tags
	last    uint64   // tag
	arrived chan struct{}
}

func (h *pile) Take(_ context.Context, most int) ([]Delivery, error) {
	n := min(most, len(h.ready), 500-len(h.out))
	list := h.ready[:n]
	h.ready = h.ready[n:]
	for _, d := range list {
		h.out = append(h.out, d.Tag)
	}
	return list, nil
}

func (h *pile) Ack(_ context.Context, upTo uint64) error {
	for len(h.out) > 0 && h.out[0] <= upTo {
		h.out = h.out[1:]
	}
	return nil
}

func (h *pile) Arrived() <-chan struct{} { return h.arrived }
func (*pile) Close()                     {}

// add puts n events of a log and lane epoch behind what is there.
func (h *pile) add(log string, epoch, n int) {
	for i := range int64(n) {
		h.last++
		h.ready = append(h.ready, Delivery{
			Event: &Event{Log: log, Tick: i + 1}, Log: log, At: Cursor{Tick: i + 1},
			Link: Link{Epoch: epoch, Before: Cursor{Tick: i}}, Tag: h.last,
		})
	}
}

// Messages that nobody takes now must not keep away those behind them: of
// another log, or of the lane epoch before, which were lost and are sent again
// behind those of the next one.
func TestUnclaimedMessagesKeepNothingAway(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]struct {
		log   string
		epoch int
	}{
		"another log":     {"hotel", 1},
		"the next epoch":  {"desk", 2},
		"one that ended":  {"desk", 0},
		"as many as ours": {"desk", 1},
	} {
		h := &pile{}
		h.add(first.log, first.epoch, 2000)
		h.add("desk", 1, 10)
		in := &intake{c: h}
		f := &brokerFeed{in: in, lane: Lane{Subscriber: "s", Log: "desk", Epoch: 1}}
		in.open(f)
		got := 0
		for range 100 {
			if err := in.fill(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
			events, _, err := f.sort(100)
			if err != nil {
				t.Fatal(err)
			}
			got += len(events)
			if len(events) > 0 {
				if err := f.Ack(t.Context(), f.at); err != nil {
					t.Fatal(err)
				}
			}
			if err := in.settle(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		want := 10
		if first.epoch == 1 && first.log == "desk" {
			want = 2000 // the ten are repetitions
		}
		if got != want || len(h.ready) > 0 {
			t.Errorf("behind 2000 of %s: %d events came, %d are held back; want %d and none", name, got, len(h.ready), want)
		}
		f.Close()
		h.add("desk", 1, 300)
		if err := in.fill(t.Context(), 400); err != nil {
			t.Fatal(err)
		}
		if err := in.settle(t.Context()); err != nil || len(h.out) > 0 {
			t.Errorf("with no feed %d messages are held, %v; want that they go", len(h.out), err)
		}
	}
}
