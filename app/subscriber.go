package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

type subscriberCommand struct {
	List   subscriberListCommand   `cmd:"" help:"Show where each lane of each subscriber is, and how far behind."`
	Add    subscriberAddCommand    `cmd:"" help:"Say where a service begins, before it runs for the first time."`
	Retire subscriberRetireCommand `cmd:"" help:"End what a service receives."`
	Repair subscriberRepairCommand `cmd:"" help:"Set a subscriber on again whose log was restored beneath it."`
}

// Help teaches by example.
func (subscriberCommand) Help() string {
	return `Examples:

  courante subscriber list
  courante subscriber add analytics --new --log {log} --from now
  courante subscriber retire analytics
  courante subscriber repair {subscriber} --log {log} --dry-run
  courante subscriber repair {subscriber} --log {log} --to last-common`
}

type subscriberListCommand struct{}

// Help teaches by example.
func (subscriberListCommand) Help() string {
	return `PENDING counts events of the lane that it has not handled; LAG is how old the oldest of them is.

Examples:

  courante subscriber list
  courante subscriber list --json | jq 'select(.pending > 1000)'`
}

// lanePlace is a lane as --json prints it.
type lanePlace struct {
	Subscriber string  `json:"subscriber"`
	Log        string  `json:"log"`
	Lane       int     `json:"lane"`
	Lanes      int     `json:"lanes"`
	Epoch      int     `json:"epoch"`
	Cursor     string  `json:"cursor"`
	Pending    int     `json:"pending"`
	More       bool    `json:"more"` // there are more pending than were counted
	LagSeconds float64 `json:"lag_seconds"`
	Broken     string  `json:"broken,omitempty"`

	// One line stands for a subscriber without lanes.
	State string     `json:"state"` // active, added or retired
	By    string     `json:"by,omitempty"`
	Since *time.Time `json:"since,omitempty"`
}

const (
	laneActive  = "active"
	laneAdded   = "added"
	laneRetired = "retired"
)

// Run prints a line a lane.
func (subscriberListCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	t := NewTable("SUBSCRIBER", "LOG", "LANE", "AT", "PENDING", "LAG", "")
	stores, err := v.all(ctx)
	if err != nil {
		return err
	}
	for _, subscriber := range stores {
		for _, source := range stores {
			places, err := lanePlaces(ctx, subscriber, source)
			if err != nil {
				return err
			}
			for _, l := range places {
				if p.Globals.JSON {
					if err := p.PrintJSON(l); err != nil {
						return err
					}
					continue
				}
				if l.State == laneActive {
					t.Row(l.Subscriber, l.Log, fmt.Sprintf("%d of %d", l.Lane+1, l.Lanes), l.Cursor, l.pending(), l.lag(), l.verdict())
				} else {
					t.Row(l.Subscriber, l.Log, "-", l.Cursor, "-", "-", l.verdict())
				}
			}
		}
	}
	if !p.Globals.JSON {
		t.Write(p.Stdout)
	}
	return nil
}

func (l lanePlace) pending() string {
	text := Thousands(l.Pending)
	if l.More {
		text += "+"
	}
	return text
}

func (l lanePlace) lag() string {
	if l.Pending == 0 {
		return "-"
	}
	return Short(time.Duration(l.LagSeconds * float64(time.Second)))
}

func (l lanePlace) verdict() string {
	switch {
	case l.State == laneAdded:
		return fmt.Sprintf("added by %s on %s; it has not run yet", l.By, l.Since.Local().Format(time.DateTime))
	case l.State == laneRetired:
		return fmt.Sprintf("retired by %s on %s", l.By, l.Since.Local().Format(time.DateTime))
	case l.Broken == "":
		return ""
	}
	return fmt.Sprintf("STOPPED: %s; see: courante subscriber repair %s --log %s --dry-run", l.Broken, l.Subscriber, l.Log)
}

// countMost bounds how many events are read to count what is pending.
const countMost = 10_000

// lanePlaces returns the lanes of a subscriber's newest epoch on a log, or what
// was decided of it; none if it never subscribed to it.
func lanePlaces(ctx context.Context, subscriber, source courante.Store) ([]lanePlace, error) {
	epochs, err := subscriber.LaneEpochs(ctx, subscriber.Log(), source.Log())
	if err != nil || len(epochs) == 0 {
		return nil, err
	}
	epoch := epochs[len(epochs)-1]
	if epoch.Lanes == 0 {
		l := lanePlace{Subscriber: epoch.Subscriber, Log: epoch.Log, Epoch: epoch.N, Cursor: epoch.From.String(), State: laneAdded, By: epoch.By, Since: &epoch.Began}
		if epoch.Retired {
			l.State = laneRetired
		}
		return []lanePlace{l}, nil
	}
	var places []lanePlace
	for k := range epoch.Lanes {
		lane := courante.Lane{Subscriber: epoch.Subscriber, Log: epoch.Log, Epoch: epoch.N, K: k}
		progress, err := subscriber.Progress(ctx, lane)
		if errors.Is(err, courante.ErrNotFound) {
			progress.Cursor, err = epoch.From, nil
		}
		if err != nil {
			return nil, err
		}
		l := lanePlace{Subscriber: epoch.Subscriber, Log: epoch.Log, Lane: k, Lanes: epoch.Lanes, Epoch: epoch.N, Cursor: progress.Cursor.String(), State: laneActive}
		if err := l.count(ctx, source, epoch, progress.Cursor); err != nil {
			return nil, err
		}
		places = append(places, l)
	}
	return places, nil
}

func (l *lanePlace) count(ctx context.Context, source courante.Store, epoch courante.LaneEpoch, at courante.Cursor) error {
	for read := 0; ; {
		events, to, err := source.ReadLog(ctx, at, 1000)
		var broken *courante.LogBrokenError
		if errors.As(err, &broken) {
			l.Broken = broken.Reason
			return nil
		}
		if err != nil {
			return err
		}
		for i := range events {
			e := &events[i]
			if !slices.Contains(epoch.Types, e.Type) || courante.LaneOf(e.Key(), epoch.Lanes) != l.Lane {
				continue
			}
			if l.Pending == 0 {
				l.LagSeconds = time.Since(e.Time).Seconds()
			}
			l.Pending++
		}
		if read += len(events); read >= countMost {
			l.More = true
			return nil
		}
		if to == at {
			return nil
		}
		at = to
	}
}

type subscriberRepairCommand struct {
	Subscriber string `arg:"" help:"Service that stopped, such as {subscriber}."`
	Log        string `required:"" placeholder:"LOG" help:"Log that it stopped on, such as {log}."`
	To         string `enum:",last-common,start,now" default:"" placeholder:"PLACE" help:"Where to go on: last-common, start or now."`
	DryRun     bool   `help:"Say what is known, and change nothing."`
	Force      bool   `help:"Move it although it is not broken."`
	operator
}

// Help teaches by example.
func (subscriberRepairCommand) Help() string {
	return `A subscriber stops when the log that it reads lost its last events: it was restored from a backup, or a standby was promoted too early. Where to go on is your decision:

  last-common   from the last place at which both agree. Nothing that the log has now is skipped; a little is handled twice.
  start         the whole log again. For a read model that is rebuilt anyway.
  now           from the end. What the log has now before its end is skipped.

What the subscriber did on account of the lost events stays done in every case. Start "courante up" anew afterwards.

Examples:

  courante subscriber repair {subscriber} --log {log} --dry-run
  courante subscriber repair {subscriber} --log {log} --to last-common`
}

// Run says where the lanes are, and moves them if it was told where to.
func (c *subscriberRepairCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	subscriber, err := v.log(c.Subscriber)
	if err != nil {
		return err
	}
	source, err := v.log(c.Log)
	if err != nil {
		return err
	}
	plan, err := subscriber.PlanRepair(ctx, source)
	if errors.Is(err, courante.ErrNotFound) {
		return UsageError{fmt.Errorf("%s does not subscribe to %s; see: courante subscriber list", c.Subscriber, c.Log)}
	}
	if err != nil {
		return err
	}
	c.print(p, plan)
	switch {
	case c.DryRun:
		return nil
	case !plan.Broken() && !c.Force:
		p.Println("Nothing is broken, so nothing was changed. To move it all the same, add --force.")
		return nil
	case c.To == "":
		return UsageError{errors.New("nothing was changed: say where to go on with --to last-common, --to start or --to now.\nWhat each means: courante subscriber repair --help")}
	}
	op := c.operation("subscriber repair", c.Subscriber)
	op.Detail = map[string]any{"log": c.Log, "to": c.To, "force": c.Force}
	err = record(ctx, v.db, op, func() error { return plan.Apply(ctx, postgres.RepairTo(c.To)) })
	if err != nil {
		return err
	}
	p.Println(fmt.Sprintf("%s goes on at %s of log %s. Stop and start \"courante up\" for it to take effect.", c.Subscriber, c.To, c.Log))
	return nil
}

// repairLine is a lane of a repair as --json prints it.
type repairLine struct {
	Lane       int    `json:"lane"`
	Epoch      int    `json:"epoch"`
	Cursor     string `json:"cursor"`
	Broken     string `json:"broken,omitempty"`
	LastCommon string `json:"last_common"`
	Head       string `json:"head"`
}

func (c *subscriberRepairCommand) print(p *Program, plan *postgres.Repair) {
	t := NewTable("LANE", "AT", "LAST COMMON", "END OF LOG", "")
	for _, l := range plan.Lanes {
		line := repairLine{Lane: l.Last.K, Epoch: l.Last.Epoch, Cursor: l.Last.Cursor.String(), LastCommon: l.LastCommon.String(), Head: plan.Head.String()}
		if l.Broken != nil {
			line.Broken = l.Broken.Reason
		}
		if p.Globals.JSON {
			_ = p.PrintJSON(line)
			continue
		}
		t.Row(fmt.Sprint(line.Lane+1), line.Cursor, line.LastCommon, line.Head, line.Broken)
	}
	if !p.Globals.JSON {
		t.Write(p.Stdout)
	}
}
