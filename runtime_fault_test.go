package courante_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/memory"
	"github.com/courante-dev/courante/postgres"
)

func TestLostConnectionsUnderLoadLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	config := courantetest.PostgresConfig(t)
	victim, attack := config, config
	victim.URL = named(config.URL, config.Schema)
	db, err := postgres.Open(t.Context(), victim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	c := newCounting(false)
	c.start(t, base{db: db, store: func(name string) courante.Store { return courantetest.PostgresStore(t, db, name) }}, 2, nil)
	l := startLoad(t, 20, 8, func() *counting { return c })

	attacker, err := postgres.Open(t.Context(), attack)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(attacker.Close)
	for round := range 10 {
		want := int64(100 * (round + 1))
		until(t, fmt.Sprintf("%d counts", want), func() bool { return l.sum() >= want })
		if _, err := attacker.Pool().Exec(t.Context(),
			"select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", config.Schema); err != nil {
			t.Fatal(err)
		}
	}
	l.stop()
	l.checkAtLeast(t, c)
}

// named adds an application name to a connection string.
func named(url, name string) string {
	if strings.Contains(url, "?") {
		return url + "&application_name=" + name
	}
	return url + "?application_name=" + name
}

// checkAtLeast is check for runs in which an answer may have been lost: a
// count may have happened that its caller never heard of.
func (l *load) checkAtLeast(t *testing.T, c *counting) {
	t.Helper()
	for k := range l.keys {
		key, told := fmt.Sprint(k), l.total[k].Load()
		source := c.counted(t, key)
		if source < told {
			t.Errorf("key %s was counted to %d, its callers were told %d", key, source, told)
		}
		var got tally
		until(t, fmt.Sprintf("key %s is written down up to %d", key, source), func() bool {
			got, _, _ = c.tallies.Get(t.Context(), key)
			return got.Last >= source
		})
		if got.Last != source || got.Wrong != 0 {
			t.Errorf("key %s: %+v, want last %d and nothing wrong", key, got, source)
		}
	}
}

type grown struct {
	Text string `json:"text"`
}

func (grown) EventType() string { return "echo.grown" }

func TestWriteThatTheStoreRefusesIsBisectedToItsCulprit(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		// The echo of one key is larger than the store takes. It is in a batch
		// with many others.
		c := newCounting(false)
		echo := courante.NewService("echo")
		echo.Emits(courante.Critical, grown{})
		echoes := courante.Sourced[count](echo, "echo")
		courante.On(echo, courante.Reaction[counted]{
			Step: courante.Step{Name: "echo", Outcomes: []courante.Outcome{{Emits: courante.Types(grown{})}}},
			Do: func(d *courante.Decision, e counted) error {
				text := "small"
				if e.Key == "7" {
					text = strings.Repeat("large", 1<<20)
				}
				echoes.Load(d, e.Key).Emit(grown{text})
				return nil
			},
		})
		rt, err := courante.NewRuntime(courante.Config{Database: b.db, Lanes: 1, Services: []courante.Mount{
			{Service: c.source, Store: b.store("source")}, {Service: echo, Store: b.store("echo")}}})
		if err != nil {
			t.Fatal(err)
		}
		for k := range 40 {
			e := courante.Event{Type: "source.counted", Schema: 1, Data: fmt.Appendf(nil, `{"key":"%d","n":1}`, k)}
			if _, err := b.store("source").Append(t.Context(), fmt.Sprintf("counter:%d", k), 0, e); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- rt.Run(ctx) }()
		until(t, "39 echoes and one parked message", func() bool {
			n := 0
			for k := range 40 {
				if _, version, _ := echoes.Get(t.Context(), fmt.Sprint(k)); version == 1 {
					n++
				}
			}
			parked, err := b.store("echo").Parked(t.Context(), "echo", courante.ParkedQuery{})
			return err == nil && n == 39 && len(parked) == 1 && parked[0].Key == "7" && strings.Contains(parked[0].Cause, "too large")
		})
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

func TestUndeclaredEmissionParks(t *testing.T) {
	t.Parallel()
	b := inMemory(t)
	c := newCounting(false)
	liar := courante.NewService("liar")
	liar.Emits(courante.Critical, grown{})
	lies := courante.Sourced[count](liar, "lie")
	courante.On(liar, courante.Reaction[counted]{
		Step: courante.Step{Name: "say nothing"},
		Do: func(d *courante.Decision, e counted) error {
			lies.Load(d, e.Key).Emit(grown{"a lie"})
			return nil
		},
	})
	rt, err := courante.NewRuntime(courante.Config{Database: b.db, Services: []courante.Mount{
		{Service: c.source, Store: b.store("source")}, {Service: liar, Store: b.store("liar")}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- rt.Run(ctx) }()
	until(t, "the source takes commands", func() bool { return c.add(t.Context(), "1") == nil })
	until(t, "the message is parked with its cause", func() bool {
		parked, err := b.store("liar").Parked(t.Context(), "liar", courante.ParkedQuery{})
		return err == nil && len(parked) == 1 && strings.Contains(parked[0].Cause, `"echo.grown" is not declared`)
	})
	cancel()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestLongStreamsAreReadFromTheirBaseline(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		store := &readCounter{Store: b.store("source")}
		c := newCounting(false)
		rt, err := courante.NewRuntime(courante.Config{Database: b.db, Services: []courante.Mount{{Service: c.source, Store: store}}, Stepped: true})
		if err != nil {
			t.Fatal(err)
		}
		_ = rt // in a stepped runtime Do decides by itself
		for range 250 {
			if err := c.add(t.Context(), "1"); err != nil {
				t.Fatal(err)
			}
		}
		store.events.Store(0)
		if err := c.add(t.Context(), "1"); err != nil {
			t.Fatal(err)
		}
		if n := store.events.Load(); n >= 130 {
			t.Errorf("a decision on a stream of 300 events loaded %d of them; want those after the baseline", n)
		}
		if got, version, err := c.counts.Get(t.Context(), "1"); err != nil || got.N != 251 || got.Marks != 50 {
			t.Errorf("state = %+v at version %d, %v; want 251 counts and 50 marks", got, version, err)
		}

		// Another program folds the stream into another shape. It must not
		// take the old baseline for its own.
		other := courante.NewService("source")
		other.Emits(courante.Critical, counted{}, marked{})
		type countTwice struct{ Twice int64 }
		doubled := courante.Sourced(other, "counter", courante.Evolve(func(s *countTwice, _ counted) { s.Twice += 2 }))
		if _, err := courante.NewRuntime(courante.Config{Database: b.db, Services: []courante.Mount{{Service: other, Store: store}}, Stepped: true}); err != nil {
			t.Fatal(err)
		}
		if got, _, err := doubled.Get(t.Context(), "1"); err != nil || got.Twice != 502 {
			t.Errorf("other shape = %+v, %v; want 502", got, err)
		}
	})
}

// readCounter counts the events that units load.
type readCounter struct {
	courante.Store
	events atomic.Int64
}

func (s *readCounter) Begin(ctx context.Context) (courante.Unit, error) {
	u, err := s.Store.Begin(ctx)
	return &countedUnit{u, s}, err
}

type countedUnit struct {
	courante.Unit
	s *readCounter
}

func (u *countedUnit) Load(ctx context.Context, keys []courante.Key, known map[courante.Key]courante.Known) ([]courante.State, error) {
	states, err := u.Unit.Load(ctx, keys, known)
	for i := range states {
		u.s.events.Add(int64(len(states[i].Events)))
	}
	return states, err
}

func TestStartAndStopManyTimes(t *testing.T) {
	t.Parallel()
	db := memory.New(memory.Config{})
	var told int64
	for range 30 {
		c := newCounting(false)
		c.start(t, base{db: db, store: func(name string) courante.Store { return db.Store(name) }}, 2, nil)
		until(t, "a command is taken", func() bool {
			err := c.add(t.Context(), "1")
			if err != nil && !errors.Is(err, courante.ErrTransient) {
				t.Fatal(err)
			}
			return err == nil
		})
		told++
		c.stop()
		if err := c.add(t.Context(), "1"); !errors.Is(err, courante.ErrClosed) {
			t.Fatalf("a command after the stop: %v, want ErrClosed", err)
		}
	}
	c := newCounting(false)
	c.start(t, base{db: db, store: func(name string) courante.Store { return db.Store(name) }}, 2, nil)
	until(t, "all is written down", func() bool {
		got, _, _ := c.tallies.Get(t.Context(), "1")
		return got.Last == told && got.Wrong == 0
	})
}

// counted is how far the key is counted, read again while connections that an
// attack has cut are found out.
func (c *counting) counted(t *testing.T, key string) int64 {
	t.Helper()
	var n int64
	until(t, "the count of key "+key, func() bool {
		s, _, err := c.counts.Get(t.Context(), key)
		if err != nil && !errors.Is(err, courante.ErrTransient) {
			t.Fatal(err)
		}
		n = s.N
		return err == nil
	})
	return n
}
