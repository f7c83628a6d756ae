package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/internal/audit"
	"github.com/courante-dev/courante/shop"

	"github.com/courante-dev/courante/app"
)

type verifyCommand struct {
	AllowStuck bool `help:"Exit 0 although something is stuck, as long as nothing is wrong."`
}

// Help teaches by example.
func (verifyCommand) Help() string {
	return `Compares the logs, lanes, stored states, read models and mails with each other and with the books of the payment provider and the carrier, by their rows and not by the code that wrote them. Names every row that is off.

It reads one snapshot, so it may run while orders are under way; a system that is stopped is started without its services and stopped again. It changes nothing.

Exits 1 if something is wrong, or is stuck: a message is parked, an outside party does not answer, a lane is behind.

Examples:

  courante verify
  courante verify --data /var/lib/courante
  courante verify --json | jq '.checks[] | select(.wrong > 0)'
  courante verify --allow-stuck                                  # the outside is down, and that is known`
}

// Run looks, prints what it found, and fails if something is off.
func (c *verifyCommand) Run(ctx context.Context, p *app.Program) error {
	report, err := verify(ctx, p)
	if err != nil {
		return err
	}
	if p.Globals.JSON {
		err = p.PrintJSON(report)
	} else {
		printAudit(p, report)
	}
	if err == nil && (!report.OK || report.Stuck > 0 && !c.AllowStuck) {
		return app.ErrReported
	}
	return err
}

// verify looks at the system that the flags name.
func verify(ctx context.Context, p *app.Program) (*audit.Report, error) {
	target, err := findVerified(ctx, p)
	if err != nil {
		return nil, err
	}
	defer target.close()
	cfg := audit.Config{Stopped: target.stopped, Progress: func(orders int) { verifying(p, orders) }}
	for _, s := range declaredShop() {
		cfg.Manifests = append(cfg.Manifests, s.Manifest())
	}
	if p.Globals.PostgresURL == "" {
		cfg.Mails = filepath.Join(p.Globals.Data, "mail")
	}
	var report *audit.Report
	err = pgx.BeginTxFunc(ctx, target.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var err error
		report, err = audit.Run(ctx, tx, cfg)
		return err
	})
	return report, err
}

// verified is a system to look at.
type verified struct {
	conn    *pgx.Conn
	stopped bool // nothing of it runs but its database, which we have started
	close   func()
}

// findVerified connects to the running system, or starts the database of one
// that is stopped.
func findVerified(ctx context.Context, p *app.Program) (*verified, error) {
	url, err := p.Globals.FindDatabase()
	if err == nil {
		conn, connectErr := pgx.Connect(ctx, url)
		if connectErr == nil {
			return &verified{conn: conn, close: func() { conn.Close(context.WithoutCancel(ctx)) }}, nil
		}
		if p.Globals.PostgresURL != "" {
			return nil, fmt.Errorf("connect to the database of COURANTE_POSTGRES_URL: %w", connectErr)
		}
		// It was killed, and left behind how to connect to it.
	}
	dir, err := filepath.Abs(p.Globals.Data)
	if err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "postgres")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no system in %s.\nName its folder with --data or COURANTE_DATA, or its database with COURANTE_POSTGRES_URL", p.Globals.Data)
	}
	p.Step("it is stopped: starting its PostgreSQL")
	url, stop, err := p.StartServer(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		stop()
		return nil, fmt.Errorf("connect to the database of the shop: %w", err)
	}
	return &verified{conn: conn, stopped: true, close: func() {
		conn.Close(context.WithoutCancel(ctx))
		stop()
	}}, nil
}

// verifying tells a person how far the look is, on one line.
func verifying(p *app.Program, orders int) {
	if !p.Globals.JSON && app.IsTerminal(p.Stderr) {
		fmt.Fprintf(p.Stderr, "\r  %s orders", app.Thousands(orders))
	}
}

// mostShown is how many findings of a check people get to see.
const mostShown = 10

func printAudit(p *app.Program, r *audit.Report) {
	if app.IsTerminal(p.Stderr) {
		fmt.Fprint(p.Stderr, "\r\033[K")
	}
	t := app.NewTable("CHECK", "LOOKED AT", "VERDICT", "")
	for _, c := range r.Checks {
		t.Row(c.Name, app.Thousands(c.LookedAt), verdict(c), c.What)
	}
	t.Write(p.Stdout)
	for _, c := range r.Checks {
		if len(c.Findings) > 0 {
			fmt.Fprintf(p.Stdout, "\n%s\n", c.Name)
		}
		for i, f := range c.Findings {
			if i == mostShown {
				fmt.Fprintf(p.Stdout, "  ... and %s more; see them with --json\n", app.Thousands(c.Wrong+c.Stuck-mostShown))
				break
			}
			kind := "wrong"
			if f.Stuck {
				kind = "stuck"
			}
			fmt.Fprintf(p.Stdout, "  %s  %s: %s\n", kind, f.Row, f.Detail)
		}
	}
	fmt.Fprintf(p.Stdout, "\n%s\n", ordersLine(r.Orders))
	for _, m := range r.Money {
		fmt.Fprintf(p.Stdout, "%s: taken %s = given back %s + shipped %s + under way %s\n", m.Currency,
			major(m.Taken, m.Currency), major(m.GivenBack, m.Currency), major(m.Shipped, m.Currency), major(m.UnderWay, m.Currency))
	}
	end := "Everything adds up"
	if r.Wrong+r.Stuck > 0 {
		end = fmt.Sprintf("WRONG: %s, stuck: %s", app.Thousands(r.Wrong), app.Thousands(r.Stuck))
	}
	fmt.Fprintf(p.Stdout, "\n%s; as of %s, looked at in %s\n", end, r.AsOf.Local().Format(time.DateTime), app.Short(time.Duration(r.Seconds*float64(time.Second))))
}

// ordersLine counts the orders by where they stand.
func ordersLine(o audit.Orders) string {
	line := app.Thousands(o.Total()) + " orders:"
	for i, part := range []struct {
		n    int
		what string
	}{
		{o.Confirmed, "confirmed"}, {o.Returned, "returned"}, {o.Cancelled, "cancelled"},
		{o.UnderWay, "under way"}, {o.Stuck, "stuck"}, {o.Wrong, "wrong"},
	} {
		if i > 0 {
			line += ","
		}
		line += " " + app.Thousands(part.n) + " " + part.what
	}
	return line
}

// major writes an amount in major units, for people.
func major(minor *big.Int, currency string) string {
	if !minor.IsInt64() {
		return minor.String() + " minor units"
	}
	text, _, _ := strings.Cut(shop.Money{Amount: minor.Int64(), Currency: currency}.String(), " ")
	return text
}

func verdict(c *audit.Check) string {
	switch {
	case c.Skipped != "":
		return "skipped: " + c.Skipped
	case c.Wrong > 0 && c.Stuck > 0:
		return fmt.Sprintf("%s WRONG, %s stuck", app.Thousands(c.Wrong), app.Thousands(c.Stuck))
	case c.Wrong > 0:
		return app.Thousands(c.Wrong) + " WRONG"
	case c.Stuck > 0:
		return app.Thousands(c.Stuck) + " stuck"
	}
	return "ok"
}
