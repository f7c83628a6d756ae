package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

type projectionCommand struct {
	List    projectionListCommand    `cmd:"" help:"Show the read models, and how far behind each is."`
	Show    projectionShowCommand    `cmd:"" help:"Show one with all its generations."`
	Rebuild projectionRebuildCommand `cmd:"" help:"Build one anew beside the live one, compare the two, and switch."`
	Switch  projectionSwitchCommand  `cmd:"" help:"Make a generation live that was built."`
	Back    projectionBackCommand    `cmd:"" help:"Make the generation live again that was live before."`
	Discard projectionDiscardCommand `cmd:"" help:"Drop a generation that is not live."`
	Pause   projectionPauseCommand   `cmd:"" help:"Stop one that follows the log, in all programs."`
	Resume  projectionResumeCommand  `cmd:"" help:"Have a paused one go on."`
}

// Help teaches by example.
func (projectionCommand) Help() string {
	return `A projection is a read model in SQL tables. Its tables come in generations: one is live, and queries read it; another may be built beside it while everything goes on, and the one that was live before is kept as the way back.

Examples:

  courante projection list
  courante projection rebuild {projection}
  courante projection back {projection}
  courante projection discard {projection}`
}

// projectionArgs name a projection on the command line.
type projectionArgs struct {
	Service    string `arg:"" help:"Service that has it, such as {log}."`
	Projection string `arg:"" help:"Its name; see: courante projection list."`
}

func (a *projectionArgs) target() string { return a.Service + "/" + a.Projection }

func (a *projectionArgs) words() string { return a.Service + " " + a.Projection }

// find returns the store of the service and how the projection stands.
func (a *projectionArgs) find(ctx context.Context, v *visitor) (*postgres.Store, postgres.ProjectionStatus, error) {
	store, err := v.anyLog(ctx, a.Service)
	if err != nil {
		return nil, postgres.ProjectionStatus{}, err
	}
	list, err := store.Projections(ctx)
	if err != nil {
		return nil, postgres.ProjectionStatus{}, err
	}
	var names []string
	for _, p := range list {
		if p.Name == a.Projection {
			return store, p, nil
		}
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	return nil, postgres.ProjectionStatus{}, UsageError{fmt.Errorf("%s has no projection %q; there are: %s", a.Service, a.Projection, strings.Join(names, ", "))}
}

// work begins work on a projection that this program declares, whose tables
// have the form that the program's migrations give them.
func (a *projectionArgs) work(ctx context.Context, v *visitor, store *postgres.Store) (*postgres.ProjectionWork, error) {
	for _, m := range v.mounts {
		if m.Service.Name() != a.Service {
			continue
		}
		for _, p := range m.Service.Projections() {
			if p.Name != a.Projection {
				continue
			}
			if files := m.Service.Migrations(); files != nil {
				if err := v.db.MigrateSchema(ctx, store.Schema(), files); err != nil {
					return nil, err
				}
			}
			return store.ProjectionWork(ctx, p, p.Logs(m.Service, v.declared, nil))
		}
	}
	return nil, UsageError{fmt.Errorf("this program does not declare projection %s of %s, so it cannot fold it; use the program that does", a.Projection, a.Service)}
}

type projectionListCommand struct{}

// Help teaches by example.
func (projectionListCommand) Help() string {
	return `BEHIND counts the events that it wants and has not folded; LAG is how old the oldest of them is. An inline projection changes in the transaction of the events and never lags.

Examples:

  courante projection list
  courante projection list --json | jq 'select(.lag_seconds > 60)'`
}

// projectionLine is a projection as --json prints it.
type projectionLine struct {
	Service     string                  `json:"service"`
	Projection  string                  `json:"projection"`
	Kind        courante.ProjectionKind `json:"kind"`
	State       string                  `json:"state"` // live, building, paused or stopped
	Version     int                     `json:"version"`
	Generation  int64                   `json:"generation"` // the live one, 0 if there is none
	Behind      int64                   `json:"behind"`
	About       bool                    `json:"about"` // Behind is estimated
	LagSeconds  float64                 `json:"lag_seconds"`
	Paused      *time.Time              `json:"paused,omitempty"`
	PausedBy    string                  `json:"paused_by,omitempty"`
	Failure     string                  `json:"failure,omitempty"`
	Generations []generationLine        `json:"generations"`
}

// generationLine is a generation as --json prints it.
type generationLine struct {
	Generation int64           `json:"generation"`
	Version    int             `json:"version"`
	State      string          `json:"state"` // building, ready, live or kept
	Schema     string          `json:"schema"`
	Tables     []string        `json:"tables"`
	Began      time.Time       `json:"began"`
	Built      *time.Time      `json:"built"`
	Switched   *time.Time      `json:"switched"`
	Logs       []projectionLog `json:"logs"` // none: it changes with the events
}

// projectionLog is how far a generation is in a log, as --json prints it.
type projectionLog struct {
	Log        string  `json:"log"`
	Cursor     string  `json:"cursor"`
	Behind     int64   `json:"behind"`
	About      bool    `json:"about"`
	LagSeconds float64 `json:"lag_seconds"`
	Broken     string  `json:"broken,omitempty"`
}

func projectionLineOf(s postgres.ProjectionStatus) projectionLine {
	l := projectionLine{
		Service: s.Service, Projection: s.Name, Kind: s.Kind, Version: s.Version, State: "live",
		Paused: moment(s.Paused), PausedBy: s.PausedBy, Failure: s.Failure, Generations: []generationLine{},
	}
	for _, g := range s.Generations {
		line := generationLine{
			Generation: g.N, Version: g.Version, State: g.State, Schema: g.Schema, Tables: g.Tables,
			Began: g.Began, Built: moment(g.Built), Switched: moment(g.Switched), Logs: []projectionLog{},
		}
		for _, at := range g.Logs {
			line.Logs = append(line.Logs, projectionLog{
				Log: at.Log, Cursor: at.Cursor.String(), Behind: at.Behind, About: at.About, LagSeconds: at.Lag.Seconds(), Broken: at.Broken,
			})
			if at.Broken != "" && l.Failure == "" {
				l.Failure = "the log " + at.Log + " is not the one that it followed: " + at.Broken
			}
		}
		l.Generations = append(l.Generations, line)
	}
	if live, ok := s.Live(); ok {
		l.Generation = live.N
		for _, at := range live.Logs {
			l.Behind, l.About, l.LagSeconds = l.Behind+at.Behind, l.About || at.About, max(l.LagSeconds, at.Lag.Seconds())
		}
	} else {
		l.State = "building"
	}
	switch {
	case l.Paused != nil:
		l.State = "paused"
	case l.Failure != "":
		l.State = "stopped"
	}
	return l
}

// moment is null in JSON where there is none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Run prints a line a projection.
func (projectionListCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	stores, err := v.all(ctx)
	if err != nil {
		return err
	}
	t := NewTable("SERVICE", "PROJECTION", "KIND", "VERSION", "STATE", "BEHIND", "LAG", "")
	none := true
	for _, store := range stores {
		list, err := store.Projections(ctx)
		if err != nil {
			return err
		}
		for _, status := range list {
			none = false
			l := projectionLineOf(status)
			if p.Globals.JSON {
				if err := p.PrintJSON(l); err != nil {
					return err
				}
				continue
			}
			t.Row(l.Service, l.Projection, string(l.Kind), fmt.Sprint(l.Version), l.State, aboutMany(l.Behind, l.About), lag(l.Behind, l.LagSeconds), l.note())
		}
	}
	switch {
	case p.Globals.JSON:
	case none:
		p.Println("There are no projections.")
	default:
		t.Write(p.Stdout)
	}
	return nil
}

func aboutMany(n int64, about bool) string {
	if about {
		return "~" + Thousands(n)
	}
	return Thousands(n)
}

func lag(behind int64, seconds float64) string {
	if behind == 0 {
		return "-"
	}
	return Short(time.Duration(seconds * float64(time.Second)))
}

// note is what else a person has to know of a projection.
func (l *projectionLine) note() string {
	switch {
	case l.Paused != nil:
		return fmt.Sprintf("by %s on %s", l.PausedBy, l.Paused.Local().Format(time.DateTime))
	case l.Failure != "":
		return oneLine(l.Failure, 60) + "; see: courante projection show " + l.Service + " " + l.Projection
	}
	var notes []string
	for _, g := range l.Generations {
		if g.State != "live" {
			notes = append(notes, fmt.Sprintf("generation %d (version %d) is %s", g.Generation, g.Version, g.State))
		}
	}
	return strings.Join(notes, "; ")
}

type projectionShowCommand struct{ projectionArgs }

// Help teaches by example.
func (projectionShowCommand) Help() string {
	return "Examples:\n\n  courante projection show {projection}"
}

// Run prints the projection.
func (c *projectionShowCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	_, status, err := c.find(ctx, v)
	if err != nil {
		return err
	}
	l := projectionLineOf(status)
	if p.Globals.JSON {
		return p.PrintJSON(l)
	}
	fmt.Fprintf(p.Stdout, "Projection %s of %s: %s, version %d, %s.\n", l.Projection, l.Service, l.Kind, l.Version, l.State)
	if l.Paused != nil {
		fmt.Fprintf(p.Stdout, "Paused by %s on %s.\n", l.PausedBy, l.Paused.Local().Format(time.DateTime))
	}
	if l.Failure != "" {
		fmt.Fprintf(p.Stdout, "It does not go on:\n  %s\n", strings.ReplaceAll(l.Failure, "\n", "\n  "))
	}
	t := NewTable("GENERATION", "VERSION", "STATE", "TABLES", "LOG", "AT", "BEHIND", "LAG")
	for _, g := range l.Generations {
		tables := g.Schema + "." + strings.Join(g.Tables, ", ")
		if len(g.Logs) == 0 {
			t.Row(fmt.Sprint(g.Generation), fmt.Sprint(g.Version), g.State, tables, "-", "with the events", "-", "-")
		}
		for _, at := range g.Logs {
			t.Row(fmt.Sprint(g.Generation), fmt.Sprint(g.Version), g.State, tables, at.Log, at.Cursor, aboutMany(at.Behind, at.About), lag(at.Behind, at.LagSeconds))
		}
	}
	fmt.Fprintln(p.Stdout)
	t.Write(p.Stdout)
	return nil
}

// patiently repeats what fails for a moment, and says what it waits for: for a
// lock, who holds it.
func patiently(ctx context.Context, p *Program, store *postgres.Store, projection string, do func() error) error {
	said := ""
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := do()
		if !errors.Is(err, courante.ErrTransient) || ctx.Err() != nil {
			return err
		}
		text := "waiting: " + err.Error()
		if users, lookup := store.UsedBy(ctx, projection); lookup == nil && len(users) > 0 {
			text += "\n  in use by " + strings.Join(users, "\n  and by ")
		}
		if first, _, _ := strings.Cut(text, "\n"); first != said {
			said = first
			p.Progress("%s", text)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
