package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/cmd/courante/internal/replay"
	"github.com/courante-dev/courante/internal/audit"
	"github.com/courante-dev/courante/internal/link"
)

type drillCommand struct {
	Names     []string      `arg:"" optional:"" name:"name" help:"Drills to hold, by default all."`
	List      bool          `help:"Say which drills there are, and do nothing."`
	Orders    int           `default:"300" placeholder:"N" help:"Orders of each drill, by default ${default}."`
	Rate      perSecond     `default:"40/s" placeholder:"N/s" help:"At most so many orders a second, by default ${default}."`
	Instances int           `default:"2" placeholder:"N" help:"Processes of each service, by default ${default}."`
	Patience  time.Duration `default:"2m" placeholder:"DURATION" help:"How long an order may stand still, by default ${default}."`
}

// Help teaches by example.
func (drillCommand) Help() string {
	return `Starts a fleet of its own in a new folder: every service as processes, PostgreSQL, RabbitMQ and Redis. Then, for each drill: a day of orders is replayed, with cancellations, returns, cards that are declined and carriers that fail; in the middle of it something is broken; every order has to end; and verify looks whether everything adds up.

BEFORE says how long somebody waited for the confirmation of an order that was placed when nothing was broken yet, and RECOVERED how long for one that was placed at the moment when it broke.

The folder goes when all went well, and stays to be looked at when not.

Examples:

  courante drill
  courante drill --list
  courante drill kill-payment pause --orders 5000
  courante drill --json | jq 'select(.ok | not)'`
}

// drilled is what a drill showed.
type drilled struct {
	Drill     string         `json:"drill"`
	Broken    string         `json:"broken"`
	OK        bool           `json:"ok"`
	Before    float64        `json:"before_s"`    // an order placed when nothing was broken was confirmed after so long
	Recovered float64        `json:"recovered_s"` // an order placed when it broke was confirmed after so long
	Orders    map[string]int `json:"orders"`      // by how they ended
	Repeated  int64          `json:"repeated_requests"`
	Seconds   float64        `json:"seconds"`
	Verify    string         `json:"verify"`
	Problem   string         `json:"problem,omitempty"`
}

func (r drilled) failed() bool { return !r.OK }

// Run holds the drills and fails if one of them did.
func (c *drillCommand) Run(ctx context.Context, p *app.Program) error {
	chosen, err := c.chosen()
	if err != nil {
		return err
	}
	if c.List {
		t := app.NewTable("DRILL", "WHAT IS BROKEN")
		for _, d := range chosen {
			t.Row(d.name, d.broken)
		}
		t.Write(p.Stdout)
		return nil
	}
	slices.SortStableFunc(chosen, func(a, b drill) int { return a.brokers - b.brokers }) // a fleet for each number
	var all []drilled
	for len(chosen) > 0 {
		n := slices.IndexFunc(chosen, func(d drill) bool { return d.brokers != chosen[0].brokers })
		if n < 0 {
			n = len(chosen)
		}
		held, err := c.holdOnFleet(ctx, p, chosen[:n])
		if all = append(all, held...); err != nil {
			return err
		}
		chosen = chosen[n:]
	}
	if !p.Globals.JSON {
		printDrills(p, all)
	}
	if slices.ContainsFunc(all, drilled.failed) {
		return app.ErrReported
	}
	return nil
}

// holdOnFleet holds drills that want the same of a fleet, on one of their own.
func (c *drillCommand) holdOnFleet(ctx context.Context, p *app.Program, drills []drill) (all []drilled, err error) {
	dir, err := os.MkdirTemp("", "courante-drill-")
	if err != nil {
		return nil, err
	}
	// RabbitMQ may run as somebody else, who has to get to its folder.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // as said; the database's own folder is closed
		return nil, err
	}
	globals := *p.Globals
	globals.Data, globals.PostgresURL = dir, ""
	own := *p
	own.Globals = &globals
	own.Log = slog.New(slog.DiscardHandler) // that things break is what was asked for
	fleet := &drilledFleet{links: map[string]*link.Link{}}
	fleet.Fleet, err = own.StartFleet(ctx, app.FleetConfig{
		Listen: "127.0.0.1:0", Instances: c.Instances, Brokers: drills[0].brokers, Logs: dir, Between: fleet.between,
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		fleet.Stop()
		for _, l := range fleet.links {
			l.Close()
		}
		if err != nil || slices.ContainsFunc(all, drilled.failed) {
			p.Println("What it left is in " + dir)
		} else {
			err = os.RemoveAll(dir)
		}
	}()
	for i, d := range drills {
		p.Step("%s: %s", d.name, d.broken)
		r := c.hold(ctx, &own, fleet, i, d)
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		all = append(all, r)
		if p.Globals.JSON {
			if err := p.PrintJSON(r); err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

func (c *drillCommand) chosen() ([]drill, error) {
	if c.Orders < 10 || c.Orders > 99_999 || c.Instances < 1 || c.Instances > 16 {
		return nil, app.UsageError{Err: errors.New("want 10 to 99999 --orders, and 1 to 16 --instances")}
	}
	all := drills()
	if len(c.Names) == 0 {
		return all, nil
	}
	var chosen []drill
	for _, name := range c.Names {
		i := slices.IndexFunc(all, func(d drill) bool { return d.name == name })
		if i < 0 {
			return nil, app.UsageError{Err: fmt.Errorf("there is no drill %q; courante drill --list has their names", name)}
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// hold replays a day, breaks something in the middle, and looks at what is left.
func (c *drillCommand) hold(ctx context.Context, p *app.Program, fleet *drilledFleet, n int, d drill) drilled {
	began := time.Now()
	r := drilled{Drill: d.name, Broken: d.broken}
	prefix := fmt.Sprintf("d%02d", n)
	day := filepath.Join(p.Globals.Data, prefix+".ndjson")
	if err := writeDay(day, prefix, rand.New(rand.NewPCG(uint64(n), 0)), c.Orders); err != nil { //nolint:gosec // every run has the same orders
		r.Problem = err.Error()
		return r
	}
	orders, cancel := context.WithCancel(ctx)
	defer cancel()
	flowing, middle := make(chan struct{}), make(chan struct{})
	screen := p.Screen()
	show := replayProgress(screen)
	config := replay.Config{
		File: day, URL: fleet.URL(), Rate: float64(c.Rate), Concurrency: 64, Patience: c.Patience,
		Progress: func(at replay.Progress) {
			for begun, part := range map[chan struct{}]int{flowing: 10, middle: 2} {
				if at.Orders >= int64(c.Orders/part) && !isClosed(begun) {
					close(begun)
				}
			}
			show(at)
		},
	}
	type replayed struct {
		report *replay.Report
		err    error
	}
	done := make(chan replayed, 1)
	go func() {
		report, err := replay.Run(orders, config)
		done <- replayed{report, err}
	}()
	before := await(orders, flowing, &r.Before, func() error { return canary(orders, c.Patience, fleet.URL(), prefix+"-before") })
	after := await(orders, middle, &r.Recovered, func() error { return canary(orders, c.Patience, fleet.URL(), prefix+"-canary") })
	var problems []error
	var end replayed
	select {
	case end = <-done: // it was too short, or failed
		problems = append(problems, errors.New("the replay ended before anything was broken"))
		cancel()
		_, _ = <-before, <-after // of what was just called off
	case <-middle:
		problems = append(problems, d.run(ctx, fleet), <-before, <-after)
		end = <-done
	}
	screen.End()
	problems = append(problems, end.err)
	if end.report != nil {
		r.Orders, r.Repeated = end.report.Orders.ByStatus, end.report.Repeated
		if end.report.Checks != "ok" {
			problems = append(problems, errors.New(end.report.Checks))
		}
	}
	found, err := addsUp(ctx, p)
	problems = append(problems, err)
	r.Verify = "not looked"
	if found != nil {
		r.Verify = "clean"
		if !found.OK || found.Stuck > 0 {
			r.Verify = fmt.Sprintf("WRONG: %d, stuck: %d", found.Wrong, found.Stuck)
			for _, check := range found.Checks {
				for _, f := range check.Findings[:min(3, len(check.Findings))] {
					problems = append(problems, fmt.Errorf("%s: %s: %s", check.Name, f.Row, f.Detail))
				}
			}
		}
	}
	r.Seconds = time.Since(began).Seconds()
	if err := errors.Join(problems...); err != nil {
		r.Problem = err.Error()
	}
	r.OK = r.Problem == "" && r.Verify == "clean"
	return r
}

// await does something when it is time, and says how long that took.
func await(ctx context.Context, when <-chan struct{}, took *float64, do func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		select {
		case <-when:
		case <-ctx.Done():
			done <- ctx.Err()
			return
		}
		began := time.Now()
		err := do()
		*took = time.Since(began).Seconds()
		done <- err
	}()
	return done
}

// addsUp looks whether everything adds up, when what goes on after the end of
// an order, such as mails, has had time.
func addsUp(ctx context.Context, p *app.Program) (report *audit.Report, err error) {
	for range 60 {
		report, err = verify(ctx, p)
		if err == nil && report.OK && report.Stuck == 0 && report.Orders.UnderWay == 0 {
			return report, nil
		}
		select {
		case <-ctx.Done():
			return report, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	if err == nil && report.OK && report.Stuck == 0 {
		err = fmt.Errorf("%d orders are still under way", report.Orders.UnderWay)
	}
	return report, err
}

// canary places an order and returns when it is confirmed. One that was too late
// for a deadline is cancelled, and its customer tries again.
func canary(ctx context.Context, patience time.Duration, url, id string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for try := 1; ; try++ {
		status, err := placeAndWait(ctx, url, fmt.Sprintf("%s-%d", id, try))
		if status == "confirmed" || err != nil {
			return err
		}
	}
}

// placeAndWait places an order and returns how it ended.
func placeAndWait(ctx context.Context, url, id string) (status string, err error) {
	body := fmt.Sprintf(`{"order_id": %q, "customer_id": %q, "currency": "GBP", "lines": [{"sku": "tea", "quantity": 1, "unit_price": 450}],
		"payment": {"method": "card", "token": "tok_ok"}, "ship_to": {"country": "GB"}}`, id, id)
	placed := false
	for status != "confirmed" && status != "cancelled" {
		if !placed {
			placed = call(ctx, http.MethodPost, url+"/v1/orders", body, nil) == nil
		} else {
			var order struct {
				Status string `json:"status"`
			}
			if call(ctx, http.MethodGet, url+"/v1/orders/"+id, "", &order) == nil {
				status = order.Status
			}
		}
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return status, fmt.Errorf("order %s is %q: %w", id, status, err)
		}
	}
	return status, nil
}

// call sends one request and reads the answer into a value.
func call(ctx context.Context, method, url, body string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, url, answer.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func printDrills(p *app.Program, all []drilled) {
	t := app.NewTable("DRILL", "BEFORE", "RECOVERED", "ORDERS", "TOOK", "VERIFY")
	for _, r := range all {
		t.Row(r.Drill, seconds(r.Before), seconds(r.Recovered), byStatus(r.Orders), seconds(r.Seconds), r.Verify)
	}
	t.Write(p.Stdout)
	for _, r := range all {
		if r.Problem != "" {
			fmt.Fprintf(p.Stdout, "\n%s failed:\n  %s\n", r.Drill, strings.ReplaceAll(r.Problem, "\n", "\n  "))
		}
	}
}

func seconds(s float64) string { return app.Short(time.Duration(s * float64(time.Second))) }

func byStatus(orders map[string]int) string {
	var parts []string
	for _, status := range []string{"confirmed", "returned", "cancelled"} {
		parts = append(parts, fmt.Sprintf("%d %s", orders[status], status))
	}
	return strings.Join(parts, ", ")
}
