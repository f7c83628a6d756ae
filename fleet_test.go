package courante_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// town is the domain as a fleet: the desk and the hotel in processes of their
// own, which only a broker connects. Any number of processes may run each.
type town struct {
	databases map[string]func() base // by service; each process has a handle of its own
	broker    *memory.Broker
	asked     counts // of the registry
	shared    bool   // the processes of a service share its lanes

	// through makes the store of the next process that starts one that can fail.
	through func(courante.Store) courante.Store
}

// counts counts by key.
type counts struct {
	mu sync.Mutex
	of map[string]int
}

func (c *counts) add(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[key]++
}

// onEachTown runs the test on both stores. A database in memory has one receiver
// of its signal, and so one process of each service.
func onEachTown(t *testing.T, config memory.BrokerConfig, test func(t *testing.T, w *town)) {
	for _, kind := range []string{"memory", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, newTown(t, kind, config))
		})
	}
}

func newTown(t *testing.T, kind string, config memory.BrokerConfig) *town {
	return &town{broker: memory.NewBroker(config), databases: map[string]func() base{
		"desk": sharedBase(t, kind), "hotel": sharedBase(t, kind),
	}}
}

// process is one of the town's.
type process struct {
	*domain
	conn *memory.BrokerConn
	stop func()
}

// start runs one service of the domain, with the other one elsewhere.
func (w *town) start(t *testing.T, service string, lanes int) *process {
	t.Helper()
	p := &process{domain: newDomain(), conn: w.broker.Connect()}
	p.registry = func(_ context.Context, key, _ string) (string, error) {
		w.asked.add(key)
		return "licence " + key, nil
	}
	here, there := p.desk, p.hotel
	if service == "hotel" {
		here, there = there, here
	}
	b := w.databases[service]()
	store := b.store(service)
	if w.through != nil {
		store = w.through(store)
	}
	rt, err := courante.NewRuntime(courante.Config{
		Database: b.db, Lanes: lanes, Broker: p.conn, Shared: w.shared,
		Services: []courante.Mount{{Service: here, Store: store}},
		Foreign:  []courante.Foreign{{Service: there}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- rt.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

// book takes so many bookings at once and returns when each has ended.
func (w *town) book(t *testing.T, desk *process, prefix string, n int) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if _, err := desk.doBook(t.Context(), fmt.Sprint(prefix, i), "ritz"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func (w *town) wait(t *testing.T, desk *process, prefix string, n int) {
	t.Helper()
	for i := range n {
		id := fmt.Sprint(prefix, i)
		until(t, "booking "+id+" is done", func() bool { return desk.status(t, id) == "done" })
	}
}

func TestServicesInProcessesOfTheirOwn(t *testing.T) {
	t.Parallel()
	onEachTown(t, memory.BrokerConfig{}, func(t *testing.T, w *town) {
		desk, hotel := w.start(t, "desk", 2), w.start(t, "hotel", 3)
		hotel.doOpen(t, "ritz", 1000)
		w.book(t, desk, "a", 200)
		w.wait(t, desk, "a", 200)
		if r, _, err := hotel.rooms.Get(t.Context(), "ritz"); err != nil || r.Free != 800 {
			t.Errorf("rooms = %+v, %v; want 800 free", r, err)
		}
	})
}

// A broker that fails at every turn, loses queues with what they hold, and
// whose connections are cut, under load: each booking takes one room.
func TestBrokerThatFailsLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	broken := memory.BrokerConfig{Pause: func(point string) error {
		if rand.IntN(200) == 0 {
			return courante.Transient(errors.New(point))
		}
		return nil
	}}
	onEachTown(t, broken, func(t *testing.T, w *town) {
		desk, hotel := w.start(t, "desk", 2), w.start(t, "hotel", 2)
		hotel.doOpen(t, "ritz", 1000)
		const rounds, each = 5, 60
		for round := range rounds {
			prefix := fmt.Sprint("r", round, "-")
			var others sync.WaitGroup
			others.Go(func() { w.book(t, desk, prefix, each) })
			w.broker.Delete(courante.Queue{Subscriber: "hotel", Lanes: 2, K: round % 2})
			w.broker.Delete(courante.Queue{Subscriber: "desk", Lanes: 2, K: round % 2})
			desk.conn.Cut()
			hotel.conn.Cut()
			others.Wait()
		}
		for round := range rounds {
			w.wait(t, desk, fmt.Sprint("r", round, "-"), each)
		}
		if r, _, err := hotel.rooms.Get(t.Context(), "ritz"); err != nil || r.Free != 1000-rounds*each {
			t.Errorf("rooms = %+v, %v; want %d free", r, err, 1000-rounds*each)
		}
	})
}

// Three processes of a service have its lanes among them, while processes leave
// and come: each booking takes one room.
func TestProcessesShareLanesWhileTheyComeAndGo(t *testing.T) {
	t.Parallel()
	w := newTown(t, "postgres", memory.BrokerConfig{})
	w.shared = true
	desk := w.start(t, "desk", 2)
	hotels := []*process{w.start(t, "hotel", 4), w.start(t, "hotel", 4), w.start(t, "hotel", 4)}
	hotels[0].doOpen(t, "ritz", 1000)
	const rounds, each = 4, 60
	for round := range rounds {
		var load sync.WaitGroup
		load.Go(func() { w.book(t, desk, fmt.Sprint("r", round, "-"), each) })
		i := round % len(hotels)
		hotels[i].stop()
		hotels[i] = w.start(t, "hotel", 4)
		load.Wait()
	}
	for round := range rounds {
		w.wait(t, desk, fmt.Sprint("r", round, "-"), each)
	}
	// A process that leaves finishes what it has begun, so nobody asks again
	// but for what was answered and not yet written when the next one took over.
	if n := len(w.asked.of); n != rounds*each {
		t.Errorf("the registry was asked for %d licences, want %d", n, rounds*each)
	}
	if r, _, err := hotels[0].rooms.Get(t.Context(), "ritz"); err != nil || r.Free != 1000-rounds*each {
		t.Errorf("rooms = %+v, %v; want %d free", r, err, 1000-rounds*each)
	}
}

// A process that reaches the broker and no longer its database leaves its lanes
// to one that reaches both, and with them its place in line at their queues.
func TestProcessWithoutItsDatabaseLeavesItsQueues(t *testing.T) {
	t.Parallel()
	w := newTown(t, "postgres", memory.BrokerConfig{})
	w.shared = true
	desk := w.start(t, "desk", 1)
	cut := new(cutStore)
	w.through = func(s courante.Store) courante.Store {
		cut.SharedStore = s.(courante.SharedStore)
		return cut
	}
	first := w.start(t, "hotel", 2)
	w.through = nil
	first.doOpen(t, "ritz", 1000)
	w.book(t, desk, "before", 20)
	w.wait(t, desk, "before", 20)

	cut.off.Store(true)
	w.book(t, desk, "during", 20)
	w.start(t, "hotel", 2)
	w.wait(t, desk, "during", 20)
	if n := len(w.asked.of); n != 40 {
		t.Errorf("the registry was asked for %d licences, want 40", n)
	}
	cut.off.Store(false)
}

// cutStore is a store that its process cannot reach while it is off.
type cutStore struct {
	courante.SharedStore
	off atomic.Bool
}

var errCut = courante.Transient(errors.New("the database is out of reach"))

func (s *cutStore) Begin(ctx context.Context) (courante.Unit, error) {
	if s.off.Load() {
		return nil, errCut
	}
	return s.SharedStore.Begin(ctx)
}

func (s *cutStore) Share(ctx context.Context, c courante.Claim) (courante.Shares, error) {
	if s.off.Load() {
		return courante.Shares{}, errCut
	}
	return s.SharedStore.Share(ctx, c)
}

func (s *cutStore) Progress(ctx context.Context, lane courante.Lane) (courante.Progress, error) {
	if s.off.Load() {
		return courante.Progress{}, errCut
	}
	return s.SharedStore.Progress(ctx, lane)
}
