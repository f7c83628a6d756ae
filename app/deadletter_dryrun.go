package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

type deadletterDryRunCommand struct {
	What     string        `arg:"" name:"id-or-fingerprint" help:"A message, such as {subscriber}/17, with what waits behind it, or a fingerprint."`
	Limit    int           `default:"10" placeholder:"N" help:"At most so many messages, by default ${default}."`
	Timeout  time.Duration `default:"30s" placeholder:"DURATION" help:"How long it may take, by default ${default}."`
	Personal bool          `help:"Show the fields that hold personal data, and the states."`
}

// Help teaches by example.
func (deadletterDryRunCommand) Help() string {
	return `Runs the handlers of the program that you call here, not of the one that is running, on the states as they are now. Nothing is written, nothing is performed outside, and nobody is kept waiting. It fails if a message would.

Examples:

  courante deadletter dry-run {subscriber}/17
  courante deadletter dry-run 3f9a0c11d2e4 --limit 100 --json | jq 'select(.result == "fails")'`
}

// trialLine is a message of a dry run as --json prints it.
type trialLine struct {
	ID          string       `json:"id"`
	Event       string       `json:"event"`
	Result      string       `json:"result"` // goes through, fails or waits
	Cause       string       `json:"cause,omitempty"`
	Stack       string       `json:"stack,omitempty"`
	Fingerprint string       `json:"fingerprint,omitempty"`
	Emits       []trialEvent `json:"emits,omitempty"`
	Stores      []trialState `json:"stores,omitempty"`
}

type trialEvent struct {
	ID    string          `json:"id"`
	Type  string          `json:"type"`
	Data  json.RawMessage `json:"data"`
	Asks  []string        `json:"asks,omitempty"`
	Sets  []string        `json:"sets,omitempty"`
	Clear []string        `json:"clears,omitempty"`
	Ends  []string        `json:"ends,omitempty"`
}

type trialState struct {
	State  string          `json:"state"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Run prints what would become of the messages.
func (c *deadletterDryRunCommand) Run(ctx context.Context, p *Program) error {
	if c.Limit < 1 {
		return UsageError{fmt.Errorf("--limit %d tries nothing; the least is 1", c.Limit)}
	}
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	store, list, err := c.messages(ctx, v)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(v.mounts, func(m courante.Mount) bool { return m.Store == courante.Store(store) })
	if i < 0 {
		return UsageError{fmt.Errorf("%s is a service of another program; call that one", store.Log())}
	}
	messages := make([]courante.Parked, len(list))
	for i := range list {
		messages[i] = list[i].Parked
	}
	trials, err := c.try(ctx, v.mounts[i], messages)
	if err != nil {
		return err
	}
	fails := false
	for i := range trials {
		line, err := c.line(v, store, &trials[i])
		if err != nil {
			return err
		}
		fails = fails || trials[i].Failure != nil
		if p.Globals.JSON {
			err = p.PrintJSON(line)
		} else {
			err = c.print(p, line)
		}
		if err != nil {
			return err
		}
	}
	if fails {
		return ErrReported
	}
	return nil
}

// try gives up on a handler that does not return: it holds nothing, and goes
// with the process.
func (c *deadletterDryRunCommand) try(ctx context.Context, m courante.Mount, messages []courante.Parked) ([]courante.Trial, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	type result struct {
		trials []courante.Trial
		err    error
	}
	ended := make(chan result, 1)
	go func() {
		trials, err := courante.DryRun(ctx, m, messages)
		ended <- result{trials, err}
	}()
	select {
	case r := <-ended:
		return r.trials, r.err
	case <-ctx.Done():
	}
	return nil, fmt.Errorf("it did not end within %s: a handler may loop for ever. Nothing was changed; give it longer with --timeout", c.Timeout)
}

// messages are those to try: of an id, those of its key from the first one on.
func (c *deadletterDryRunCommand) messages(ctx context.Context, v *visitor) (*postgres.Store, []postgres.ParkedMessage, error) {
	if !strings.Contains(c.What, "/") {
		list, err := v.withFingerprint(ctx, c.What)
		if err != nil {
			return nil, nil, err
		}
		f := list[0]
		messages, err := f.store.ParkedMessages(ctx, postgres.ParkedFilter{IDs: f.ids[:min(c.Limit, len(f.ids))]})
		return f.store, messages, err
	}
	id, err := v.message(ctx, c.What)
	if err != nil {
		return nil, nil, err
	}
	m, err := id.find(ctx)
	if err != nil {
		return nil, nil, err
	}
	if !m.Resolved.IsZero() {
		return nil, nil, fmt.Errorf("%s is not set aside any more: it was %s on %s", id, nextOfMessage(id.store, &m), m.Resolved.Local().Format(time.DateTime))
	}
	list, err := id.store.ParkedMessages(ctx, postgres.ParkedFilter{Key: m.Key, Max: c.Limit})
	return id.store, list, err
}

func (c *deadletterDryRunCommand) line(v *visitor, s *postgres.Store, t *courante.Trial) (trialLine, error) {
	l := trialLine{ID: idOf(s, t.Message.ID), Event: t.Message.Event.ID(), Result: "goes through"}
	switch {
	case t.Failure != nil:
		l.Result, l.Cause, l.Stack, l.Fingerprint = "fails", t.Failure.Cause, t.Failure.Stack, t.Failure.Fingerprint
	case t.Waits:
		l.Result = "waits"
	}
	for i := range t.Events {
		e := &t.Events[i]
		data, err := v.visible(e, c.Personal)
		if err != nil {
			return l, err
		}
		te := trialEvent{ID: e.ID(), Type: e.Type, Data: data}
		if n := e.Notes; n != nil {
			te.Clear, te.Ends = n.Clear, n.Done
			for _, r := range n.Ask {
				te.Asks = append(te.Asks, r.Effect)
			}
			for _, d := range n.Set {
				te.Sets = append(te.Sets, d.Name)
			}
		}
		l.Emits = append(l.Emits, te)
	}
	for _, change := range t.States {
		ts := trialState{State: change.Key.Stream()}
		if c.Personal {
			ts.Before, ts.After = change.Before, change.After
		}
		l.Stores = append(l.Stores, ts)
	}
	return l, nil
}

func (c *deadletterDryRunCommand) print(p *Program, l trialLine) error {
	w := p.Stdout
	result := map[string]string{"goes through": "goes through", "fails": "FAILS", "waits": "waits behind the one that fails"}[l.Result]
	fmt.Fprintf(w, "%s  %s  %s\n", l.ID, l.Event, result)
	if l.Result == "fails" {
		fmt.Fprintf(w, "  cause        %s\n  fingerprint  %s\n  where        %s\n", indented(l.Cause), l.Fingerprint, indented(l.Stack))
	}
	for _, e := range l.Emits {
		fmt.Fprintf(w, "  emits   %s  %s  %s\n", e.ID, e.Type, oneLine(string(e.Data), 200))
		for _, note := range []struct {
			does  string
			names []string
		}{{"asks for effect", e.Asks}, {"sets deadline", e.Sets}, {"clears deadline", e.Clear}, {"ends effect", e.Ends}} {
			if len(note.names) > 0 {
				fmt.Fprintf(w, "            %s %s\n", note.does, strings.Join(note.names, ", "))
			}
		}
	}
	for _, s := range l.Stores {
		if s.After == nil {
			fmt.Fprintf(w, "  stores  %s  %s\n", s.State, hidden)
			continue
		}
		fmt.Fprintf(w, "  stores  %s\n            before %s\n            after  %s\n", s.State, s.Before, s.After)
	}
	return nil
}
