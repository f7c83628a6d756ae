package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/gateway"
	"github.com/courante-dev/courante/internal/telemetry"
	"github.com/courante-dev/courante/postgres"
	"github.com/courante-dev/courante/rabbitmq"
	"github.com/courante-dev/courante/redis"
)

// system is everything in one process. Its parts are in the order of their
// start; stop goes the other way. A part that is nil was not started.
type system struct {
	p   *Program
	dir string

	listener net.Listener
	tel      *telemetry.Telemetry
	server   *postgres.Server // nil on a PostgreSQL of the user's own
	db       *postgres.Database
	observed func() // ends the metrics of the database
	env      *Env
	role     *role
	broker   *rabbitmq.Broker   // nil: none
	cache    *redis.Client      // nil: none
	mounts   []courante.Mount   // of the services that run here
	foreign  []courante.Foreign // those that run elsewhere
	relays   []courante.Store   // logs to relay, if it is not those of the mounts
	runtime  *running
	http     *http.Server
	debugger *debugging // nil: not asked for
	served   chan error // why the HTTP server ended
}

// running is a runtime, and what else runs until it is told to stop.
type running struct {
	*courante.Runtime
	cancel context.CancelFunc
	done   sync.WaitGroup
	failed chan error
}

// startSystem starts everything and returns when it answers requests. What was
// started is stopped again when something fails.
func startSystem(ctx context.Context, p *Program, r *role) (_ *system, err error) {
	s := &system{p: p, role: r, served: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stopQuietly(context.WithoutCancel(ctx)))
		}
	}()
	if !p.Globals.JSON {
		p.Println("Starting " + p.app.Name + " " + version().Version)
	}
	// What can be wrong is found before what takes time.
	if s.listener, err = listen(ctx, "listen", r.listen); err != nil {
		return nil, err
	}
	if s.dir, err = p.Globals.DataDir(); err != nil {
		return nil, err
	}
	if s.tel, err = telemetry.Start(ctx, telemetry.Config{Service: p.app.Name, Version: version().Version}); err != nil {
		return nil, err
	}
	if err := s.checkSagas(); err != nil {
		return nil, err
	}
	url, err := s.openServer(ctx)
	if err != nil {
		return nil, err
	}
	contexts, err := s.openContexts(ctx, url)
	if err != nil {
		return nil, err
	}
	if s.broker, err = r.wires.open(ctx, p); err != nil {
		return nil, err
	}
	if s.cache, err = r.caching.open(p, s.tel); err != nil {
		return nil, err
	}
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	if err := s.serve(contexts); err != nil {
		return nil, err
	}
	if err := s.debug(ctx, r.debug); err != nil {
		return nil, err
	}
	return s, nil
}

// listen takes the address that a flag of that name gave.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another program.\nChoose another address, for example: courante up --%s 127.0.0.1:0 (a free port)", address, flag)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s may not be used by this user: ports below 1024 need root.\nChoose another address, for example: courante up --%s 127.0.0.1:8080", address, flag)
	case err != nil:
		return nil, UsageError{fmt.Errorf("cannot listen on %q: %w.\nAn address is HOST:PORT, for example 127.0.0.1:8080", address, err)}
	}
	return l, nil
}

// checkSagas refuses to run services whose sagas may not end.
func (s *system) checkSagas() error {
	reports, err := courante.CheckSagas(s.p.app.Declare(), 0)
	if err != nil {
		return fmt.Errorf("the saga check fails, so nothing is started.\n%w\nSee it whole with: courante saga check", err)
	}
	for _, r := range reports {
		s.p.Step("saga %s: every way of it ends (%s states)", r.Saga, Thousands(r.States))
	}
	return nil
}

// openServer returns the URL of the database: of the user's own PostgreSQL, or
// of the embedded one, which it starts.
func (s *system) openServer(ctx context.Context) (string, error) {
	if url := s.p.Globals.PostgresURL; url != "" {
		s.p.Step("PostgreSQL: the one of COURANTE_POSTGRES_URL")
		return url, nil
	}
	if len(s.role.services)+len(s.role.relays) > 0 {
		// Processes of a fleet share a server, which none of them owns.
		return s.p.Globals.FindDatabase()
	}
	dir := filepath.Join(s.dir, "postgres")
	s.p.Step("PostgreSQL: starting in %s", dir)
	start := time.Now()
	var err error
	if s.server, err = postgres.StartServer(ctx, postgres.ServerConfig{Dir: dir, Logger: s.p.Log}); err != nil {
		return "", err
	}
	s.p.Step("PostgreSQL: ready after %s", Short(time.Since(start)))
	if err := s.server.CreateDatabase(ctx, s.p.app.Database); err != nil {
		return "", err
	}
	url := s.server.URL(s.p.app.Database)
	return url, writeConnection(s.dir, url, s.url())
}

// openContexts opens the services, each on its store.
func (s *system) openContexts(ctx context.Context, url string) ([]Context, error) {
	start := time.Now()
	var err error
	if s.db, err = postgres.Open(ctx, postgres.Config{URL: url, Logger: s.p.Log}); err != nil {
		return nil, err
	}
	if s.observed, err = s.db.Observe(s.tel.Meter); err != nil {
		return nil, err
	}
	s.env = &Env{DatabaseURL: url, Data: s.dir, Log: s.p.Log}
	contexts, err := s.p.app.Open(ctx, s.env)
	if err != nil {
		return nil, err
	}
	here, elsewhere, err := s.role.choose(contexts)
	if err != nil {
		return nil, err
	}
	for _, c := range here {
		store, err := s.db.Store(ctx, c.Service().Name())
		if err != nil {
			return nil, err
		}
		s.mounts = append(s.mounts, courante.Mount{Service: c.Service(), Store: store})
	}
	if err := s.openElsewhere(ctx, elsewhere); err != nil {
		return nil, err
	}
	s.p.Step("database: %d logs, up to date after %s", len(s.mounts)+len(s.relays), Short(time.Since(start)))
	return here, nil
}

// openElsewhere opens what this process needs of services that run in others.
func (s *system) openElsewhere(ctx context.Context, contexts []Context) error {
	for _, c := range contexts {
		f := courante.Foreign{Service: c.Service()}
		relayed := slices.Contains(s.role.relays, f.Service.Name())
		if relayed || !s.role.ownDatabase && len(s.role.relays) == 0 {
			store, err := s.db.Store(ctx, f.Service.Name())
			if err != nil {
				return err
			}
			f.Store = store
			if relayed {
				s.relays = append(s.relays, store)
				continue
			}
		}
		s.foreign = append(s.foreign, f)
	}
	return nil
}

// everywhere are all services whose logs this process can read, on their stores.
func (s *system) everywhere() []courante.Mount {
	mounts := slices.Clone(s.mounts)
	for _, f := range s.foreign {
		if f.Store != nil {
			mounts = append(mounts, courante.Mount{Service: f.Service, Store: f.Store})
		}
	}
	return mounts
}

// run starts the runtime, which stops when it is told to and not when ctx
// ends: requests that are under way then still need it.
func (s *system) run(ctx context.Context) error {
	rt, err := courante.NewRuntime(s.role.config(s))
	if err != nil {
		return err
	}
	start := time.Now()
	if err := rt.Prepare(ctx); err != nil {
		return err
	}
	s.p.Step("read models: up to date after %s", Short(time.Since(start)))
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.runtime = &running{Runtime: rt, cancel: cancel, failed: make(chan error, 1)}
	s.runtime.done.Go(func() {
		if err := rt.Run(ctx); err != nil {
			s.runtime.failed <- err
		}
	})
	s.runtime.done.Go(func() { s.maintain(ctx) })
	return s.awaitRuntime(ctx)
}

// awaitRuntime returns when the runtime takes commands and has reached its
// database: who is told that the system is ready may use it.
func (s *system) awaitRuntime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for {
		err := s.runtime.CheckTicker()
		if err == nil {
			return nil
		}
		select {
		case failure := <-s.runtime.failed:
			return failure
		case <-ctx.Done():
			return fmt.Errorf("the runtime did not come up: %w", err)
		case <-poll.C:
		}
	}
}

// maintain keeps the stores up; see upkeep.
func (s *system) maintain(ctx context.Context) {
	every := time.NewTicker(5 * time.Minute)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-every.C:
			for _, m := range s.mounts {
				if err := s.role.upkeep.run(ctx, m.Store.(*postgres.Store), now); err != nil && ctx.Err() == nil {
					s.p.Log.Warn("maintenance failed; it is tried again", "log", m.Store.Log(), "error", err)
				}
			}
		}
	}
}

func (s *system) serve(contexts []Context) error {
	gw, err := gateway.New(gateway.Config{
		Title: s.p.app.Title, Version: version().Version,
		Metrics: s.tel.Metrics(), Logger: s.p.Log, Tracer: s.tel.Tracer, Meter: s.tel.Meter,
		Ready: []gateway.Check{
			{Name: "database", Check: func(ctx context.Context) error { return s.db.Pool().Ping(ctx) }},
			{Name: "broker", Check: s.checkBroker},
			{Name: "cache", Check: s.checkCache, Optional: true},
			{Name: "lanes", Check: func(context.Context) error { return s.runtime.CheckLanes() }},
			{Name: "ticker", Check: func(context.Context) error { return s.runtime.CheckTicker() }},
		},
	})
	if err != nil {
		return err
	}
	for _, c := range contexts {
		c.Routes(gw.API())
	}
	if len(contexts) > 0 { // who only relays answers for no service
		for _, add := range s.env.routes {
			add(gw.API(), s.everywhere())
		}
	}
	s.http = gw.Server(s.listener.Addr().String())
	go func() { s.served <- s.http.Serve(gateway.Problems(s.listener)) }()
	return nil
}

// checkBroker says whether the broker answers, if there is one.
func (s *system) checkBroker(ctx context.Context) error {
	if s.broker == nil {
		return nil
	}
	return s.broker.Check(ctx)
}

// wait returns when ctx ends, or when a part fails for good.
func (s *system) wait(ctx context.Context) error {
	var down <-chan struct{}
	if s.server != nil {
		down = s.server.Done()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.served:
		return fmt.Errorf("the HTTP server ended: %w", err)
	case err := <-s.runtime.failed:
		return fmt.Errorf("the runtime ended: %w", err)
	case <-down:
		return fmt.Errorf("PostgreSQL could not be kept running: %w; its log is %s", s.server.Err(), filepath.Join(s.dir, "postgres", "postgres.log"))
	}
}

func (s *system) url() string { return "http://" + s.listener.Addr().String() }

func (s *system) ready() Ready {
	return Ready{Ready: true, URL: s.url(), Data: s.dir, Version: version().Version, PID: os.Getpid(), Debug: s.debugger.url()}
}
