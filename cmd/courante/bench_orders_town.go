package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/internal/telemetry"
	"github.com/courante-dev/courante/postgres"
	"github.com/courante-dev/courante/shop/inventory"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/outside"
)

// town is the shop as "up" runs it, and all that it deals with: its customers,
// the payment provider, the carrier, and who gets its spans.
type town struct {
	db        *ordersDatabase
	store     *postgres.Database
	mounts    []courante.Mount
	ordering  *ordering.Context
	inventory *inventory.Context
	customers *customers
	wires     *wires // nil: services read the logs
	books     *books // nil if the parties outside keep theirs in PostgreSQL
	spans     *spanSink
	tel       *telemetry.Telemetry
	tracer    trace.TracerProvider
	stop      func()
	failed    chan error
	closers   []func()
}

func (c *benchOrdersCommand) openTown(ctx context.Context, d *ordersDatabase) (_ *town, err error) {
	t := &town{db: d, customers: newCustomers(), tracer: noop.NewTracerProvider(), stop: func() {}, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			t.close(ctx)
		}
	}()
	if t.store, err = postgres.Open(ctx, postgres.Config{URL: d.url, Logger: d.p.Log, IdleInTransaction: -1}); err != nil {
		return nil, err
	}
	t.closers = append(t.closers, t.store.Close)
	contexts, err := t.openContexts(ctx, c.Outside)
	if err != nil {
		return nil, err
	}
	for _, each := range contexts {
		store, err := t.store.Store(ctx, each.Service().Name())
		if err != nil {
			return nil, err
		}
		t.mounts = append(t.mounts, courante.Mount{Service: each.Service(), Store: store})
	}
	if err := t.history(ctx, c.History); err != nil {
		return nil, err
	}
	if err := t.startTelemetry(ctx, c.Traces); err != nil {
		return nil, err
	}
	if c.Over == "rabbitmq" {
		if err := t.openWires(ctx); err != nil {
			return nil, err
		}
	}
	if err := t.run(ctx, c.Lanes); err != nil {
		return nil, err
	}
	if err := t.stock(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// openContexts makes the shop, with parties outside that keep books.
func (t *town) openContexts(ctx context.Context, books string) ([]app.Context, error) {
	d := deadlines{PaymentDeadline: 10 * time.Second, CarrierDeadline: 10 * time.Second, OrderDeadline: time.Minute}
	out := outsiders{mailer: t.customers}
	if books == "postgres" {
		ledger, err := outside.OpenLedger(ctx, t.db.url)
		if err != nil {
			return nil, err
		}
		t.closers = append(t.closers, ledger.Close)
		out.provider, out.carrier = outside.NewProvider(ledger, outside.Config{}), outside.NewCarrier(ledger, outside.Config{})
	} else {
		t.books = newBooks()
		out.provider, out.carrier = provider{t.books}, carrier{t.books}
	}
	contexts := newShop(d, out)
	for _, each := range contexts {
		switch each := each.(type) {
		case *ordering.Context:
			t.ordering = each
		case *inventory.Context:
			t.inventory = each
		}
	}
	return contexts, nil
}

// run starts the runtime and returns when it takes commands.
func (t *town) run(ctx context.Context, lanes int) error {
	config := courante.Config{
		Database: t.store, Services: t.mounts, Lanes: lanes,
		Logger: t.db.p.Log, Tracer: t.tracer, Meter: t.tel.Meter,
	}
	if t.wires != nil {
		config.Broker = t.wires
	}
	rt, err := courante.NewRuntime(config)
	if err != nil {
		return err
	}
	if err := rt.Prepare(ctx); err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() {
		if err := rt.Run(running); err != nil {
			t.failed <- err
		}
	})
	t.stop = func() {
		cancel()
		done.Wait()
	}
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for rt.CheckTicker() != nil {
		select {
		case err := <-t.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
	return nil
}

// stock receives so much of each SKU that no order is short of it.
func (t *town) stock(ctx context.Context) error {
	errs := make([]error, stockers)
	var wg sync.WaitGroup
	for i := range stockers {
		wg.Go(func() {
			for sku := i; sku < skus && errs[i] == nil; sku += stockers {
				_, errs[i] = t.inventory.Receive(ctx, "", skuName(sku), stockOfEach)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("receive the stock: %w", err)
	}
	return nil
}

const (
	skus        = 4_000
	stockers    = 100 // receipts at once
	stockOfEach = 1_000_000_000
)

func skuName(n int) string { return fmt.Sprintf("SKU-%04d", n) }

// openForeign opens a transaction of somebody else's, which has written, and
// holds back the horizon of the whole server, until end.
func (t *town) openForeign(ctx context.Context) (end func(), err error) {
	tx, err := t.db.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, "set local idle_in_transaction_session_timeout = 0; create table foreign_transaction (n int); insert into foreign_transaction values (1)"); err != nil {
		return nil, errors.Join(err, tx.Rollback(ctx))
	}
	return func() {
		if err := tx.Rollback(context.WithoutCancel(ctx)); err != nil {
			t.db.p.Log.Warn("the foreign transaction did not end cleanly", "error", err)
		}
	}, nil
}

// stopRunning stops the services, so that all they have done is written.
func (t *town) stopRunning() {
	t.stop()
	t.stop = func() {}
}

func (t *town) close(ctx context.Context) {
	t.stopRunning()
	if t.tel != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := t.tel.Shutdown(ctx); err != nil {
			t.db.p.Log.Warn("telemetry", "error", err)
		}
	}
	for i := len(t.closers) - 1; i >= 0; i-- {
		t.closers[i]()
	}
	t.closers = nil
}
