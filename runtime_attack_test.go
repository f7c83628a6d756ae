package courante_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/memory"
	"github.com/courante-dev/courante/postgres"
)

// The domain of these tests counts: a source numbers events on many streams, a
// ledger writes down the last number of each and every number that did not
// follow the one before. Nothing guards it: a lost, repeated or overtaking
// event leaves a mark for ever.

type counted struct {
	Key string `json:"key"`
	N   int64  `json:"n"`
}
type marked struct {
	Key string `json:"key"`
	N   int64  `json:"n"`
}

func (counted) EventType() string { return "source.counted" }
func (marked) EventType() string  { return "source.marked" }

type count struct{ N, Marks int64 }
type tally struct{ Count, Last, LastMark, Wrong int64 }

// markEvery is how many counts lie between two marks of a key.
const markEvery = 5

type counting struct {
	source, ledger *courante.Service
	count          *courante.Command
	counts         *courante.Entity[count]
	tallies        *courante.Entity[tally]
	rt             *courante.Runtime
	stop           func()
}

// newCounting builds one process's services; a newer program also reacts to marks.
func newCounting(newer bool) *counting {
	c := &counting{}
	c.source = courante.NewService("source")
	c.source.Emits(courante.Critical, counted{}, marked{})
	c.counts = courante.Sourced(c.source, "counter",
		courante.Evolve(func(s *count, e counted) { s.N = e.N }),
		courante.Evolve(func(s *count, e marked) { s.Marks = e.N }))
	c.count = courante.NewCommand(c.source, courante.Step{Name: "count", Outcomes: []courante.Outcome{
		{Emits: courante.Types(counted{})}, {Emits: courante.Types(counted{}, marked{})}}})

	c.ledger, c.tallies = newLedger("ledger", newer)
	return c
}

// newLedger builds a service that writes down counts, and marks if it is newer.
func newLedger(name string, newer bool) (*courante.Service, *courante.Entity[tally]) {
	ledger := courante.NewService(name)
	tallies := courante.Stored[tally](ledger, "tally")
	courante.On(ledger, courante.Reaction[counted]{
		Step: courante.Step{Name: "write down"},
		Keys: func(e counted) []courante.Key { return []courante.Key{tallies.Key(e.Key)} },
		Do: func(d *courante.Decision, e counted) error {
			r := tallies.Load(d, e.Key)
			s := r.State
			if e.N != s.Last+1 {
				s.Wrong++
			}
			s.Last = e.N
			s.Count++
			r.Put(s)
			return nil
		},
	})
	if newer {
		courante.On(ledger, courante.Reaction[marked]{
			Step: courante.Step{Name: "write down mark"},
			Do: func(d *courante.Decision, e marked) error {
				r := tallies.Load(d, e.Key)
				s := r.State
				if s.LastMark != 0 && e.N != s.LastMark+1 {
					s.Wrong++
				}
				s.LastMark = e.N
				r.Put(s)
				return nil
			},
		})
	}
	return ledger, tallies
}

// start runs the services as one process. wrap may change the ledger's store.
func (c *counting) start(t *testing.T, b base, lanes int, wrap func(courante.Store) courante.Store) {
	t.Helper()
	ledger := b.store("ledger")
	if wrap != nil {
		ledger = wrap(ledger)
	}
	var err error
	c.rt, err = courante.NewRuntime(courante.Config{
		Database: b.db, Lanes: lanes, Batch: 32,
		Services: []courante.Mount{{Service: c.source, Store: b.store("source")}, {Service: c.ledger, Store: ledger}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.run(t)
}

// run runs the runtime until it is told to stop.
func (c *counting) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.rt.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	c.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(c.stop)
}

func (c *counting) add(ctx context.Context, key string) error {
	_, err := c.count.Do(ctx, courante.Call{Keys: []courante.Key{c.counts.Key(key)}, Do: func(d *courante.Decision) error {
		r := c.counts.Load(d, key)
		n := r.State.N + 1
		r.Emit(counted{key, n})
		if n%markEvery == 0 {
			r.Emit(marked{key, r.State.Marks + 1})
		}
		return nil
	}})
	return err
}

// load counts on many keys until told to stop, through whichever process takes
// the command, and returns how often each key was counted.
type load struct {
	keys  int
	total []atomic.Int64
	wg    sync.WaitGroup
	quit  chan struct{}
}

func startLoad(t *testing.T, keys, workers int, through func() *counting) *load {
	t.Helper()
	l := &load{keys: keys, total: make([]atomic.Int64, keys), quit: make(chan struct{})}
	for w := range workers {
		l.wg.Go(func() {
			for i := w; ; i += workers {
				select {
				case <-l.quit:
					return
				default:
				}
				k := i % keys
				if err := through().add(context.Background(), fmt.Sprint(k)); err == nil {
					l.total[k].Add(1)
				} else if !errors.Is(err, courante.ErrTransient) {
					t.Errorf("count: %v", err)
					return
				}
			}
		})
	}
	return l
}

func (l *load) sum() (n int64) {
	for i := range l.total {
		n += l.total[i].Load()
	}
	return n
}

// markEach waits until every key was counted on far enough for another mark. The
// workers do not advance evenly, so a sum says nothing about a single key.
func (l *load) markEach(t *testing.T) {
	t.Helper()
	for k := range l.total {
		want := l.total[k].Load() + 2*markEvery
		until(t, fmt.Sprintf("key %d is counted up to %d", k, want), func() bool { return l.total[k].Load() >= want })
	}
}

func (l *load) stop() { close(l.quit); l.wg.Wait() }

// check waits until everything is written down and looks for marks of trouble.
func (l *load) check(t *testing.T, c *counting, marks bool) {
	t.Helper()
	for k := range l.keys {
		key, want := fmt.Sprint(k), l.total[k].Load()
		var got tally
		until(t, fmt.Sprintf("key %s is written down up to %d", key, want), func() bool {
			got, _, _ = c.tallies.Get(t.Context(), key)
			return got.Last >= want && (!marks || got.LastMark >= want/markEvery)
		})
		if got.Last != want || got.Wrong != 0 {
			t.Errorf("key %s: %+v, want last %d and nothing wrong", key, got, want)
		}
	}
}

// sharedBase lets several "processes" use one database: handles of their own.
func sharedBase(t *testing.T, kind string) func() base {
	if kind == "memory" {
		db := memory.New(memory.Config{})
		return func() base {
			return base{db: db, store: func(name string) courante.Store { return db.Store(name) }}
		}
	}
	config := courantetest.PostgresConfig(t)
	return func() base {
		db, err := postgres.Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		return base{db: db, store: func(name string) courante.Store { return courantetest.PostgresStore(t, db, name) }}
	}
}

// onBoth runs the test on both stores with several processes. The one in memory
// cannot be shared by two runtimes at once, because a database has one receiver
// of its signal; it takes part where processes follow each other.
func TestTwoProcessesThatBothOwnTheLanesDoNothingTwice(t *testing.T) {
	t.Parallel()
	process := sharedBase(t, "postgres")
	a, b := newCounting(false), newCounting(false)
	a.start(t, process(), 2, nil)
	b.start(t, process(), 2, nil)
	var turn atomic.Int64
	l := startLoad(t, 20, 8, func() *counting {
		if turn.Add(1)%2 == 0 {
			return a
		}
		return b
	})
	until(t, "1,000 counts", func() bool { return l.sum() > 1000 })
	l.stop()
	l.check(t, a, false)
}

func TestZombieThatWakesAfterAnotherTookOverWritesNothing(t *testing.T) {
	t.Parallel()
	process := sharedBase(t, "postgres")
	zombie, heir := newCounting(false), newCounting(false)
	asleep, wake := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fenced := make(chan error, 1)
	zombie.start(t, process(), 1, func(s courante.Store) courante.Store {
		return &sleepyStore{Store: s, beforeCommit: func(c courante.Changes, commit func() error) error {
			if len(c.States) == 0 {
				return commit()
			}
			first := false
			once.Do(func() { first = true })
			if !first {
				return commit()
			}
			close(asleep)
			<-wake
			err := commit()
			fenced <- err
			return err
		}}
	})
	l := startLoad(t, 5, 2, func() *counting { return zombie })
	<-asleep // with a batch decided and not committed, its rows locked
	l.stop()
	heir.start(t, process(), 1, nil)
	// The heir cannot have the rows while the zombie's transaction holds them;
	// the server ends that transaction, as it would when the process is gone.
	conn := process().db.(*postgres.Database).Pool()
	until(t, "the server ended the zombie's transaction", func() bool {
		_, err := conn.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity
			where state = 'idle in transaction' and pid <> pg_backend_pid() and application_name <> 'test'
			and xact_start < now() - interval '200 ms'`)
		if err != nil {
			t.Fatal(err)
		}
		done := true
		for k := range l.keys {
			got, _, _ := heir.tallies.Get(t.Context(), fmt.Sprint(k))
			done = done && got.Last >= l.total[k].Load()
		}
		return done
	})
	close(wake)
	if err := <-fenced; err == nil {
		t.Error("the zombie's commit went through")
	}
	l.check(t, heir, false)
}

// sleepyStore pauses its units before they commit.
type sleepyStore struct {
	courante.Store
	beforeCommit func(c courante.Changes, commit func() error) error
}

func (s *sleepyStore) Begin(ctx context.Context) (courante.Unit, error) {
	u, err := s.Store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &sleepyUnit{Unit: u, s: s}, nil
}

type sleepyUnit struct {
	courante.Unit
	s *sleepyStore
}

func (u *sleepyUnit) Commit(ctx context.Context, c courante.Changes) (r courante.Receipt, err error) {
	err = u.s.beforeCommit(c, func() error {
		r, err = u.Unit.Commit(ctx, c)
		return err
	})
	return r, err
}

func TestNewLaneEpochUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	for _, lanes := range []struct{ before, after int }{{2, 2}, {2, 3}, {4, 1}} {
		t.Run(fmt.Sprintf("%d to %d lanes and a new type", lanes.before, lanes.after), func(t *testing.T) {
			t.Parallel()
			process := sharedBase(t, "postgres")
			older, newer := newCounting(false), newCounting(true)
			older.start(t, process(), lanes.before, nil)
			var current atomic.Pointer[counting]
			current.Store(older)
			l := startLoad(t, 20, 8, current.Load)
			until(t, "500 counts", func() bool { return l.sum() > 500 })
			newer.start(t, process(), lanes.after, nil) // the older one still runs
			current.Store(newer)
			until(t, "1,000 counts", func() bool { return l.sum() > 1000 })
			older.stop()
			l.markEach(t)
			l.stop()
			l.check(t, newer, true)
		})
	}
	t.Run("one process after another", func(t *testing.T) {
		t.Parallel()
		process := sharedBase(t, "memory")
		first := newCounting(false)
		first.start(t, process(), 3, nil)
		l := startLoad(t, 20, 8, func() *counting { return first })
		until(t, "500 counts", func() bool { return l.sum() > 500 })
		l.stop()
		first.stop()
		second := newCounting(true)
		second.start(t, process(), 2, nil)
		more := startLoad(t, 20, 8, func() *counting { return second })
		for i := range more.total {
			more.total[i].Store(l.total[i].Load())
		}
		more.markEach(t)
		more.stop()
		more.check(t, second, true)
	})
}
