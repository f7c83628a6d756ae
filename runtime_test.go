package courante_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/memory"
)

func TestMain(m *testing.M) { courantetest.Main(m) }

// base is a database and the way to its stores.
type base struct {
	db    courante.Database
	store func(name string) courante.Store
	fresh func(t *testing.T) base // another one of the same kind
}

// onEach runs the test on every store.
func onEach(t *testing.T, test func(t *testing.T, b base)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, inMemory(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, onPostgres(t))
	})
}

func inMemory(*testing.T) base {
	db := memory.New(memory.Config{})
	return base{db, func(name string) courante.Store { return db.Store(name) }, inMemory}
}

func onPostgres(t *testing.T) base {
	db := courantetest.Postgres(t)
	stores := map[string]courante.Store{}
	return base{db, func(name string) courante.Store {
		if stores[name] == nil {
			stores[name] = courantetest.PostgresStore(t, db, name)
		}
		return stores[name]
	}, onPostgres}
}

// The domain of these tests: a desk takes bookings, a hotel keeps rooms and
// asks a far-away registry for a licence for each.

type booked struct {
	ID    string `json:"id"`
	Hotel string `json:"hotel"`
}
type kept struct {
	ID string `json:"id"`
}
type full struct {
	ID string `json:"id"`
}
type licensed struct {
	ID      string `json:"id"`
	Licence string `json:"licence"`
}
type expired struct {
	ID string `json:"id"`
}
type done struct {
	ID string `json:"id"`
}

func (booked) EventType() string   { return "desk.booked" }
func (kept) EventType() string     { return "hotel.kept" }
func (full) EventType() string     { return "hotel.full" }
func (licensed) EventType() string { return "hotel.licensed" }
func (expired) EventType() string  { return "hotel.expired" }
func (done) EventType() string     { return "desk.done" }

type booking struct {
	Hotel  string
	Status string
}
type rooms struct{ Free int }
type stay struct{ Status string }

type domain struct {
	desk, hotel *courante.Service
	book        *courante.Command
	open        *courante.Command
	bookings    *courante.Entity[booking]
	rooms       *courante.Entity[rooms]
	stays       *courante.Entity[stay]
	registry    func(ctx context.Context, key, id string) (string, error)
	find        func(ctx context.Context, key, id string) (string, bool, error)
	onBooked    func(id string) error
	patience    time.Duration
}

func newDomain() *domain {
	d := &domain{patience: time.Hour}
	d.registry = func(_ context.Context, key, _ string) (string, error) { return "licence " + key, nil }

	d.desk = courante.NewService("desk")
	d.desk.Emits(courante.Critical, booked{}, done{})
	d.bookings = courante.Sourced(d.desk, "booking",
		courante.Evolve(func(b *booking, e booked) { b.Hotel, b.Status = e.Hotel, "booked" }),
		courante.Evolve(func(b *booking, e done) { b.Status = "done" }))
	d.book = courante.NewCommand(d.desk, courante.Step{Name: "book", Outcomes: []courante.Outcome{{Emits: courante.Types(booked{})}}})
	courante.On(d.desk, courante.Reaction[licensed]{
		Step: courante.Step{Name: "finish", Outcomes: []courante.Outcome{{Emits: courante.Types(done{})}}},
		Do: func(dec *courante.Decision, e licensed) error {
			b := d.bookings.Load(dec, e.ID)
			if b.State.Status == "booked" {
				b.Emit(done{e.ID})
			}
			return nil
		},
	})

	d.hotel = courante.NewService("hotel")
	d.hotel.Emits(courante.Critical, kept{}, full{}, licensed{}, expired{})
	d.rooms = courante.Stored[rooms](d.hotel, "rooms")
	d.stays = courante.Sourced(d.hotel, "stay",
		courante.Evolve(func(s *stay, _ kept) { s.Status = "kept" }),
		courante.Evolve(func(s *stay, _ full) { s.Status = "full" }),
		courante.Evolve(func(s *stay, _ licensed) { s.Status = "licensed" }),
		courante.Evolve(func(s *stay, _ expired) { s.Status = "expired" }))
	d.open = courante.NewCommand(d.hotel, courante.Step{Name: "open"})
	licence := courante.NewEffect(d.hotel, courante.EffectSpec[string, string]{
		Step:    courante.Step{Name: "take licence", Outcomes: []courante.Outcome{{Emits: courante.Types(licensed{}), Clears: []string{"licence"}}}},
		Effect:  "licence",
		Timeout: time.Second,
		Perform: func(ctx context.Context, key string, id string) (string, error) { return d.registry(ctx, key, id) },
		Resolve: func(ctx context.Context, key string, id string) (string, bool, error) {
			if d.find == nil {
				return "", false, nil
			}
			return d.find(ctx, key, id)
		},
		Then: func(dec *courante.Decision, id string, _ string, out string) error {
			d.stays.Load(dec, id).Emit(licensed{id, out}, courante.Clear("licence"))
			return nil
		},
	})
	courante.OnDeadline(d.stays, "licence",
		courante.Step{Name: "give up", Outcomes: []courante.Outcome{{Emits: courante.Types(expired{}), Drops: []string{"licence"}}}},
		func(dec *courante.Decision, id string) error {
			d.stays.Load(dec, id).Emit(expired{id}, licence.Drop())
			return nil
		})
	courante.On(d.hotel, courante.Reaction[booked]{
		Step: courante.Step{Name: "keep room", Outcomes: []courante.Outcome{
			{Emits: courante.Types(kept{}), Asks: []string{"licence"}, Sets: []string{"licence"}},
			{Emits: courante.Types(full{})},
		}},
		Do: func(dec *courante.Decision, e booked) error {
			if d.onBooked != nil {
				if err := d.onBooked(e.ID); err != nil {
					return err
				}
			}
			s := d.stays.Load(dec, e.ID)
			if s.Exists() {
				return nil
			}
			r := d.rooms.Load(dec, e.Hotel) // not announced: costs a second round, no more
			if r.State.Free == 0 {
				s.Emit(full{e.ID})
				return nil
			}
			r.Put(rooms{Free: r.State.Free - 1})
			s.Emit(kept{e.ID}, licence.Ask(e.ID), courante.Set("licence", dec.Now().Add(d.patience)))
			return nil
		},
	})
	return d
}

// run starts the domain on the database and stops it with the test.
func (d *domain) run(t *testing.T, b base, lanes int) {
	t.Helper()
	rt, err := courante.NewRuntime(courante.Config{
		Database: b.db, Lanes: lanes,
		Services: []courante.Mount{{Service: d.desk, Store: b.store("desk")}, {Service: d.hotel, Store: b.store("hotel")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- rt.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func (d *domain) doOpen(t *testing.T, hotel string, free int) {
	t.Helper()
	until(t, "the runtime runs", func() bool {
		_, err := d.open.Do(t.Context(), courante.Call{Keys: []courante.Key{d.rooms.Key(hotel)}, Do: func(dec *courante.Decision) error {
			d.rooms.Load(dec, hotel).Put(rooms{Free: free})
			return nil
		}})
		return err == nil
	})
}

func (d *domain) doBook(ctx context.Context, id, hotel string) (courante.Result, error) {
	return d.book.Do(ctx, courante.Call{Keys: []courante.Key{d.bookings.Key(id)}, Do: func(dec *courante.Decision) error {
		b := d.bookings.Load(dec, id)
		if b.Exists() {
			return courante.Reject("conflict", "booking %s exists", id)
		}
		b.Emit(booked{id, hotel})
		dec.Reply(map[string]string{"id": id})
		return nil
	}})
}

// until waits for a condition, up to a generous bound that only a failure meets.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (d *domain) status(t *testing.T, id string) string {
	t.Helper()
	b, _, err := d.bookings.Get(t.Context(), id)
	if err != nil && !errors.Is(err, courante.ErrNotFound) {
		t.Fatal(err)
	}
	return b.Status
}

func TestOneBookingGoesAllTheWay(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		d := newDomain()
		d.run(t, b, 2)
		d.doOpen(t, "ritz", 1)
		if _, err := d.doBook(t.Context(), "1", "ritz"); err != nil {
			t.Fatal(err)
		}
		until(t, "booking 1 is done", func() bool { return d.status(t, "1") == "done" })
		if _, err := d.doBook(t.Context(), "2", "ritz"); err != nil {
			t.Fatal(err)
		}
		until(t, "booking 2 finds no room", func() bool {
			s, _, _ := d.stays.Get(t.Context(), "2")
			return s.Status == "full"
		})
		if r, _, err := d.rooms.Get(t.Context(), "ritz"); err != nil || r.Free != 0 {
			t.Errorf("rooms = %+v, %v; want none free", r, err)
		}
	})
}

func TestManyBookingsAtOnceNeitherOverbookNorGetLost(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		d := newDomain()
		d.run(t, b, 3)
		d.doOpen(t, "ritz", 150)
		const n = 400
		errs := make(chan error, n)
		for i := range n {
			go func() {
				_, err := d.doBook(t.Context(), fmt.Sprint(i), "ritz")
				errs <- err
			}()
		}
		for range n {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		counts := map[string]int{}
		until(t, "all bookings ended", func() bool {
			clear(counts)
			for i := range n {
				s, _, _ := d.stays.Get(t.Context(), fmt.Sprint(i))
				counts[s.Status]++
			}
			return counts["licensed"]+counts["full"] == n
		})
		if counts["licensed"] != 150 || counts["full"] != n-150 {
			t.Errorf("ended as %v, want 150 licensed and %d full", counts, n-150)
		}
	})
}

func TestPoisonedKeyParksAloneAndItsNeighboursGoOn(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		d := newDomain()
		d.onBooked = func(id string) error {
			if id == "poison" {
				panic("poisoned")
			}
			return nil
		}
		d.run(t, b, 1)
		d.doOpen(t, "ritz", 10)
		for _, id := range []string{"a", "poison", "b"} {
			if _, err := d.doBook(t.Context(), id, "ritz"); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "the neighbours are done", func() bool { return d.status(t, "a") == "done" && d.status(t, "b") == "done" })
		parked, err := b.store("hotel").Parked(t.Context(), "hotel", courante.ParkedQuery{})
		if err != nil || len(parked) != 1 || parked[0].Key != "poison" || parked[0].Reaction != "keep room" {
			t.Fatalf("parked = %+v, %v; want the poisoned booking alone", parked, err)
		}
	})
}

func TestDeadlineEndsWhatTheOutsideDoesNotAnswer(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		d := newDomain()
		d.patience = 50 * time.Millisecond
		d.registry = func(ctx context.Context, _, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		d.run(t, b, 2)
		d.doOpen(t, "ritz", 1)
		if _, err := d.doBook(t.Context(), "1", "ritz"); err != nil {
			t.Fatal(err)
		}
		until(t, "the stay expires", func() bool {
			s, _, _ := d.stays.Get(t.Context(), "1")
			return s.Status == "expired"
		})
	})
}

func TestLostReplyIsResolvedByAsking(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		d := newDomain()
		calls := make(chan string, 10)
		d.registry = func(_ context.Context, key, _ string) (string, error) {
			calls <- key
			return "", courante.Unknown(errors.New("reply lost"))
		}
		d.find = func(_ context.Context, key, _ string) (string, bool, error) { return "found " + key, true, nil }
		d.run(t, b, 2)
		d.doOpen(t, "ritz", 1)
		if _, err := d.doBook(t.Context(), "1", "ritz"); err != nil {
			t.Fatal(err)
		}
		until(t, "the stay is licensed", func() bool {
			s, _, _ := d.stays.Get(t.Context(), "1")
			return s.Status == "licensed"
		})
		if len(calls) != 1 {
			t.Errorf("the registry was called %d times, want once", len(calls))
		}
	})
}

func TestSameIdempotencyKeyGivesTheFirstAnswer(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		d := newDomain()
		d.run(t, b, 2)
		d.doOpen(t, "ritz", 1)
		call := func(hash byte) (courante.Result, error) {
			return d.book.Do(t.Context(), courante.Call{
				Keys: []courante.Key{d.bookings.Key("1")}, Idempotency: "POST /bookings k1", Hash: [32]byte{hash},
				Do: func(dec *courante.Decision) error {
					b := d.bookings.Load(dec, "1")
					if b.Exists() {
						return courante.Reject("conflict", "exists")
					}
					b.Emit(booked{"1", "ritz"})
					dec.Reply("first")
					return nil
				}})
		}
		first, err := call(1)
		if err != nil {
			t.Fatal(err)
		}
		again, err := call(1)
		if err != nil || !again.Repeated || string(again.Reply) != string(first.Reply) || again.Token != first.Token {
			t.Errorf("second call = %+v, %v; want the first answer %+v", again, err, first)
		}
		var no *courante.Rejection
		if _, err := call(2); !errors.As(err, &no) || no.Code != "key_reused" {
			t.Errorf("other request with the key: %v, want key_reused", err)
		}
	})
}

func TestTokenWaitsForTheSubscriber(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		d := newDomain()
		gate := make(chan struct{})
		d.onBooked = func(string) error { <-gate; return nil }
		d.run(t, b, 2)
		d.doOpen(t, "ritz", 1)
		res, err := d.doBook(t.Context(), "1", "ritz")
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := d.hotel.Await(short, res.Token); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Await while the hotel has not handled the booking: %v, want the deadline", err)
		}
		close(gate)
		if err := d.hotel.Await(t.Context(), res.Token); err != nil {
			t.Fatal(err)
		}
		if s, _, err := d.stays.Get(t.Context(), "1"); err != nil || s.Status == "" {
			t.Errorf("after Await the stay is %+v, %v; want it kept", s, err)
		}
	})
}
