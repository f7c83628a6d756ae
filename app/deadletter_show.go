package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

type deadletterShowCommand struct {
	What     string `arg:"" name:"id-or-fingerprint" help:"A message, such as {subscriber}/17, or a fingerprint: then the first message that fails so."`
	Personal bool   `help:"Show the fields that hold personal data."`
}

// Help teaches by example.
func (deadletterShowCommand) Help() string {
	return `Fields that an event type marks as personal are hidden, and so is all of an event whose type this program does not know. A cause is what the handler wrote.

Examples:

  courante deadletter show {subscriber}/17
  courante deadletter show 3f9a0c11d2e4 --personal`
}

// parkedLine is a message as --json prints it.
type parkedLine struct {
	ID          string          `json:"id"`
	Service     string          `json:"service"`
	Key         string          `json:"key"`
	Event       string          `json:"event"`
	Type        string          `json:"type"`
	Correlation string          `json:"correlation"`
	Reaction    string          `json:"reaction"`
	State       string          `json:"state"` // waiting, retried, behind, due, handled or discarded
	BehindOf    string          `json:"behind_of,omitempty"`
	Behind      int             `json:"behind"` // messages that wait behind it
	Attempts    int             `json:"attempts"`
	At          time.Time       `json:"at"`
	RetryAt     *time.Time      `json:"retry_at,omitempty"`
	First       *time.Time      `json:"first_failed,omitempty"`
	Last        *time.Time      `json:"last_failed,omitempty"`
	FirstBy     string          `json:"first_version,omitempty"`
	LastBy      string          `json:"last_version,omitempty"`
	Fingerprint string          `json:"fingerprint,omitempty"`
	Cause       string          `json:"cause,omitempty"`
	Stack       string          `json:"stack,omitempty"`
	Resolved    *time.Time      `json:"resolved,omitempty"`
	Discarded   string          `json:"discarded,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
}

func lineOfParked(s *postgres.Store, m *postgres.ParkedMessage) parkedLine {
	l := parkedLine{
		ID: idOf(s, m.ID), Service: s.Log(), Key: m.Key, Event: m.Event.ID(), Type: m.Event.Type, Correlation: m.Event.Correlation,
		Reaction: m.Reaction, Behind: m.Behind, Attempts: m.Attempts, At: m.At, FirstBy: m.FirstBy, LastBy: m.LastBy,
		Fingerprint: m.Fingerprint, Cause: m.Cause, Stack: m.Stack, Discarded: m.Discarded,
	}
	for to, t := range map[**time.Time]time.Time{&l.RetryAt: m.RetryAt, &l.First: m.FirstFailed, &l.Last: m.LastFailed, &l.Resolved: m.Resolved} {
		if !t.IsZero() {
			*to = &t
		}
	}
	switch {
	case m.Discarded != "":
		l.State = "discarded"
	case !m.Resolved.IsZero():
		l.State = "handled"
	case m.Head != m.ID:
		l.State, l.BehindOf = "behind", idOf(s, m.Head)
	case m.Cause == "":
		l.State = "due"
	case m.RetryAt.IsZero():
		l.State = "waiting"
	default:
		l.State = "retried"
	}
	return l
}

// Run prints a message with all that is known of it.
func (c *deadletterShowCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	var id messageID
	if strings.Contains(c.What, "/") {
		id, err = v.message(ctx, c.What)
	} else {
		id, err = c.firstOf(ctx, p, v)
	}
	if err != nil {
		return err
	}
	m, err := id.find(ctx)
	if err != nil {
		return err
	}
	line := lineOfParked(id.store, &m)
	if line.Data, err = v.visible(&m.Event, c.Personal); err != nil {
		return err
	}
	if p.Globals.JSON {
		return p.PrintJSON(line)
	}
	behind, err := id.store.ParkedMessages(ctx, postgres.ParkedFilter{Key: m.Key, After: m.ID, Max: 10})
	if err != nil {
		return err
	}
	return c.print(p, id.store, &m, line, behind)
}

// firstOf is the first message of a fingerprint.
func (c *deadletterShowCommand) firstOf(ctx context.Context, p *Program, v *visitor) (messageID, error) {
	list, err := v.withFingerprint(ctx, c.What)
	if err != nil {
		return messageID{}, err
	}
	if n := len(list[0].ids); n > 1 {
		p.Println(fmt.Sprintf("The first of %s that fail alike; all of them: courante deadletter list --messages --fingerprint %s", Thousands(n), c.What))
	}
	return messageID{list[0].store, list[0].ids[0]}, nil
}

func (c *deadletterShowCommand) print(p *Program, s *postgres.Store, m *postgres.ParkedMessage, line parkedLine, behind []postgres.ParkedMessage) error {
	w := p.Stdout
	when := func(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000") }
	fmt.Fprintf(w, "%s  %s\n", line.ID, nextOfMessage(s, m))
	if m.Discarded != "" {
		fmt.Fprintf(w, "  reason       %s (%s)\n", m.Discarded, when(m.Resolved))
	}
	fmt.Fprintf(w, "  event        %s  %s\n", line.Event, line.Type)
	fmt.Fprintf(w, "  key          %s\n", line.Key)
	fmt.Fprintf(w, "  reaction     %q\n", line.Reaction)
	fmt.Fprintf(w, "  set aside    %s\n", when(m.At))
	if m.Cause != "" {
		fmt.Fprintf(w, "  fingerprint  %s\n", m.Fingerprint)
		fmt.Fprintf(w, "  tried        %d times; first failed %s (version %s), last %s (version %s)\n", m.Attempts, when(m.FirstFailed), m.FirstBy, when(m.LastFailed), m.LastBy)
		fmt.Fprintf(w, "  cause        %s\n", indented(m.Cause))
		fmt.Fprintf(w, "  where        %s\n", indented(m.Stack))
	}
	fmt.Fprintf(w, "  data         %s\n", indented(pretty(line.Data)))
	if m.Event.Correlation != "" {
		fmt.Fprintln(w, p.own("  saga         courante saga show "+quote(m.Event.Correlation)))
	}
	if m.Behind > 0 {
		fmt.Fprintf(w, "  behind it    %s of its key wait:\n", Thousands(m.Behind))
		for i := range behind {
			fmt.Fprintf(w, "                 %s  %s  %s\n", idOf(s, behind[i].ID), behind[i].Event.ID(), behind[i].Event.Type)
		}
		if m.Behind > len(behind) {
			fmt.Fprintf(w, "                 and %s more\n", Thousands(m.Behind-len(behind)))
		}
	}
	return nil
}

// indented puts the lines of a text under its first one.
func indented(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n               ")
}

func pretty(data json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, data, "", "  ") != nil {
		return string(data)
	}
	return b.String()
}

const hidden = "(personal; --personal shows it)"

// visible is an event's data without what is personal in it. Of a type that
// this program does not know nothing can be told apart, so all of it is hidden.
func (v *visitor) visible(e *courante.Event, personal bool) (json.RawMessage, error) {
	if personal {
		return e.Data, nil
	}
	for _, s := range v.declared {
		for _, t := range s.Events() {
			if t.Name != e.Type {
				continue
			}
			// The marks are those of the newest schema.
			data, err := t.Upcast(e)
			if err != nil {
				return json.Marshal(hidden)
			}
			return masked(data, t.Personal)
		}
	}
	return json.Marshal(hidden)
}

// masked hides the fields at the paths; a list on the way is each of its items.
func masked(data json.RawMessage, paths []string) (json.RawMessage, error) {
	if len(paths) == 0 {
		return data, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil && err != io.EOF {
		return json.Marshal(hidden)
	}
	for _, path := range paths {
		hide(value, strings.Split(path, "."))
	}
	return json.Marshal(value)
}

func hide(value any, path []string) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			hide(item, path)
		}
	case map[string]any:
		field, there := value[path[0]]
		switch {
		case !there || field == nil:
		case len(path) == 1:
			value[path[0]] = hidden
		default:
			hide(field, path[1:])
		}
	}
}
