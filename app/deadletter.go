package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/courante-dev/courante/postgres"
)

type deadletterCommand struct {
	List    deadletterListCommand    `cmd:"" help:"Show what is set aside, and what it waits for."`
	Show    deadletterShowCommand    `cmd:"" help:"Show a message with its cause, and what waits behind it."`
	DryRun  deadletterDryRunCommand  `cmd:"" help:"Try out what this program would do with messages, and change nothing."`
	Requeue deadletterRequeueCommand `cmd:"" help:"Have messages handled again."`
	Discard deadletterDiscardCommand `cmd:"" help:"Give messages up; what waits behind them goes on."`
}

// Help teaches by example.
func (deadletterCommand) Help() string {
	return `A message whose handler fails is set aside with all that follows of its key; other keys go on. It is tried six times within about ten seconds, and then waits for you. Messages that fail alike have one fingerprint.

Examples:

  courante deadletter list
  courante deadletter show 3f9a0c11d2e4               # a fingerprint
  courante deadletter dry-run {subscriber}/17             # would it work with this program?
  courante deadletter requeue --fingerprint 3f9a0c11d2e4
  courante deadletter discard {subscriber}/17 --reason "test order"`
}

// messageID names a message as people do: payment/17.
type messageID struct {
	store *postgres.Store
	id    int64
}

func (m messageID) String() string { return idOf(m.store, m.id) }

func idOf(s *postgres.Store, id int64) string { return fmt.Sprintf("%s/%d", s.Log(), id) }

// isFingerprint tells a fingerprint from an id.
func isFingerprint(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == 6
}

// message reads what a person calls a message.
func (v *visitor) message(ctx context.Context, text string) (messageID, error) {
	service, number, found := strings.Cut(text, "/")
	id, err := strconv.ParseInt(number, 10, 64)
	if !found || err != nil || id < 1 {
		return messageID{}, UsageError{fmt.Errorf("%q is no message: they are called SERVICE/NUMBER, such as %s/17; see: courante deadletter list --messages", text, v.mounts[len(v.mounts)-1].Service.Name())}
	}
	store, err := v.anyLog(ctx, service)
	return messageID{store, id}, err
}

// find returns the message as it is.
func (m messageID) find(ctx context.Context) (postgres.ParkedMessage, error) {
	list, err := m.store.ParkedMessages(ctx, postgres.ParkedFilter{IDs: []int64{m.id}})
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("no message %s was ever set aside; see: courante deadletter list --messages", m)
	}
	if err != nil {
		return postgres.ParkedMessage{}, err
	}
	return list[0], nil
}

// withFingerprint finds the services that have messages of that fingerprint set
// aside.
func (v *visitor) withFingerprint(ctx context.Context, fingerprint string) ([]failing, error) {
	if !isFingerprint(fingerprint) {
		return nil, UsageError{fmt.Errorf("%q is no fingerprint: they have 12 digits, such as 3f9a0c11d2e4; see: courante deadletter list", fingerprint)}
	}
	list, err := v.failing(ctx, fingerprint)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("nothing with fingerprint %s is set aside; see: courante deadletter list", fingerprint)
	}
	return list, err
}

// failing is what failed of one service, in order.
type failing struct {
	store *postgres.Store
	ids   []int64
}

func (v *visitor) failing(ctx context.Context, fingerprint string) ([]failing, error) {
	stores, err := v.all(ctx)
	if err != nil {
		return nil, err
	}
	var list []failing
	for _, s := range stores {
		ids, err := s.FailedIDs(ctx, fingerprint)
		if err != nil {
			return nil, err
		}
		if len(ids) > 0 {
			list = append(list, failing{s, ids})
		}
	}
	return list, nil
}

type deadletterListCommand struct {
	Messages    bool   `help:"Each message by itself, in order."`
	All         bool   `help:"Also those that were discarded."`
	Fingerprint string `placeholder:"F" help:"With --messages: only those that fail alike."`
	After       string `placeholder:"ID" help:"With --messages: only those after this one."`
	Limit       int    `default:"100" placeholder:"N" help:"At most so many messages, by default ${default}."`
}

// Help teaches by example.
func (deadletterListCommand) Help() string {
	return `Messages that fail alike are one line: FAILED of them failed, BEHIND only wait behind these.

Examples:

  courante deadletter list
  courante deadletter list --messages --fingerprint 3f9a0c11d2e4
  courante deadletter list --json | jq 'select(.waiting > 0)'`
}

// Run prints what is set aside.
func (c *deadletterListCommand) Run(ctx context.Context, p *Program) error {
	switch {
	case c.Limit < 1:
		return UsageError{fmt.Errorf("--limit %d shows nothing; the least is 1", c.Limit)}
	case !c.Messages && (c.After != "" || c.Fingerprint != ""):
		return UsageError{errors.New("--after and --fingerprint choose messages: add --messages")}
	case c.Fingerprint != "" && !isFingerprint(c.Fingerprint):
		return UsageError{fmt.Errorf("%q is no fingerprint: they have 12 digits, such as 3f9a0c11d2e4; see: courante deadletter list", c.Fingerprint)}
	}
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	stores, err := v.all(ctx)
	if err != nil {
		return err
	}
	if c.Messages {
		err = c.messages(ctx, p, v, stores, false)
	} else {
		err = c.groups(ctx, p, stores)
	}
	if err != nil || !c.All {
		return err
	}
	return c.messages(ctx, p, v, stores, true)
}

// parkedGroup is a group as --json prints it.
type parkedGroup struct {
	Service     string     `json:"service"`
	Fingerprint string     `json:"fingerprint"`
	Reaction    string     `json:"reaction"`
	Cause       string     `json:"cause"`
	Failed      int        `json:"failed"`
	Behind      int        `json:"behind"`
	Waiting     int        `json:"waiting"` // for a person
	RetryAt     *time.Time `json:"retry_at"`
	Attempts    int        `json:"attempts"`
	First       time.Time  `json:"first_failed"`
	Last        time.Time  `json:"last_failed"`
	FirstBy     string     `json:"first_version"`
	LastBy      string     `json:"last_version"`
	Example     string     `json:"example"`
}

func (c *deadletterListCommand) groups(ctx context.Context, p *Program, stores []*postgres.Store) error {
	t := NewTable("SERVICE", "FINGERPRINT", "FAILED", "BEHIND", "TRIED", "FIRST", "LAST", "VERSION", "NEXT", "REACTION AND CAUSE")
	found, waiting := false, 0
	for _, s := range stores {
		groups, err := s.ParkedGroups(ctx)
		if err != nil {
			return err
		}
		for _, g := range groups {
			found = true
			waiting += g.Waiting
			if p.Globals.JSON {
				line := parkedGroup{
					Service: s.Log(), Fingerprint: g.Fingerprint, Reaction: g.Reaction, Cause: g.Cause, Failed: g.Messages, Behind: g.Behind,
					Waiting: g.Waiting, Attempts: g.Attempts, First: g.First, Last: g.Last, FirstBy: g.FirstBy, LastBy: g.LastBy, Example: idOf(s, g.FirstID),
				}
				if !g.Retry.IsZero() {
					line.RetryAt = &g.Retry
				}
				if err := p.PrintJSON(line); err != nil {
					return err
				}
				continue
			}
			fingerprint, cause := g.Fingerprint, fmt.Sprintf("%q: %s", g.Reaction, oneLine(g.Cause, 100))
			if g.Messages == 0 {
				fingerprint, cause = "-", "what these waited behind is resolved"
			}
			t.Row(s.Log(), fingerprint, Thousands(g.Messages), Thousands(g.Behind), fmt.Sprint(g.Attempts),
				g.First.Local().Format(time.DateTime), g.Last.Local().Format(time.DateTime), span(g.FirstBy, g.LastBy), nextOf(g), cause)
		}
	}
	switch {
	case p.Globals.JSON:
	case !found:
		p.Println("Nothing is set aside.")
	default:
		t.Write(p.Stdout)
		if waiting > 0 {
			p.Println("Look at one with \"courante deadletter show FINGERPRINT\", and try out a remedy with \"courante deadletter dry-run FINGERPRINT\".")
		}
	}
	return nil
}

func span(first, last string) string {
	if first == last {
		return first
	}
	return first + " to " + last
}

// nextOf says what the messages of a group wait for.
func nextOf(g postgres.ParkedGroup) string {
	retried := g.Messages - g.Waiting
	at := "at once"
	if in := time.Until(g.Retry); in > 0 {
		at = "in " + Short(in.Round(100*time.Millisecond))
	}
	switch {
	case g.Messages == 0:
		return "goes on at once"
	case retried == 0:
		return "waits for you"
	case g.Waiting == 0:
		return "tried again " + at
	}
	return fmt.Sprintf("%s wait for you, %s tried again %s", Thousands(g.Waiting), Thousands(retried), at)
}

// messages prints a page of messages; the next one begins after its last.
func (c *deadletterListCommand) messages(ctx context.Context, p *Program, v *visitor, stores []*postgres.Store, discarded bool) error {
	after := messageID{}
	if c.After != "" {
		var err error
		if after, err = v.message(ctx, c.After); err != nil {
			return err
		}
	}
	heads := []string{"ID", "KEY", "EVENT", "REACTION", "TRIED", "NEXT", "CAUSE"}
	if discarded {
		heads = []string{"DISCARDED", "KEY", "EVENT", "REACTION", "TRIED", "WHEN", "REASON"}
	}
	t := NewTable(heads...)
	left, last := c.Limit, ""
	for _, s := range stores {
		which := postgres.ParkedFilter{Fingerprint: c.Fingerprint, Discarded: discarded, Max: left}
		if after.store != nil {
			if s != after.store {
				continue // the pages go through the services in one order
			}
			which.After = after.id
			after.store = nil
		}
		if left == 0 {
			break
		}
		list, err := s.ParkedMessages(ctx, which)
		if err != nil {
			return err
		}
		for i := range list {
			m := &list[i]
			left--
			last = idOf(s, m.ID)
			if p.Globals.JSON {
				if err := p.PrintJSON(lineOfParked(s, m)); err != nil {
					return err
				}
				continue
			}
			next, why := nextOfMessage(s, m), oneLine(m.Cause, 100)
			if discarded {
				next, why = m.Resolved.Local().Format(time.DateTime), oneLine(m.Discarded, 100)
			}
			t.Row(last, m.Key, m.Event.ID(), m.Reaction, fmt.Sprint(m.Attempts), next, why)
		}
	}
	switch {
	case p.Globals.JSON:
	case last == "" && discarded:
		p.Println("Nothing was discarded.")
	case last == "":
		p.Println("Nothing is set aside.")
	default:
		t.Write(p.Stdout)
		if left == 0 && !discarded {
			p.Println("More: courante deadletter list --messages --after " + last)
		}
	}
	return nil
}

// nextOfMessage says what a message waits for.
func nextOfMessage(s *postgres.Store, m *postgres.ParkedMessage) string {
	switch {
	case m.Discarded != "":
		return "discarded"
	case !m.Resolved.IsZero():
		return "handled"
	case m.Head != m.ID:
		return "behind " + idOf(s, m.Head)
	case m.Cause == "":
		return "goes on at once"
	case m.RetryAt.IsZero():
		return "waits for you"
	}
	if in := time.Until(m.RetryAt); in > 0 {
		return "tried again in " + Short(in.Round(100*time.Millisecond))
	}
	return "tried again at once"
}
