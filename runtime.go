package courante

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Config says what a runtime runs and on what. The zero value of a field means
// its default.
type Config struct {
	// Database is the one that the stores belong to. Required.
	Database Database

	// Services are the contexts of this process, each with its store. Required.
	Services []Mount

	// Sources are the stores of contexts that run elsewhere and whose logs the
	// Services react to. The Services' own stores need not be named.
	Sources []Store

	// Foreign are services that run in other processes and emit what the Services
	// react to. Without a Broker, their Stores have to be readable here.
	Foreign []Foreign

	// Broker carries events between services: from the relays of logs to the
	// lanes of their subscribers, wherever these run. Nil: lanes read the logs
	// themselves.
	Broker Broker

	// Relays are the stores whose logs this process sends over the Broker;
	// default: those of the Services. Several processes may relay a log: one
	// does, and another one takes over when it is gone.
	Relays []Store

	// Cache keeps the documents of the services' collections near to their
	// readers. Nil: they are made from the source of truth each time.
	Cache Cache

	// Broadcast tells watchers in all processes what one finds in the logs. Nil:
	// each process finds it by itself.
	Broadcast Broadcast

	// Shared is for services that other processes run too: the lanes of each are
	// shared among them. Their stores have to be a [SharedStore].
	Shared bool

	// Lanes is how many lanes each service handles its deliveries with. Default
	// 1: its batches are the largest, and no two of them wait for one another's
	// locks; the services of a process keep its processors busy side by side. Of
	// a Shared service 2, so that two processes have work. A change begins a new
	// lane epoch.
	Lanes int

	// Batch is how many deliveries, at most, one transaction takes; default 256.
	// Beyond that a larger batch saves next to nothing and only waits longer.
	Batch int

	// TickEvery is the least time between two ticks; default 5 ms. A tick is one
	// small commit, so a shorter one costs CPU under load and gains latency; with
	// nothing to do there are no ticks at all.
	TickEvery time.Duration

	// Performers is how many effects of one service may be under way at once in
	// this process; default 256. Calls to the outside mostly wait, and some that
	// nobody answers must not keep the others from being made. How many of them
	// are used is found out: more only while more get done by it.
	Performers int

	// RecordEvery is about how many ticks of a log a restart may have to read
	// again; default 1000. Lanes and agendas that found nothing to write in so
	// many ticks record their place all the same.
	RecordEvery int

	// Drain is how long Run lets work in progress finish once it was told to
	// stop, before it cancels it; default 10 s.
	Drain time.Duration

	// Version of the program, recorded with parked messages.
	Version string

	Logger *slog.Logger         // default: discards
	Tracer trace.TracerProvider // default: the global one
	Meter  metric.MeterProvider // default: the global one

	// Now and NewID are where decisions get time and ids from; default the
	// system's clock and 128 random bits. They may be called at once.
	Now   func() time.Time
	NewID func() string

	// Rand is the source of jitter, in [0, 1); default math/rand/v2.
	Rand func() float64

	// Stepped is for simulations: Run is not used, nothing runs by itself, Do
	// decides in the caller's goroutine, and whoever holds the runtime calls
	// the Step of each of its Actors when it pleases.
	Stepped bool

	// Observe, if not nil, is told what a unit has decided right before it is
	// committed; whether it is, the store knows. It is called by the goroutine
	// that commits, may be called at once, and must not keep the slice.
	Observe func([]Decided)
}

// Foreign is a service that runs in another process.
type Foreign struct {
	// Service is its declaration, of which nothing is run; [Manifest.Declared]
	// makes one too.
	Service *Service

	// Store, if this process can read it, is where tokens of the service's
	// commands are looked up: without it nobody can wait here for what such a
	// command brings about. It may be nil.
	Store Store
}

// Mount puts a service on its store.
type Mount struct {
	Service *Service
	Store   Store
}

// Runtime runs services: it ticks the database, reads the logs, carries events
// to the services that react to them, decides in batches, fires deadlines and
// performs effects.
type Runtime struct {
	cfg        Config
	log        *slog.Logger
	tracer     trace.Tracer
	metrics    *metrics
	tickLabels *classed
	nodes      []*node
	byName     map[string]*node
	tails      map[string]*tail // by log
	transport  Transport        // of events that need no broker
	wire       *brokerTransport // nil without a broker
	relays     []*relay
	actors     []*Actor
	ticker     *Actor
	nextTick   time.Time // the ticker's own: not before

	ticked atomic.Int64 // when the ticker last had an answer, Unix nanoseconds

	mu      sync.Mutex // guards what follows
	running bool
	stopped bool
}

// node is a service on its store, inside a runtime.
type node struct {
	rt          *Runtime
	svc         *Service
	store       Store
	labels      labels
	journeys    *journeys
	consumers   []*consumer
	agenda      []*agenda // its parts; none if the service has nothing for one
	performers  *performers
	inbox       *inbox // nil: nothing comes from outside
	backlog     backlog
	share       *share // nil: it is not shared
	followers   []*follower
	carriers    []*carrier
	broadcaster *broadcaster // nil: there is no broadcast, or nothing to watch
	topics      topics
	commands    commandQueue
	reads       group[Key, State]
	locates     group[Token, error]
	kept        kept

	sources  []string     // logs that hold what it reacts to
	prepared bool         // its tables are up to date; see Prepare
	known    atomic.Int64 // lane epochs in all logs, as last seen

	mu      sync.Mutex // guards what follows
	movedC  chan struct{}
	joined  map[string]int           // by source log: the lane epoch that this process has declared or joined
	places  map[Lane]Cursor          // how far the lanes have come
	stopped error                    // why a lane stopped for good
	retired map[string]*retiredError // by source log
	aside   map[int]*aside           // by lane of the process
}

// Actor is one of the things that a runtime does side by side. In a running
// runtime each has a goroutine of its own.
type Actor struct {
	// Name says what it is: "ticker", "tail ordering", "lane payment/0".
	Name string
	// Step does one piece of work, if there is any, and reports whether there
	// was. It must not be called at once with itself.
	Step func(ctx context.Context) (worked bool, err error)
	// Next is when Step has something to do at the latest, even if nothing
	// wakes the actor; the zero time if only a wake-up tells.
	Next func() time.Time

	wake chan struct{}
	errs atomic.Int32 // transient failures in a row
}

// Wake makes a running actor take a step soon. It never blocks.
func (a *Actor) Wake() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// wakeOn wakes the actor at each signal, until done is closed.
func (a *Actor) wakeOn(signals <-chan struct{}, done <-chan struct{}) {
	for {
		select {
		case <-signals:
			a.Wake()
		case <-done:
			return
		}
	}
}

// Woken reports whether the actor was woken since it was last asked. It is for
// who steps a runtime by hand; in a running one the actors ask themselves.
func (a *Actor) Woken() bool {
	select {
	case <-a.wake:
		return true
	default:
		return false
	}
}

// NewRuntime checks the declarations and puts the services on their stores. It
// reports every mistake at once. A service belongs to one runtime.
func NewRuntime(cfg Config) (*Runtime, error) {
	cfg.setDefaults()
	rt := &Runtime{
		cfg: cfg, log: cfg.Logger, byName: map[string]*node{}, tails: map[string]*tail{},
		tracer: cfg.Tracer.Tracer(scope), tickLabels: newClassed(),
	}
	problems := rt.check()
	var err error
	if rt.metrics, err = newMetrics(cfg.Meter.Meter(scope)); err != nil {
		problems = append(problems, err)
	}
	if len(problems) == 0 && !cfg.Stepped { // a simulation starts thousands of runtimes on one declaration
		problems = append(problems, rt.checkSagas())
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	for _, m := range cfg.Services {
		n := newNode(rt, m)
		rt.nodes = append(rt.nodes, n)
		rt.byName[m.Service.name] = n
		m.Service.node = n
		rt.tails[m.Store.Log()] = newTail(rt, m.Store)
	}
	for _, s := range cfg.Sources {
		if rt.tails[s.Log()] == nil {
			rt.tails[s.Log()] = newTail(rt, s)
		}
	}
	for _, s := range cfg.Relays {
		if rt.tails[s.Log()] == nil {
			rt.tails[s.Log()] = newTail(rt, s)
		}
	}
	for _, f := range cfg.Foreign {
		if cfg.Broker == nil && rt.tails[f.Service.name] == nil {
			rt.tails[f.Service.name] = newTail(rt, f.Store)
		}
	}
	rt.transport = &logTransport{tails: rt.tails}
	if cfg.Broker != nil {
		rt.wire = &brokerTransport{rt: rt}
		for _, s := range cfg.Relays {
			rt.relays = append(rt.relays, newRelay(rt, s))
		}
	}
	for _, n := range rt.nodes {
		n.sources = n.sourceLogs()
	}
	rt.enlist()
	return rt, nil
}

const (
	scope        = "github.com/courante-dev/courante"
	defaultLanes = 1
	sharedLanes  = 2
)

func (c *Config) setDefaults() {
	if c.Lanes == 0 {
		c.Lanes = defaultLanes
		if c.Shared {
			c.Lanes = sharedLanes
		}
	}
	if c.Batch == 0 {
		c.Batch = 256
	}
	if c.TickEvery == 0 {
		c.TickEvery = 5 * time.Millisecond
	}
	if c.Performers == 0 {
		c.Performers = 256
	}
	if c.RecordEvery == 0 {
		c.RecordEvery = 1000
	}
	if c.Broker != nil && c.Relays == nil {
		for _, m := range c.Services {
			c.Relays = append(c.Relays, m.Store)
		}
	}
	if c.Drain == 0 {
		c.Drain = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Tracer == nil {
		c.Tracer = otel.GetTracerProvider()
	}
	if c.Meter == nil {
		c.Meter = otel.GetMeterProvider()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = randomID
	}
	if c.Rand == nil {
		c.Rand = mathrand.Float64
	}
}

// enlist makes the actors.
func (rt *Runtime) enlist() {
	rt.ticker = rt.actor("ticker", rt.tick, func() time.Time { return rt.nextTick })
	for _, log := range rt.logs() {
		t := rt.tails[log]
		t.actor = rt.actor("tail "+log, t.step, nil)
	}
	for _, r := range rt.relays {
		r.actor = rt.actor("relay "+r.store.Log(), r.step, r.next)
	}
	for _, n := range rt.nodes {
		if len(n.svc.types) > 0 {
			for k := range rt.cfg.Lanes {
				c := &consumer{n: n, k: k}
				c.actor = rt.actor(fmt.Sprintf("lane %s/%d", n.svc.name, k), c.step, c.next)
				n.consumers = append(n.consumers, c)
			}
		}
		if len(n.svc.deadlines)+len(n.svc.effects)+len(n.svc.sagas) > 0 {
			n.performers = newPerformers(n)
			for k := range AgendaParts {
				a := newAgenda(n, k)
				a.actor = rt.actor(fmt.Sprintf("agenda %s/%d", n.svc.name, k), a.step, a.next)
				n.agenda = append(n.agenda, a)
			}
			for i := range rt.cfg.Performers {
				if len(n.svc.effects) == 0 {
					break
				}
				// They share one wake-up: whoever is idle takes it.
				p := rt.actor(fmt.Sprintf("performer %s/%d", n.svc.name, i), n.performers.step, nil)
				p.wake = n.performers.asked
			}
		}
		if rt.wire != nil && !rt.cfg.Stepped {
			n.backlog.actor = rt.actor("backlog "+n.svc.name, n.backlog.step, n.backlog.next)
		}
		if rt.cfg.Broker != nil && len(n.svc.inbound) > 0 {
			n.inbox = &inbox{n: n}
			n.inbox.actor = rt.actor("inbox "+n.svc.name, n.inbox.step, nil)
		}
		rt.enlistFollowers(n)
		rt.enlistCarriers(n)
		rt.enlistBroadcaster(n)
		if store, ok := n.store.(SharedStore); ok && rt.cfg.Shared {
			n.share = newShare(n, store)
			n.share.actor = rt.actor("share "+n.svc.name, n.share.step, n.share.next)
		}
	}
}

func (rt *Runtime) actor(name string, step func(context.Context) (bool, error), next func() time.Time) *Actor {
	if next == nil {
		next = func() time.Time { return time.Time{} }
	}
	a := &Actor{Name: name, Step: step, Next: next, wake: make(chan struct{}, 1)}
	rt.actors = append(rt.actors, a)
	return a
}

// logs returns the names of the logs it reads, sorted.
func (rt *Runtime) logs() []string {
	var names []string
	for name := range rt.tails {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Actors returns what the runtime does side by side, for simulations.
func (rt *Runtime) Actors() []*Actor { return rt.actors }

// slowestTicks is the longest pause between two ticks of a busy database.
const slowestTicks = 50 * time.Millisecond

// tick makes the commits of the last moments visible to readers of the logs.
func (rt *Runtime) tick(ctx context.Context) (bool, error) {
	if rt.now().Before(rt.nextTick) {
		return false, nil
	}
	rt.nextTick = time.Time{}
	start, began := rt.now(), time.Now()
	moved, err := rt.cfg.Database.Tick(ctx)
	rt.metrics.ticks.Record(ctx, time.Since(began).Seconds(), rt.tickLabels[classOf(err)])
	if err != nil {
		return false, fmt.Errorf("tick: %w", err)
	}
	rt.ticked.Store(rt.now().UnixNano())
	for _, log := range moved {
		if t := rt.tails[log]; t != nil {
			t.actor.Wake()
		}
	}
	if len(moved) > 0 {
		// A database that is slow to tick is busy, and so are those who read the
		// tick: larger ones cost all of them less. One that hung need not wait.
		now := rt.now()
		rt.nextTick = now.Add(max(rt.cfg.TickEvery, min(3*now.Sub(start), slowestTicks)))
	}
	return len(moved) > 0, nil
}

// grown tells everyone who reads the log that its tail has grown.
func (rt *Runtime) grown(log string) {
	for _, r := range rt.relays {
		if r.store.Log() == log {
			r.actor.Wake()
		}
	}
	for _, n := range rt.nodes {
		for _, c := range n.consumers {
			c.actor.Wake()
		}
		if n.svc.name == log {
			n.wakeAgenda()
			if n.broadcaster != nil {
				n.broadcaster.actor.Wake()
			}
		}
		for _, c := range n.carriers {
			if n.svc.name == log {
				c.actor.Wake()
			}
		}
		for _, f := range n.followers {
			if contains(f.logs, log) {
				f.actor.Wake()
			}
		}
	}
}

// Stopped returns why lanes of services have stopped for good, by service; none
// have if it is empty. A stopped lane waits for a person: see [LogBrokenError]
// and [RetireSubscriber].
func (rt *Runtime) Stopped() map[string]error {
	stopped := map[string]error{}
	for _, n := range rt.nodes {
		if err := n.whyStopped(); err != nil {
			stopped[n.svc.name] = err
		}
	}
	return stopped
}

func (n *node) whyStopped() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	errs := []error{n.stopped}
	for _, log := range n.sources {
		if r := n.retired[log]; r != nil {
			errs = append(errs, r)
		}
	}
	return errors.Join(errs...)
}

func (rt *Runtime) now() time.Time { return rt.cfg.Now().UTC().Truncate(time.Microsecond) }
func (rt *Runtime) newID() string  { return rt.cfg.NewID() }

// backoff is an exponential pause with full jitter on its upper half, so that
// what failed together does not come back together.
func (rt *Runtime) backoff(failures int, least, most time.Duration) time.Duration {
	d := float64(least) * math.Pow(2, float64(min(failures-1, 30)))
	d = min(d, float64(most))
	return time.Duration(d/2 + d/2*rt.cfg.Rand())
}

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails; see its documentation
	return hex.EncodeToString(b[:])
}
