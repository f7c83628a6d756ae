package app

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/term"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

type eventsTailCommand struct {
	Log      string `placeholder:"LOG" help:"Only events of this log, such as {log}."`
	Type     string `placeholder:"TYPE" help:"Only events of this type, such as {event}."`
	From     string `enum:"start,now" default:"now" help:"Begin at the start of the logs, or with what happens from now on."`
	N        int    `short:"n" placeholder:"N" help:"End after this many events."`
	NoFollow bool   `help:"End when there is no further event."`
}

// Help teaches by example.
func (eventsTailCommand) Help() string {
	return `Events of one log come in its order; those of several logs as they become visible. Ctrl-C ends it.

Examples:

  courante events tail
  courante events tail --log {log} --from start --no-follow
  courante events tail --from start --type {event} -n 1 --json | jq .data`
}

// tailPoll is how often the logs are looked at when nothing is heard of the
// running system: a person does not notice a quarter of a second.
const tailPoll = 250 * time.Millisecond

// tailRead is how many events one look takes of a log.
const tailRead = 1000

// Run prints events until ctx ends, or as many as asked for.
func (c *eventsTailCommand) Run(ctx context.Context, p *Program) error {
	if c.N < 0 {
		return UsageError{fmt.Errorf("-n %d: the number of events cannot be negative", c.N)}
	}
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	t, err := c.open(ctx, p, v)
	if err != nil {
		return err
	}
	poll := time.NewTicker(tailPoll)
	defer poll.Stop()
	for {
		worked, err := t.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // ended by the person who looks
		case err != nil:
			return err
		case t.left == 0, c.NoFollow && !worked:
			return nil
		case worked:
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-v.db.Ticked():
		case <-poll.C:
		}
	}
}

// tailing reads several logs side by side.
type tailing struct {
	p      *Program
	typ    string
	left   int // how many events to print still; negative for all
	stores []*postgres.Store
	at     map[string]courante.Cursor
	width  int // of the terminal, 0 if it is none
}

func (c *eventsTailCommand) open(ctx context.Context, p *Program, v *visitor) (*tailing, error) {
	t := &tailing{p: p, typ: c.Type, left: c.N, at: map[string]courante.Cursor{}, width: width(p)}
	if c.N == 0 {
		t.left = -1
	}
	if c.Type != "" && !v.emits(c.Type) {
		return nil, UsageError{fmt.Errorf("nobody emits %q; see: courante routes", c.Type)}
	}
	for _, m := range v.mounts {
		if c.Log == "" || c.Log == m.Service.Name() {
			t.stores = append(t.stores, v.stores[m.Service.Name()])
		}
	}
	if len(t.stores) == 0 {
		_, err := v.log(c.Log)
		return nil, err
	}
	for _, s := range t.stores {
		begin := s.Head
		if c.From == "start" {
			begin = s.First
		}
		at, err := begin(ctx)
		if err != nil {
			return nil, err
		}
		t.at[s.Log()] = at
	}
	return t, nil
}

func (v *visitor) emits(typ string) bool {
	for _, svc := range v.declared {
		for _, t := range svc.Events() {
			if t.Name == typ {
				return true
			}
		}
	}
	return false
}

// step prints what is new, and reports whether anything was.
func (t *tailing) step(ctx context.Context) (bool, error) {
	var events []courante.Event
	for _, s := range t.stores {
		list, to, err := s.ReadLog(ctx, t.at[s.Log()], tailRead)
		if err != nil {
			return false, err
		}
		t.at[s.Log()] = to
		events = append(events, list...)
	}
	// By time for the reader's eye; the order within a log stays.
	slices.SortStableFunc(events, func(a, b courante.Event) int {
		if a.Log == b.Log {
			return 0
		}
		return cmp.Compare(a.Time.UnixMicro(), b.Time.UnixMicro())
	})
	for i := range events {
		if t.left == 0 {
			break
		}
		if e := &events[i]; t.typ == "" || t.typ == e.Type {
			if err := t.print(e); err != nil {
				return true, err
			}
			t.left--
		}
	}
	return len(events) > 0, nil
}

func (t *tailing) print(e *courante.Event) error {
	if t.p.Globals.JSON {
		return t.p.PrintJSON(lineOf(e))
	}
	line := fmt.Sprintf("%s  %-28s %-34s %s", e.Time.Local().Format("15:04:05.000"), e.Type, e.ID(), e.Data)
	if runes := []rune(line); t.width > 20 && len(runes) > t.width {
		line = string(runes[:t.width-1]) + "…"
	}
	_, err := fmt.Fprintln(t.p.Stdout, line)
	return err
}

// width is that of the terminal; a pipe gets whole lines.
func width(p *Program) int {
	f, ok := p.Stdout.(*os.File)
	if !ok {
		return 0
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}
