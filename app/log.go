package app

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

type logCommand struct {
	Parts  logPartsCommand  `cmd:"" help:"Show the parts of the logs: how large, from when, who needs them."`
	Close  logCloseCommand  `cmd:"" help:"Close the open part and begin the next."`
	Seal   logSealCommand   `cmd:"" help:"Write its order into a closed part, and let its ticks go."`
	Detach logDetachCommand `cmd:"" help:"Take a sealed part out of the log, to archive it."`
	Attach logAttachCommand `cmd:"" help:"Make a detached part one of the log again."`
}

// Help teaches by example.
func (logCommand) Help() string {
	return `Events are only added to the last part of a log. "courante up" closes it in time (--part-size, --part-age) and seals it when every subscriber is past it. To detach is a decision of yours.

Examples:

  courante log parts
  courante log detach {log} 1
  pg_dump -t {log}.event_1 ... > {log}-1.sql     # archive it, then drop the table
  courante log attach {log} 1                       # it is needed again`
}

type logPartsCommand struct {
	Log string `arg:"" optional:"" help:"Only this log, such as {log}."`
}

// Help teaches by example.
func (logPartsCommand) Help() string {
	return `BEHIND lists subscribers that are not past a part: it cannot be detached before they are.

Examples:

  courante log parts
  courante log parts {log} --json | jq 'select(.state == "sealed" and .behind == [])'`
}

// logPart is a part as --json prints it.
type logPart struct {
	Log    string     `json:"log"`
	Part   int        `json:"part"`
	State  string     `json:"state"` // open, closed, sealed, detached or archived
	Events int64      `json:"events"`
	Ticks  int64      `json:"ticks"`
	Bytes  int64      `json:"bytes"`
	From   time.Time  `json:"from"`
	To     *time.Time `json:"to"` // null: it is open
	Behind []string   `json:"behind"`
}

func partOf(log string, u postgres.PartUsage) logPart {
	l := logPart{Log: log, Part: u.N, State: "open", Events: u.Events, Ticks: u.Ticks, Bytes: u.Bytes, From: u.Began.UTC(), Behind: []string{}}
	l.Behind = append(l.Behind, u.Behind...)
	if !u.Closed.IsZero() {
		closed := u.Closed.UTC()
		l.State, l.To = "closed", &closed
	}
	if !u.Sealed.IsZero() {
		l.State = "sealed"
	}
	if !u.Detached.IsZero() {
		l.State = "detached"
		if u.Gone {
			l.State = "archived"
		}
	}
	return l
}

// Run prints a line a part.
func (c *logPartsCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	stores, err := v.all(ctx)
	if err != nil {
		return err
	}
	if c.Log != "" {
		only, err := v.anyLog(ctx, c.Log)
		if err != nil {
			return err
		}
		stores = []*postgres.Store{only}
	}
	t := NewTable("LOG", "PART", "STATE", "EVENTS", "TICKS", "SIZE", "FROM", "TO", "BEHIND")
	for _, store := range stores {
		usages, err := store.PartUsages(ctx)
		if err != nil {
			return err
		}
		for _, u := range usages {
			l := partOf(store.Log(), u)
			if p.Globals.JSON {
				if err := p.PrintJSON(l); err != nil {
					return err
				}
				continue
			}
			to := "-"
			if l.To != nil {
				to = l.To.Local().Format(time.DateTime)
			}
			t.Row(l.Log, fmt.Sprint(l.Part), l.State, Thousands(int(l.Events)), Thousands(int(l.Ticks)), byteSize(l.Bytes).String(),
				l.From.Local().Format(time.DateTime), to, behind(l.Behind))
		}
	}
	if !p.Globals.JSON {
		t.Write(p.Stdout)
	}
	return nil
}

// behind names the subscribers of lanes, each once.
func behind(lanes []string) string {
	var list []string
	for _, l := range lanes {
		if name, _, _ := strings.Cut(l, ","); !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}

// partArgs name a part on the command line.
type partArgs struct {
	Log  string `arg:"" help:"Log, such as {log}."`
	Part string `arg:"" help:"Number of the part; see: courante log parts."`
	operator
}

// change does something to the part, and prints it as it is then.
func (c *partArgs) change(ctx context.Context, p *Program, command string, do func(v *visitor, s *postgres.Store, n int) error) error {
	n, err := strconv.Atoi(c.Part)
	if err != nil || n < 1 {
		return UsageError{fmt.Errorf("%q is no part: they count from 1; see: courante log parts %s", c.Part, c.Log)}
	}
	op := c.operation(command, c.Log)
	op.Detail = map[string]int{"part": n}
	return changeLog(ctx, p, op, func(v *visitor, s *postgres.Store) (int, error) { return n, do(v, s, n) })
}

// changeLog does something to the log that the operation names, and prints the
// part that it was done to.
func changeLog(ctx context.Context, p *Program, op postgres.Operation, do func(v *visitor, s *postgres.Store) (int, error)) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	store, err := v.anyLog(ctx, op.Target)
	if err != nil {
		return err
	}
	var n int
	err = record(ctx, v.db, op, func() (err error) {
		n, err = do(v, store)
		return err
	})
	if err != nil {
		return err
	}
	usages, err := store.PartUsages(ctx)
	if err != nil {
		return err
	}
	l := partOf(op.Target, usages[n-1])
	if p.Globals.JSON {
		return p.PrintJSON(l)
	}
	_, err = fmt.Fprintf(p.Stdout, "Part %d of log %s is %s: %s events, %s.\n", n, op.Target, l.State, Thousands(int(l.Events)), byteSize(l.Bytes))
	return err
}

type logCloseCommand struct {
	Log string `arg:"" help:"Log, such as {log}."`
	operator
}

// Help teaches by example.
func (logCloseCommand) Help() string {
	return "Waits for the writers in flight; appends go on in the next part.\n\nExamples:\n\n  courante log close {log}"
}

// Run closes the open part.
func (c *logCloseCommand) Run(ctx context.Context, p *Program) error {
	return changeLog(ctx, p, c.operation("log close", c.Log), func(_ *visitor, s *postgres.Store) (int, error) { return s.ClosePart(ctx) })
}

type logSealCommand struct{ partArgs }

// Help teaches by example.
func (logSealCommand) Help() string {
	return "Rewrites the part, so it needs as much room on the disk again for a while. Readers see the same log before, meanwhile and after. Parts are sealed in the order of their numbers.\n\nExamples:\n\n  courante log seal {log} 1"
}

// Run seals the part.
func (c *logSealCommand) Run(ctx context.Context, p *Program) error {
	return c.change(ctx, p, "log seal", func(_ *visitor, s *postgres.Store, n int) error { return s.SealPart(ctx, n) })
}

type logDetachCommand struct{ partArgs }

// Help teaches by example.
func (logDetachCommand) Help() string {
	return `The part becomes a table of its own, that nobody who reads the log looks at. Every state and version is kept: old orders are answered and go on, also when the table is dropped. Their history is read from the table as long as it is there. A subscriber that begins at the start, and a projection that is rebuilt, need all parts: attach them again for it.

It takes a while, because a snapshot is written of every stream that has none. Parts go in the order of their numbers, and only when no subscriber needs them.

Examples:

  courante log detach {log} 1
  pg_dump "$COURANTE_POSTGRES_URL" -t {log}.event_1 -Fc -f {log}-1.dump
  psql "$COURANTE_POSTGRES_URL" -c 'drop table {log}.event_1'`
}

// Run detaches the part.
func (c *logDetachCommand) Run(ctx context.Context, p *Program) error {
	return c.change(ctx, p, "log detach", func(v *visitor, s *postgres.Store, n int) error {
		svc := courante.NewService(c.Log) // of another program: it knows no states
		for _, m := range v.mounts {
			if m.Service.Name() == c.Log {
				svc = m.Service
			}
		}
		table, err := s.DetachPart(ctx, n, svc)
		if err == nil && !p.Globals.JSON {
			p.Println("Its table is " + strings.ReplaceAll(table, `"`, "") + ".")
		}
		return err
	})
}

type logAttachCommand struct{ partArgs }

// Help teaches by example.
func (logAttachCommand) Help() string {
	return `Parts come back in the order of their numbers, the last first. A table that was dropped is restored from its dump before.

Examples:

  pg_restore -d "$COURANTE_POSTGRES_URL" {log}-1.dump
  courante log attach {log} 1`
}

// Run attaches the part.
func (c *logAttachCommand) Run(ctx context.Context, p *Program) error {
	return c.change(ctx, p, "log attach", func(_ *visitor, s *postgres.Store, n int) error { return s.AttachPart(ctx, n) })
}
