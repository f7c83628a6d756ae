package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/gateway"
	"github.com/courante-dev/courante/internal/telemetry"
	"github.com/courante-dev/courante/postgres"
	"github.com/courante-dev/courante/shop/notification"
	"github.com/courante-dev/courante/shop/outside"
)

// system is everything in one process. Its parts are in the order of their
// start; stop goes the other way. A part that is nil was not started.
type system struct {
	p   *program
	dir string

	listener net.Listener
	tel      *telemetry.Telemetry
	server   *postgres.Server // nil on a PostgreSQL of the user's own
	db       *postgres.Database
	ledger   *outside.PostgresLedger
	mounts   []courante.Mount
	parts    postgres.PartPolicy
	saga     *courante.SagaGraph
	runtime  *running
	http     *http.Server
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
func startSystem(ctx context.Context, p *program, c *upCommand) (_ *system, err error) {
	s := &system{p: p, parts: c.policy(), served: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stopQuietly(context.WithoutCancel(ctx)))
		}
	}()
	if !p.globals.JSON {
		p.println("Starting Courante " + version().Version)
	}
	// What can be wrong is found before what takes time.
	if s.listener, err = listen(ctx, c.Listen); err != nil {
		return nil, err
	}
	if s.dir, err = p.globals.dataDir(); err != nil {
		return nil, err
	}
	if s.tel, err = telemetry.Start(ctx, telemetry.Config{Service: "courante", Version: version().Version}); err != nil {
		return nil, err
	}
	if err := s.checkSagas(); err != nil {
		return nil, err
	}
	url, err := s.openServer(ctx)
	if err != nil {
		return nil, err
	}
	contexts, err := s.openShop(ctx, url, c.deadlines)
	if err != nil {
		return nil, err
	}
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	if err := s.serve(contexts); err != nil {
		return nil, err
	}
	return s, nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another program.\nChoose another address, for example: courante up --listen 127.0.0.1:0 (a free port), or set COURANTE_LISTEN", address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s may not be used by this user: ports below 1024 need root.\nChoose another address, for example: courante up --listen 127.0.0.1:8080", address)
	case err != nil:
		return nil, usageError{fmt.Errorf("cannot listen on %q: %w.\nAn address is HOST:PORT, for example 127.0.0.1:8080", address, err)}
	}
	return l, nil
}

// checkSagas refuses to run a shop whose orders may not end.
func (s *system) checkSagas() error {
	reports, err := courante.CheckSagas(declaredShop(), 0)
	if err != nil {
		return fmt.Errorf("the saga check fails, so nothing is started.\n%w\nSee it whole with: courante saga check", err)
	}
	for _, r := range reports {
		s.p.step("saga %s: every way of it ends (%s states)", r.Saga, thousands(r.States))
	}
	return nil
}

// openServer returns the URL of the database: of the user's own PostgreSQL, or
// of the embedded one, which it starts.
func (s *system) openServer(ctx context.Context) (string, error) {
	if url := s.p.globals.PostgresURL; url != "" {
		s.p.step("PostgreSQL: the one of COURANTE_POSTGRES_URL")
		return url, nil
	}
	dir := filepath.Join(s.dir, "postgres")
	s.p.step("PostgreSQL: starting in %s", dir)
	start := time.Now()
	var err error
	if s.server, err = postgres.StartServer(ctx, postgres.ServerConfig{Dir: dir, Logger: s.p.log}); err != nil {
		return "", err
	}
	s.p.step("PostgreSQL: ready after %s", short(time.Since(start)))
	if err := s.server.CreateDatabase(ctx, databaseName); err != nil {
		return "", err
	}
	url := s.server.URL(databaseName)
	return url, writeConnection(s.dir, url)
}

// databaseName is the database of the shop on the embedded server.
const databaseName = "shop"

// openShop opens the stores and declares the contexts on them.
func (s *system) openShop(ctx context.Context, url string, d deadlines) ([]boundedContext, error) {
	start := time.Now()
	var err error
	if s.db, err = postgres.Open(ctx, postgres.Config{URL: url, Logger: s.p.log}); err != nil {
		return nil, err
	}
	if s.ledger, err = outside.OpenLedger(ctx, url); err != nil {
		return nil, err
	}
	mails, err := notification.NewFolder(filepath.Join(s.dir, "mail"))
	if err != nil {
		return nil, err
	}
	// A charge that comes late has to come after the deadline to be late.
	manners := outside.Config{Late: d.PaymentDeadline + 5*time.Second}
	contexts := newShop(d, outsiders{outside.NewProvider(s.ledger, manners), outside.NewCarrier(s.ledger, manners), mails})
	for _, c := range contexts {
		store, err := s.db.Store(ctx, c.Service().Name())
		if err != nil {
			return nil, err
		}
		s.mounts = append(s.mounts, courante.Mount{Service: c.Service(), Store: store})
	}
	if s.saga, err = courante.BuildSaga(services(contexts), orderSaga); err != nil {
		return nil, err
	}
	s.p.step("database: %d logs, up to date after %s", len(s.mounts), short(time.Since(start)))
	return contexts, nil
}

// run starts the runtime, which stops when it is told to and not when ctx
// ends: requests that are under way then still need it.
func (s *system) run(ctx context.Context) error {
	rt, err := courante.NewRuntime(courante.Config{
		Database: s.db, Services: s.mounts, Version: version().Version,
		Logger: s.p.log, Tracer: s.tel.Tracer, Meter: s.tel.Meter,
	})
	if err != nil {
		return err
	}
	start := time.Now()
	if err := rt.Prepare(ctx); err != nil {
		return err
	}
	s.p.step("read models: up to date after %s", short(time.Since(start)))
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

// maintain makes and drops partitions in time, and closes and seals the parts of
// the logs; see postgres.Store.Maintain and MaintainParts.
func (s *system) maintain(ctx context.Context) {
	every := time.NewTicker(5 * time.Minute)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-every.C:
			for _, m := range s.mounts {
				store := m.Store.(*postgres.Store)
				if err := errors.Join(store.Maintain(ctx, now), store.MaintainParts(ctx, now, s.parts)); err != nil && ctx.Err() == nil {
					s.p.log.Warn("maintenance failed; it is tried again", "log", m.Store.Log(), "error", err)
				}
			}
		}
	}
}

func (s *system) serve(contexts []boundedContext) error {
	gw, err := gateway.New(gateway.Config{
		Title: "The shop on Courante", Version: version().Version,
		Metrics: s.tel.Metrics(), Logger: s.p.log, Tracer: s.tel.Tracer, Meter: s.tel.Meter,
		Ready: []gateway.Check{
			{Name: "database", Check: func(ctx context.Context) error { return s.db.Pool().Ping(ctx) }},
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
	sagaRoutes(gw.API(), s.saga, s.mounts)
	s.http = gw.Server(s.listener.Addr().String())
	go func() { s.served <- s.http.Serve(gateway.Problems(s.listener)) }()
	return nil
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

func (s *system) ready() ready {
	return ready{Ready: true, URL: s.url(), Data: s.dir, Version: version().Version, PID: os.Getpid()}
}
