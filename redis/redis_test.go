package redis_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/redis"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestMain(m *testing.M) { courantetest.Main(m) }

// noted is the one event of the domain.
type noted struct {
	Text string `json:"text"`
	N    int64  `json:"n"`
}

func (noted) EventType() string { return "test.noted" }

// notes is a process of a service whose states are read as documents.
type notes struct {
	svc    *courante.Service
	notes  *courante.Entity[noted]
	views  *courante.Collection
	watch  *courante.Watch
	write  *courante.Command
	client *redis.Client
	meter  *sdkmetric.ManualReader
	made   atomic.Int64 // documents, from the source of truth
	stop   func()
}

const hidden = "hidden"

func newNotes() *notes {
	p := &notes{svc: courante.NewService("notes")}
	p.svc.Emits(courante.Critical, noted{})
	p.notes = courante.Sourced(p.svc, "note", courante.Evolve(func(n *noted, e noted) { *n = e }))
	p.views = courante.NewCollection(p.notes, "note", 1, func(_ string, n noted, _ []courante.Event) (any, error) {
		p.made.Add(1)
		if n.Text == hidden {
			return nil, courante.ErrNotFound
		}
		return n, nil
	})
	p.watch = courante.NewWatch(p.notes, courante.WatchSpec[noted]{
		Of: p.views, Show: func(_ string, n noted, _ *courante.Event) (any, error) { return n, nil },
	})
	p.write = courante.NewCommand(p.svc, courante.Step{Name: "note", Outcomes: []courante.Outcome{{Emits: courante.Types(noted{})}}})
	return p
}

// set notes the text and returns how often it was done, with the token.
func (p *notes) set(ctx context.Context, id, text string) (n int64, token string, err error) {
	res, err := p.write.Do(ctx, courante.Call{Keys: []courante.Key{p.notes.Key(id)}, Do: func(d *courante.Decision) error {
		note := p.notes.Load(d, id)
		n = note.State.N + 1
		note.Emit(noted{text, n})
		return nil
	}})
	return n, res.Token.String(), err
}

// startNotes runs a process of the service on the database, with the cache.
func startNotes(t testing.TB, db *database, config redis.Config) *notes {
	t.Helper()
	p := newNotes()
	p.meter = sdkmetric.NewManualReader()
	config.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(p.meter))
	config.Logger = slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	client, err := redis.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	p.client = client
	base, store := db.open(t)
	rt, err := courante.NewRuntime(courante.Config{
		Database: base, Services: []courante.Mount{{Service: p.svc, Store: store}}, Cache: client, Broadcast: client, Shared: true, Logger: config.Logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		client.Close()
	})
	t.Cleanup(p.stop)
	return p
}

// database is one that several processes are on.
type database struct {
	open func(t testing.TB) (courante.Database, courante.Store)
}

func newDatabase(t testing.TB) *database {
	config := courantetest.PostgresConfig(t)
	return &database{func(t testing.TB) (courante.Database, courante.Store) {
		t.Helper()
		db, err := openDatabase(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		return db, courantetest.PostgresStore(t, db, "notes")
	}}
}

// read returns how often the note was set, as readers see it.
func (p *notes) read(ctx context.Context, id, token string) (noted, error) {
	d, err := p.views.Get(ctx, id, token, 5*time.Second)
	if err != nil {
		return noted{}, err
	}
	return decodeNote(d.Data)
}

// reads are the reads so far, by level.
func (p *notes) reads(t testing.TB) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := p.meter.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	levels := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != "courante.cache.reads" {
				continue
			}
			for _, point := range m.Data.(metricdata.Sum[int64]).DataPoints {
				level, _ := point.Attributes.Value("level")
				levels[level.AsString()] += point.Value
			}
		}
	}
	return levels
}

// until fails the test if it does not become true.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("still not: %s", what)
		case <-poll.C:
		}
	}
}

// warm returns when the note is read from the process's own memory.
func (p *notes) warm(t testing.TB, id string) {
	t.Helper()
	until(t, id+" is read from memory", func() bool {
		before := p.reads(t)["l1"]
		if _, err := p.read(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
		return p.reads(t)["l1"] > before
	})
}

func mustSet(t testing.TB, p *notes, id, text string) (n int64, token string) {
	t.Helper()
	n, token, err := p.set(t.Context(), id, text)
	if err != nil {
		t.Fatal(err)
	}
	return n, token
}

func TestDocumentsFollowTheirStates(t *testing.T) {
	t.Parallel()
	server := courantetest.StartRedis(t)
	db := newDatabase(t)
	here, there := startNotes(t, db, redis.Config{URLs: []string{server.URL()}}), startNotes(t, db, redis.Config{URLs: []string{server.URL()}})
	mustSet(t, here, "a", "first")
	here.warm(t, "a")
	there.warm(t, "a")

	for i := range 20 {
		want := fmt.Sprint("text ", i)
		n, token := mustSet(t, here, "a", want)
		for _, p := range []*notes{here, there} {
			if got, err := p.read(t.Context(), "a", token); err != nil || got.N < n {
				t.Fatalf("with the token: %+v, %v; want number %d", got, err, n)
			}
		}
		until(t, "the other process sees what was written", func() bool {
			got, err := there.read(t.Context(), "a", "")
			return err == nil && got.Text == want
		})
	}
	// On a machine that is busy with something else Redis may be too slow once.
	if reads := there.reads(t); reads["l1"] == 0 || reads["failed"] > reads["l1"]/10 {
		t.Errorf("reads by level: %v; want most of l1 and hardly any failed", reads)
	}

	mustSet(t, here, "a", hidden)
	until(t, "what is hidden is gone", func() bool {
		_, err := there.read(t.Context(), "a", "")
		return isNotFound(err)
	})
	if _, err := there.read(t.Context(), "nothing", ""); !isNotFound(err) {
		t.Errorf("what never was: %v; want not found", err)
	}
}

// A command's token is in the document that it changed: who reads his own
// writes need not go to the source of truth.
func TestOwnWritesAreReadFromTheCache(t *testing.T) {
	t.Parallel()
	server := courantetest.StartRedis(t)
	p := startNotes(t, newDatabase(t), redis.Config{URLs: []string{server.URL()}})
	mustSet(t, p, "a", "first")
	p.warm(t, "a")
	_, token := mustSet(t, p, "a", "second")
	until(t, "the change is in memory", func() bool {
		got, err := p.read(t.Context(), "a", "")
		return err == nil && got.Text == "second"
	})
	before := p.reads(t)
	made := p.made.Load()
	if got, err := p.read(t.Context(), "a", token); err != nil || got.Text != "second" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if after := p.reads(t); after["l1"] != before["l1"]+1 || p.made.Load() != made {
		t.Errorf("reads by level: %v, then %v, and %d documents made; want one more of l1 and none made", before, after, p.made.Load()-made)
	}
}
