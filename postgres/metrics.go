package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// statusPatience is how long a look at the metrics waits for the database: who
// looks has a few seconds' patience, and what memory knows must come in time.
const statusPatience = time.Second

// gauges are the numbers of [Database.Status] and of the pools.
type gauges struct {
	all []metric.Observable
	up, position, pending, parked, connections, maxConnections, size,
	poolUsed, poolMax metric.Int64Observable
	wal, poolWaits                            metric.Int64Observable
	tickAge, pendingAge, parkedAge, oldestAge metric.Float64Observable
	cpu, poolWaited                           metric.Float64Observable
}

// Observe adds to the metrics how the database and the pools stand, until stop.
// Each time they are looked at costs one [Database.Status].
func (db *Database) Observe(provider metric.MeterProvider) (stop func(), err error) {
	m := provider.Meter("github.com/courante-dev/courante/postgres")
	g, err := newGauges(m)
	if err != nil {
		return nil, err
	}
	r, err := m.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		g.observePools(db, o)
		ctx, cancel := context.WithTimeout(ctx, statusPatience)
		defer cancel()
		s, err := db.Status(ctx)
		if err != nil {
			// A database that is away is a number like any other: it must not
			// take the others with it.
			o.ObserveInt64(g.up, 0)
			return nil
		}
		g.observe(&s, o)
		return nil
	}, g.all...)
	if err != nil {
		return nil, err
	}
	return func() { _ = r.Unregister() }, nil // it fails for foreign registrations only
}

func newGauges(m metric.Meter) (*gauges, error) {
	var g gauges
	var errs []error
	add := func(o metric.Observable, err error) {
		g.all, errs = append(g.all, o), append(errs, err)
	}
	count := func(to *metric.Int64Observable, name, unit, about string) {
		i, err := m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(about))
		*to = i
		add(i, err)
	}
	sum := func(to *metric.Int64Observable, name, unit, about string) {
		i, err := m.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
		*to = i
		add(i, err)
	}
	age := func(to *metric.Float64Observable, name, about string) {
		i, err := m.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(about))
		*to = i
		add(i, err)
	}
	total := func(to *metric.Float64Observable, name, about string) {
		i, err := m.Float64ObservableCounter(name, metric.WithUnit("s"), metric.WithDescription(about))
		*to = i
		add(i, err)
	}
	count(&g.up, "courante.database.up", "", "1 if the database answers")
	count(&g.position, "courante.log.position", "{event}", "positions given out in the log: its rate is that of events")
	age(&g.tickAge, "courante.log.tick.age", "since the last tick of the log; a log without events gets none")
	count(&g.pending, "courante.subscriber.pending", "{event}", "events of the log that the subscriber has not handled")
	age(&g.pendingAge, "courante.subscriber.pending.age", "age of the oldest of them")
	count(&g.parked, "courante.parked.messages", "{message}", "messages set aside: waiting for a person, retried by themselves, or behind another")
	age(&g.parkedAge, "courante.parked.age", "since the oldest message was set aside")
	count(&g.connections, "courante.database.connections", "{connection}", "connections of all clients of the server")
	count(&g.maxConnections, "courante.database.connections.max", "{connection}", "connections that the server takes")
	count(&g.size, "courante.database.size", "By", "size of the database")
	sum(&g.wal, "courante.database.wal", "By", "write-ahead log written")
	age(&g.oldestAge, "courante.database.transaction.age", "of the open transaction that holds back vacuum most")
	total(&g.cpu, "courante.database.cpu", "CPU time of the server, if it is on this machine")
	count(&g.poolUsed, "courante.pool.used", "{connection}", "connections of the pool in use")
	count(&g.poolMax, "courante.pool.max", "{connection}", "connections that the pool may have")
	sum(&g.poolWaits, "courante.pool.waits", "{wait}", "times that somebody had to wait for a connection")
	total(&g.poolWaited, "courante.pool.waited", "time that they waited")
	return &g, errors.Join(errs...)
}

func (g *gauges) observePools(db *Database, o metric.Observer) {
	for name, pool := range map[string]*pgxpool.Pool{"units": db.units, "log": db.log.pool, "own": db.pool} {
		stat, with := pool.Stat(), metric.WithAttributes(attribute.String("pool", name))
		o.ObserveInt64(g.poolUsed, int64(stat.AcquiredConns()), with)
		o.ObserveInt64(g.poolMax, int64(stat.MaxConns()), with)
		o.ObserveInt64(g.poolWaits, stat.EmptyAcquireCount(), with)
		o.ObserveFloat64(g.poolWaited, stat.EmptyAcquireWaitTime().Seconds(), with)
	}
}

func (g *gauges) observe(s *Status, o metric.Observer) {
	o.ObserveInt64(g.up, 1)
	for _, l := range s.Logs {
		with := metric.WithAttributes(attribute.String("log", l.Log))
		o.ObserveInt64(g.position, l.Position, with)
		if !l.Ticked.IsZero() {
			o.ObserveFloat64(g.tickAge, max(0, s.At.Sub(l.Ticked).Seconds()), with)
		}
	}
	for _, sub := range s.Subscriptions {
		with := metric.WithAttributes(attribute.String("subscriber", sub.Subscriber), attribute.String("log", sub.Log))
		o.ObserveInt64(g.pending, sub.Pending, with)
		o.ObserveFloat64(g.pendingAge, sub.Age(s.At).Seconds(), with)
	}
	for _, p := range s.Parked {
		of := attribute.String("subscriber", p.Subscriber)
		for state, n := range map[string]int64{"waiting": p.Waiting, "retried": p.Retried, "behind": p.Behind} {
			o.ObserveInt64(g.parked, n, metric.WithAttributes(of, attribute.String("state", state)))
		}
		o.ObserveFloat64(g.parkedAge, max(0, s.At.Sub(p.Since).Seconds()), metric.WithAttributes(of))
	}
	o.ObserveInt64(g.connections, int64(s.Server.Connections))
	o.ObserveInt64(g.maxConnections, int64(s.Server.MaxConnections))
	o.ObserveInt64(g.size, s.Server.Size)
	o.ObserveInt64(g.wal, s.Server.WAL)
	o.ObserveFloat64(g.oldestAge, s.Server.OldestTransaction.Age.Seconds())
	if s.Server.CPU > 0 {
		o.ObserveFloat64(g.cpu, s.Server.CPU.Seconds())
	}
}

// Age is how old the oldest pending event is; 0 if there is none.
func (s *SubscriptionStatus) Age(now time.Time) time.Duration {
	if s.Oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(s.Oldest))
}
