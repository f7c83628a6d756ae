package courante_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/memory"
	"github.com/courante-dev/courante/postgres"
)

// The domain of these tests: meters outside say how far they have come, one
// number after the other.

type reading struct {
	Meter string `json:"meter"`
	N     int    `json:"n"`
}
type noted struct {
	N int `json:"n"`
}

func (noted) EventType() string { return "office.noted" }

type meter struct {
	N     int
	Wrong bool // a number came twice or before its turn
}

type office struct {
	svc    *courante.Service
	meters *courante.Entity[meter]
	broken atomic.Bool
}

func newOffice() *office {
	o := &office{svc: courante.NewService("office")}
	o.svc.Emits(courante.Private, noted{})
	o.meters = courante.Sourced(o.svc, "meter", courante.Evolve(func(m *meter, e noted) {
		m.Wrong = m.Wrong || e.N != m.N+1
		m.N = e.N
	}))
	courante.OnInbound(o.svc, courante.Inbound[reading]{
		Type: "meter.read",
		Step: courante.Step{Name: "note", Outcomes: []courante.Outcome{{Emits: courante.Types(noted{})}}},
		Keys: func(r reading) []courante.Key { return []courante.Key{o.meters.Key(r.Meter)} },
		Do: func(d *courante.Decision, r reading) error {
			switch {
			case r.N < 0:
				return courante.Reject("invalid", "meters do not go backwards")
			case o.broken.Load():
				panic("the office is on fire")
			}
			o.meters.Load(d, r.Meter).Emit(noted{r.N})
			return nil
		},
	})
	return o
}

func read(m string, n int) courante.CloudEvent {
	return courante.CloudEvent{
		ID: fmt.Sprint(m, "-", n), Source: "/meters", Type: "meter.read",
		Data: json.RawMessage(fmt.Sprintf(`{"meter":%q,"n":%d}`, m, n)),
	}
}

func (o *office) start(t *testing.T, config postgres.Config, conn courante.Broker) (stop func()) {
	t.Helper()
	db, err := postgres.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	rt, err := courante.NewRuntime(courante.Config{
		Database: db, Broker: conn, Shared: true,
		Services: []courante.Mount{{Service: o.svc, Store: courantetest.PostgresStore(t, db, "office")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- rt.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// What comes from outside counts once and in its order, although it is sent
// twice, the broker fails at every turn, connections are cut, and processes
// come and go.
func TestWhatComesFromOutsideCountsOnceAndInOrder(t *testing.T) {
	t.Parallel()
	b := memory.NewBroker(memory.BrokerConfig{Prefetch: 64, Pause: func(point string) error {
		if rand.IntN(50) == 0 {
			return courante.Transient(errors.New(point))
		}
		return nil
	}})
	config := courantetest.PostgresConfig(t)
	first := newOffice()
	conn := b.Connect()
	stop := first.start(t, config, conn)
	second := newOffice()
	other := b.Connect()
	second.start(t, config, other)
	const meters, numbers = 20, 40
	until(t, "an inbox is open", func() bool {
		return b.Send(courante.CloudEvent{ID: "0", Source: "/test", Type: "meter.read", Data: json.RawMessage("{}")})
	})
	for n := 1; n <= numbers; n++ {
		for m := range meters {
			e := read(fmt.Sprint("m", m), n)
			b.Send(e)
			if rand.IntN(4) == 0 {
				b.Send(e)
			}
		}
		switch n {
		case 10, 25:
			conn.Cut()
			other.Cut()
		case 15:
			stop()
		case 20:
			conn = b.Connect()
			newOffice().start(t, config, conn)
		case 30:
			b.Send(read("m1", -1))
			b.Send(courante.CloudEvent{ID: "garbage", Source: "/meters", Type: "meter.read", Data: json.RawMessage(`{"meter":7}`)})
		}
	}
	for m := range meters {
		id := fmt.Sprint("m", m)
		var got meter
		until(t, "all numbers of "+id, func() bool {
			var err error
			got, _, err = second.meters.Get(t.Context(), id)
			return err == nil && got.N == numbers
		})
		if got.Wrong {
			t.Errorf("the numbers of %s were not noted once and in order", id)
		}
	}
	refused := map[string]bool{}
	for _, r := range b.Refused() {
		refused[r.ID] = true
	}
	if !refused["m1--1"] || !refused["garbage"] || len(refused) > 3 {
		t.Errorf("refused: %v, want the two bad ones", refused)
	}
}

func TestReceive(t *testing.T) {
	t.Parallel()
	b := memory.NewBroker(memory.BrokerConfig{})
	o := newOffice()
	o.start(t, courantetest.PostgresConfig(t), b.Connect())
	again := read("a", 1)
	other := again
	other.Data = json.RawMessage(`{"meter":"a","n":2}`)
	nameless := again
	nameless.ID = ""
	unknown := again
	unknown.Type = "meter.stolen"
	for _, tt := range []struct {
		rule string
		e    courante.CloudEvent
		code string // of the rejection
	}{
		{"once", again, ""},
		{"again", again, ""},
		{"the same id, another content", other, "key_reused"},
		{"the same id from elsewhere", courante.CloudEvent{ID: again.ID, Source: "/elsewhere", Type: again.Type, Data: json.RawMessage(`{"meter":"a","n":2}`)}, ""},
		{"no id", nameless, "invalid"},
		{"a type that nobody takes", unknown, "invalid"},
		{"a rejection", read("a", -1), "invalid"},
	} {
		err := o.svc.Receive(t.Context(), tt.e)
		var no *courante.Rejection
		switch {
		case tt.code == "" && err != nil:
			t.Errorf("%s: %v", tt.rule, err)
		case tt.code != "" && (!errors.As(err, &no) || no.Code != tt.code):
			t.Errorf("%s: %v, want a rejection with code %s", tt.rule, err, tt.code)
		}
	}
	if m, version, err := o.meters.Get(t.Context(), "a"); err != nil || m.N != 2 || m.Wrong || version != 2 {
		t.Errorf("the meter is %+v at version %d, %v", m, version, err)
	}
	// A handler that fails does not stop what comes after.
	o.broken.Store(true)
	if err := o.svc.Receive(t.Context(), read("a", 3)); err == nil {
		t.Error("a handler that panics gave no error")
	}
	o.broken.Store(false)
	if err := o.svc.Receive(t.Context(), read("a", 3)); err != nil {
		t.Errorf("what failed cannot be sent again: %v", err)
	}
}
