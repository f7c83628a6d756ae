package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/courante-dev/courante/cmd/courante/internal/replay"
	"github.com/courante-dev/courante/shop"

	"github.com/courante-dev/courante/app"
)

type replayCommand struct {
	File        string        `arg:"" help:"Online Retail CSV or NDJSON, plain, .gz or .zst; - is standard input."`
	URL         string        `placeholder:"URL" help:"The running system; by default where up listens on this machine."`
	Listen      string        `hidden:"" default:"127.0.0.1:8080" env:"COURANTE_LISTEN"` // of up: where to find it without --url
	Stock       *int64        `placeholder:"N" help:"Receive N of each SKU first; 0 receives none. By default, as many as the file's orders take (CSV) or none (NDJSON)."`
	Rate        perSecond     `placeholder:"N/s" help:"At most so many invoices or records a second."`
	Speed       times         `placeholder:"Nx" help:"Keep to the file's own times, N times faster."`
	Limit       int           `placeholder:"N" help:"Only the first N invoices or records."`
	Concurrency int           `default:"16" placeholder:"N" help:"Requests at once, by default ${default}."`
	Patience    time.Duration `default:"2m" placeholder:"DURATION" help:"How long to try while the system does not answer, or an order does not move; by default ${default}."`
}

// Help teaches by example.
func (replayCommand) Help() string {
	return `Sends recorded orders, returns and stock changes through the public API, waits until every order has ended, and accounts for every line: accepted, or refused with its cause. docs/replay.md has the formats and the rules.

Every request has a key made of the file and the line. Interrupt it, kill it, kill the system: run the same command again, and nothing is done twice.

Examples:

  courante replay online_retail.csv.zst
  courante replay online_retail.csv.zst --limit 1000 --stock 50     # too little stock: some orders are cancelled
  courante replay orders.ndjson --rate 100/s --url http://shop:8080
  zcat orders.ndjson.gz | courante replay - --speed 60x --json | jq .refused

It fails if a line is unaccounted for, the file is damaged, or an order does not end.`
}

// perSecond is a rate as people write it: 100/s, or 100.
type perSecond float64

// UnmarshalText reads a rate.
func (r *perSecond) UnmarshalText(text []byte) error {
	return positive((*float64)(r), strings.TrimSuffix(string(text), "/s"), "a number a second, such as 100/s")
}

// times is a factor as people write it: 60x, or 60.
type times float64

// UnmarshalText reads a factor.
func (x *times) UnmarshalText(text []byte) error {
	return positive((*float64)(x), strings.TrimSuffix(string(text), "x"), "a factor, such as 60x")
}

func positive(to *float64, text, want string) error {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0) || n > 1e12 {
		return fmt.Errorf("want %s", want)
	}
	*to = n
	return nil
}

func (c *replayCommand) check() error {
	var problems []error
	if c.Limit < 0 {
		problems = append(problems, fmt.Errorf("--limit %d: it cannot be negative", c.Limit))
	}
	if c.Concurrency < 1 || c.Concurrency > 512 {
		problems = append(problems, fmt.Errorf("--concurrency %d: want 1 to 512", c.Concurrency))
	}
	if c.Patience <= 0 {
		problems = append(problems, fmt.Errorf("--patience %s: want more than nothing, such as 2m", c.Patience))
	}
	if c.Stock != nil && (*c.Stock < 0 || *c.Stock > shop.MaxStockChange) {
		problems = append(problems, fmt.Errorf("--stock %d: want 0 to %s", *c.Stock, app.Thousands(int64(shop.MaxStockChange))))
	}
	base, err := c.base()
	if err != nil {
		problems = append(problems, err)
	}
	c.URL = base
	if err := errors.Join(problems...); err != nil {
		return app.UsageError{Err: err}
	}
	return nil
}

// base is the address to send to, without a slash at the end.
func (c *replayCommand) base() (string, error) {
	if c.URL == "" {
		host, port, err := net.SplitHostPort(c.Listen)
		if err != nil || port == "0" {
			return "", fmt.Errorf("the port of %q is not known: say where the system is with --url http://127.0.0.1:8080", c.Listen)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1" // up listens everywhere, so also here
		}
		return "http://" + net.JoinHostPort(host, port), nil
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("--url %s: want an address such as http://127.0.0.1:8080", c.URL)
	}
	return strings.TrimRight(c.URL, "/"), nil
}

// Run replays the file and prints the report, also of a replay that was stopped.
func (c *replayCommand) Run(ctx context.Context, p *app.Program) error {
	if err := c.check(); err != nil {
		return err
	}
	screen := p.Screen()
	report, err := replay.Run(ctx, replay.Config{
		File: c.File, Stdin: os.Stdin, URL: c.URL, Stock: c.Stock,
		Rate: float64(c.Rate), Speed: float64(c.Speed), Limit: c.Limit,
		Concurrency: c.Concurrency, Patience: c.Patience, Progress: replayProgress(screen),
	})
	screen.End()
	if errors.Is(err, fs.ErrNotExist) && report == nil {
		return app.UsageError{Err: err}
	}
	if report == nil {
		return fmt.Errorf("%s: %w\nNothing was sent", c.File, err)
	}
	if printErr := printReplay(p, report); printErr != nil {
		return printErr
	}
	switch {
	case replay.Interrupted(err):
		p.Println("\nStopped. Run the same command again to go on: nothing is done twice.")
		return app.ErrReported
	case errors.As(err, new(*replay.GaveUpError)):
		return fmt.Errorf("%w\nIs the system running? Start it with \"courante up\", or say where it is with --url.\nThen run the same command again to go on: nothing is done twice", err)
	case err != nil:
		return fmt.Errorf("%w\nRun the same command again to go on: nothing is done twice", err)
	case report.Checks != "ok":
		return app.ErrReported
	}
	return nil
}
