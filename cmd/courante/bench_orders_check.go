package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/internal/audit"
	"github.com/courante-dev/courante/shop"
)

// check looks at every order: that it ended as its card says, and that all adds
// up. The services are stopped, so that nothing is under way.
func (t *town) check(ctx context.Context, r *ordersResult) error {
	t.stopRunning()
	if t.books != nil {
		if err := t.books.write(ctx, t.db); err != nil {
			return err
		}
	}
	var err error
	if r.Checks, err = t.checkEnds(ctx, r); err != nil || r.Checks != "ok" {
		return err
	}
	r.Checks, err = t.audit(ctx)
	return err
}

// checkEnds looks in ordering's log how each order ended, and how long it took.
func (t *town) checkEnds(ctx context.Context, r *ordersResult) (string, error) {
	rows, err := t.db.pool.Query(ctx, "select split_part(stream, ':', 2), type, at from ordering.event where type = any($1) and stream like 'order:%' order by stream, version",
		[]string{shop.OrderCreated{}.EventType(), shop.OrderConfirmed{}.EventType(), shop.OrderCancelled{}.EventType()})
	if err != nil {
		return "", err
	}
	placed := t.customers.placed.Load()
	ended := make([]bool, placed+1)
	problem := ""
	var journeys []time.Duration
	var id, typ string
	var at, created time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &typ, &at}, func() error {
		n := orderNumber(id)
		switch {
		case n < 1 || n > placed:
			problem = fmt.Sprintf("nobody placed order %s", id)
			return nil
		case typ == (shop.OrderCreated{}).EventType():
			created = at
			return nil
		case (typ == shop.OrderCancelled{}.EventType()) != declined(n):
			problem = fmt.Sprintf("order %s ended with %s, and its card is declined: %t", id, typ, declined(n))
		case ended[n]:
			problem = fmt.Sprintf("order %s ended twice", id)
		}
		ended[n] = true
		if declined(n) {
			r.Cancelled++
		} else {
			r.Confirmed++
			journeys = append(journeys, at.Sub(created))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	r.Orders = int(placed)
	if missing := slices.Index(ended[1:], false); missing >= 0 && problem == "" {
		problem = fmt.Sprintf("order %s has not ended", orderID(int64(missing)+1))
	}
	slices.Sort(journeys)
	r.P50, r.P95, r.P99 = percentile(journeys, .50), percentile(journeys, .95), percentile(journeys, .99)
	if problem != "" {
		return problem, nil
	}
	return "ok", nil
}

// audit looks as "verify" does.
func (t *town) audit(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, t.db.url)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	cfg := audit.Config{Stopped: true, Except: []string{pastCategory}}
	for _, s := range declaredShop() {
		cfg.Manifests = append(cfg.Manifests, s.Manifest())
	}
	var report *audit.Report
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		report, err = audit.Run(ctx, tx, cfg)
		return err
	})
	if err != nil {
		return "", err
	}
	for _, c := range report.Checks {
		for _, f := range c.Findings {
			return fmt.Sprintf("%s: %s: %s (%d wrong, %d stuck in all)", c.Name, f.Row, f.Detail, report.Wrong, report.Stuck), nil
		}
	}
	if at := report.Orders.Confirmed + report.Orders.Cancelled; at != int(t.customers.placed.Load()) {
		return fmt.Sprintf("%s orders were placed and %s have ended", app.Thousands(t.customers.placed.Load()), app.Thousands(at)), nil
	}
	return "ok", nil
}

func printOrders(p *app.Program, r ordersResult) error {
	if p.Globals.JSON {
		if err := p.PrintJSON(r); err != nil {
			return err
		}
	} else {
		tabulate(p, r)
	}
	if r.Checks != "ok" {
		return app.ErrReported
	}
	return nil
}

func tabulate(p *app.Program, r ordersResult) {
	t := app.NewTable("bench orders", "")
	t.Row("orders/s", fmt.Sprintf("%s, %s in %.0f s", app.Thousands(int(r.OrdersPerS)), app.Thousands(r.N), r.Seconds))
	if r.FirstMinute > 0 {
		t.Row("over time", fmt.Sprintf("first minute %s orders/s, last minute %s", app.Thousands(int(r.FirstMinute)), app.Thousands(int(r.LastMinute))))
	}
	cpu := fmt.Sprintf("%.3f s per 1,000 orders: program %.3f, PostgreSQL %.3f", r.CPUPer1000, r.ProgramPer1000, r.ServerPer1000)
	if r.Over == "rabbitmq" {
		cpu += fmt.Sprintf(", RabbitMQ %.3f", r.BrokerPer1000)
	}
	t.Row("CPU", cpu)
	if r.LimitPerS > 0 {
		t.Row("bare SQL", fmt.Sprintf("%s orders/s, %.3f CPU s per 1,000", app.Thousands(int(r.LimitPerS)), r.LimitCPUPer1000))
	}
	t.Row("created to confirmed", fmt.Sprintf("p50 %.0f ms, p95 %.0f ms, p99 %.0f ms", r.P50, r.P95, r.P99))
	t.Row("placed to mail", fmt.Sprintf("p50 %.0f ms, p99 %.0f ms", r.MailP50, r.MailP99))
	each := fmt.Sprintf("%.2f commits, %.1f kB of WAL, %.1f spans", r.Commits, r.WALkB, r.Spans)
	if r.Statements > 0 {
		each += fmt.Sprintf(", %.2f statements", r.Statements)
	}
	t.Row("an order", each)
	if r.Over == "rabbitmq" {
		t.Row("over RabbitMQ", fmt.Sprintf("%.1f messages to %.1f queues, %.1f kB to it and from it", r.Messages, r.Deliveries, r.BrokerKB))
	}
	sizes := ""
	for i, name := range r.services() {
		if i > 0 {
			sizes += ", "
		}
		sizes += fmt.Sprintf("%s %.0f", name, r.Batches[name])
	}
	t.Row("decisions a transaction", sizes)
	t.Row("memory", fmt.Sprintf("%.0f MB", r.RSSMB))
	t.Row("checks", fmt.Sprintf("%s: %s orders, %s confirmed, %s cancelled", r.Checks, app.Thousands(r.Orders), app.Thousands(r.Confirmed), app.Thousands(r.Cancelled)))
	t.Write(p.Stdout)
}
