package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

type subscriberAddCommand struct {
	Subscriber string   `arg:"" help:"Service that shall subscribe, such as analytics."`
	From       string   `required:"" placeholder:"PLACE" help:"Where to begin: start, now, or a time, such as 2026-03-01T00:00:00Z or 36h (ago)."`
	Log        []string `placeholder:"LOG" help:"Log to subscribe to, such as {log}; by default all that the service reacts to."`
	New        bool     `help:"The service is not in this program yet; make room for it."`
	operator
}

// Help teaches by example.
func (subscriberAddCommand) Help() string {
	return `Without this, a service that runs for the first time begins at the start of the logs and handles all that ever happened. Add it first where that is not wanted. The place is fixed until the service runs; what it has done then is its own progress.

A time means the log as it was at that moment: what was recorded later is handled.

Examples:

  courante subscriber add analytics --new --from start
  courante subscriber add notification --from now          # after it was retired
  courante subscriber add search --new --log {log} --from 720h`
}

// subscribed is an act on a subscription as --json prints it.
type subscribed struct {
	Subscriber string `json:"subscriber"`
	Log        string `json:"log"`
	From       string `json:"from,omitempty"`
	Retired    bool   `json:"retired,omitempty"`
	Discarded  int    `json:"discarded,omitempty"`
	By         string `json:"by"`
}

// Run records where the service begins on each log.
func (c *subscriberAddCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	logs, err := c.logs(ctx, v)
	if err != nil {
		return err
	}
	subscriber, err := v.db.Store(ctx, c.Subscriber)
	if err != nil {
		return err
	}
	// All that can be refused is refused before anything is written.
	places := map[string]courante.Cursor{}
	for _, log := range logs {
		source, err := v.log(log)
		if err != nil {
			return err
		}
		if err := c.checkAbsent(ctx, subscriber, source); err != nil {
			return err
		}
		if places[log], err = placeOf(ctx, source, c.From); err != nil {
			return err
		}
	}
	for _, log := range logs {
		done := subscribed{Subscriber: c.Subscriber, Log: log, From: places[log].String(), By: whoami()}
		op := c.operation("subscriber add", c.Subscriber)
		op.Detail = map[string]string{"log": log, "from": c.From, "cursor": done.From}
		err := record(ctx, v.db, op, func() error {
			return courante.AddSubscriber(ctx, subscriber, log, places[log], done.By)
		})
		if err != nil {
			return err
		}
		if p.Globals.JSON {
			err = p.PrintJSON(done)
		} else {
			_, err = fmt.Fprintf(p.Stdout, "%s begins on log %s at %s, once it runs.\n", c.Subscriber, log, done.From)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// logs are those to subscribe to.
func (c *subscriberAddCommand) logs(ctx context.Context, v *visitor) ([]string, error) {
	sources, declared := v.sources()[c.Subscriber]
	if !declared && !c.New {
		registered, err := v.db.Logs(ctx)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(registered, c.Subscriber) {
			return nil, UsageError{fmt.Errorf("there is no service %q in this program; there are: %s.\nIf it is one that will come, add --new", c.Subscriber, strings.Join(names(v.names()), ", "))}
		}
	}
	switch {
	case len(c.Log) > 0:
		return c.Log, nil
	case len(sources) == 0:
		return nil, UsageError{fmt.Errorf("say which logs with --log: this program does not know what %s reacts to", c.Subscriber)}
	}
	return sources, nil
}

func (c *subscriberAddCommand) checkAbsent(ctx context.Context, subscriber, source *postgres.Store) error {
	epochs, err := subscriber.LaneEpochs(ctx, subscriber.Log(), source.Log())
	if err != nil || len(epochs) == 0 || epochs[len(epochs)-1].Retired {
		return err
	}
	places, err := lanePlaces(ctx, subscriber, source)
	if err != nil {
		return err
	}
	var at []string
	for _, l := range places {
		where := fmt.Sprintf("lane %d at %s, %s pending", l.Lane+1, l.Cursor, l.pending())
		if l.State == laneAdded {
			where = fmt.Sprintf("added to begin at %s, and it has not run yet", l.Cursor)
		}
		at = append(at, where)
	}
	return fmt.Errorf("%s subscribes to log %s already: %s.\nTo begin anew, retire it first: courante subscriber retire %s --log %s",
		c.Subscriber, source.Log(), strings.Join(at, "; "), c.Subscriber, source.Log())
}

// placeOf is the place in the log that a person named.
func placeOf(ctx context.Context, source *postgres.Store, from string) (courante.Cursor, error) {
	switch from {
	case "start":
		return source.Start(ctx)
	case "now":
		return source.Head(ctx)
	}
	t, err := parseMoment(from, time.Now())
	if err != nil {
		return courante.Cursor{}, UsageError{err}
	}
	return source.At(ctx, t)
}

// parseMoment reads a time, or how long ago it is.
func parseMoment(text string, now time.Time) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err == nil && t.After(now) {
		return t, fmt.Errorf("%s has not come yet; use now", text)
	}
	if err == nil {
		return t, nil
	}
	ago, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if n, err = strconv.Atoi(days); err == nil {
			ago = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || ago < 0 {
		return now, fmt.Errorf("%q is no place to begin: say start, now, a time such as %s, or how long ago, such as 36h or 30d", text, now.UTC().Format(time.RFC3339))
	}
	return now.Add(-ago), nil
}

type subscriberRetireCommand struct {
	Subscriber string   `arg:"" help:"Service that shall not subscribe any more, such as analytics."`
	Log        []string `placeholder:"LOG" help:"Only from this log; by default from all."`
	Discard    bool     `help:"Discard its messages that are set aside. Nobody will handle them."`
	operator
}

// Help teaches by example.
func (subscriberRetireCommand) Help() string {
	return `Its lanes stop wherever they run, what they have not handled they never will, and no part of a log is kept for them. Commands, deadlines and effects of the service go on. A program that still has the service says in /readyz that it was retired.

Examples:

  courante subscriber retire analytics
  courante subscriber retire {subscriber} --log {log} --discard`
}

// Run retires the service from each log.
func (c *subscriberRetireCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	subscriber, err := v.anyLog(ctx, c.Subscriber)
	if err != nil {
		return err
	}
	logs := c.Log
	if len(logs) == 0 {
		if logs, err = v.subscriptions(ctx, subscriber); err != nil {
			return err
		}
	}
	if len(logs) == 0 {
		return UsageError{fmt.Errorf("%s subscribes to nothing; see: courante subscriber list", c.Subscriber)}
	}
	for _, log := range logs {
		if err := c.retire(ctx, p, v, subscriber, log); err != nil {
			return err
		}
	}
	return nil
}

func (c *subscriberRetireCommand) retire(ctx context.Context, p *Program, v *visitor, subscriber *postgres.Store, log string) error {
	source, err := v.anyLog(ctx, log)
	if err != nil {
		return err
	}
	end, err := source.Head(ctx)
	if err != nil {
		return err
	}
	done := subscribed{Subscriber: c.Subscriber, Log: log, Retired: true, By: whoami()}
	op := c.operation("subscriber retire", c.Subscriber)
	op.Detail = map[string]any{"log": log, "discard": c.Discard}
	var discarded []courante.Parked
	err = record(ctx, v.db, op, func() (err error) {
		discarded, err = courante.RetireSubscriber(ctx, subscriber, log, end, done.By, c.Discard)
		return err
	})
	var parked *courante.ParkedError
	switch {
	case errors.As(err, &parked):
		printParked(p, parked.Messages)
		return fmt.Errorf("%w, of %s on log %s: nobody would ever handle them.\nRequeue or discard them first (courante deadletter list --messages), or retire it all the same: courante subscriber retire %s --log %s --discard", parked, c.Subscriber, log, c.Subscriber, log)
	case errors.Is(err, courante.ErrNotFound):
		return UsageError{fmt.Errorf("%s does not subscribe to %s; see: courante subscriber list", c.Subscriber, log)}
	case err != nil:
		return err
	}
	if done.Discarded = len(discarded); p.Globals.JSON {
		return p.PrintJSON(done)
	}
	if len(discarded) > 0 {
		printParked(p, discarded)
		fmt.Fprintln(p.Stdout, "These messages were discarded.")
	}
	_, err = fmt.Fprintf(p.Stdout, "%s is retired from log %s. To have it begin again: courante subscriber add %s --log %s --from now\n", c.Subscriber, log, c.Subscriber, log)
	return err
}

func printParked(p *Program, list []courante.Parked) {
	if p.Globals.JSON {
		return
	}
	t := NewTable("ID", "KEY", "EVENT", "REACTION", "TRIED", "CAUSE")
	for _, m := range list {
		cause, _, _ := strings.Cut(m.Cause, "\n")
		if cause == "" {
			cause = "waits behind another of its key"
		}
		t.Row(fmt.Sprint(m.ID), m.Key, m.Event.ID(), m.Reaction, fmt.Sprint(m.Attempts), cause)
	}
	t.Write(p.Stdout)
}

// whoami is who decides, for the record.
func whoami() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
