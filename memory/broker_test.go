package memory_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/memory"
)

func TestBroker(t *testing.T) {
	t.Parallel()
	courantetest.TestBroker(t, func(*testing.T) courantetest.BrokerFixture {
		b := memory.NewBroker(memory.BrokerConfig{})
		var conns []*memory.BrokerConn
		return courantetest.BrokerFixture{
			Connect: func(*testing.T) courante.Broker {
				c := b.Connect()
				conns = append(conns, c)
				return c
			},
			Cut: func(*testing.T) {
				for _, c := range conns {
					c.Cut()
				}
			},
			Delete: func(_ *testing.T, q courante.Queue) { b.Delete(q) },
			Send: func(t *testing.T, e courante.CloudEvent) {
				if !b.Send(e) {
					t.Errorf("nobody takes %s", e.Type)
				}
			},
			Refused: func(*testing.T) (reasons []string) {
				for _, r := range b.Refused() {
					reasons = append(reasons, r.Reason)
				}
				return reasons
			},
		}
	})
}

var lane = courante.Queue{Subscriber: "inventory", Lanes: 1}

func brokerMessage(version int64) courante.Message {
	e := event("order:1", version)
	return courante.Message{Event: &e, Links: []courante.Link{{Queue: lane}}}
}

func take(t *testing.T, c courante.Consumption) (list []courante.Delivery, versions []int64) {
	t.Helper()
	list, err := c.Take(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		versions = append(versions, d.Event.Version)
	}
	return list, versions
}

func TestBrokerLosesWhatItHasNotConfirmed(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	for name, test := range map[string]struct {
		at   string
		call int // which one at that point fails
		want []int64
	}{
		"before":         {memory.PointBrokerPublish, 1, nil},
		"in the middle":  {memory.PointBrokerMessage, 2, []int64{1, 3}},
		"unknown result": {memory.PointBrokerConfirmed, 1, []int64{1, 2, 3}},
	} {
		calls := 0
		b := memory.NewBroker(memory.BrokerConfig{Pause: func(point string) error {
			if point != test.at {
				return nil
			}
			if calls++; calls == test.call {
				return lost
			}
			return nil
		}}).Connect()
		c, err := b.Consume(t.Context(), lane)
		if err != nil {
			t.Fatal(err)
		}
		err = b.Publish(t.Context(), []courante.Message{brokerMessage(1), brokerMessage(2), brokerMessage(3)})
		if !errors.Is(err, lost) || !errors.Is(err, courante.ErrTransient) {
			t.Errorf("%s: error %v, want the injected one, transient", name, err)
		}
		if _, got := take(t, c); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func TestBrokerCrash(t *testing.T) {
	t.Parallel()
	b := memory.NewBroker(memory.BrokerConfig{})
	dying, other := b.Connect(), b.Connect()
	first, err := dying.Consume(t.Context(), lane)
	if err != nil {
		t.Fatal(err)
	}
	second, err := other.Consume(t.Context(), lane)
	if err != nil {
		t.Fatal(err)
	}
	if err := dying.Publish(t.Context(), []courante.Message{brokerMessage(1), brokerMessage(2)}); err != nil {
		t.Fatal(err)
	}
	list, _ := take(t, first)
	if err := first.Ack(t.Context(), list[0].Tag); err != nil {
		t.Fatal(err)
	}
	b.Crash(dying)
	if _, got := take(t, second); !slices.Equal(got, []int64{2}) {
		t.Errorf("the other process got %v, want [2]", got)
	}
	if _, err := first.Take(t.Context(), 1); !errors.Is(err, courante.ErrClosed) {
		t.Errorf("Take of the dead process: %v, want ErrClosed", err)
	}
	if err := dying.Publish(t.Context(), []courante.Message{brokerMessage(3)}); !errors.Is(err, courante.ErrClosed) {
		t.Errorf("Publish of the dead process: %v, want ErrClosed", err)
	}
}
