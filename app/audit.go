package app

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante/postgres"
)

// operator is who runs a command that changes something; such a command embeds
// it.
type operator struct {
	By string `placeholder:"NAME" env:"COURANTE_BY" help:"In whose name, for the audit log, beside your user name (${env})."`
}

func (o operator) operation(command, target string) postgres.Operation {
	return postgres.Operation{Who: whoami(), By: o.By, Command: command, Target: target}
}

// record runs what cannot be one transaction with its record: it is on record
// before it begins, and how it ended as soon as it did.
func record(ctx context.Context, db *postgres.Database, op postgres.Operation, act func() error) error {
	id, err := db.RecordOperation(ctx, op)
	if err != nil {
		return err
	}
	err = act()
	if op.ID, op.Outcome = id, postgres.OperationDone; err != nil {
		op.Outcome = err.Error()
	}
	// Whoever interrupts the act still leaves a record of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, failed := db.RecordOperation(ctx, op); failed != nil && err == nil {
		return fmt.Errorf("it is done, but the audit log does not say so: %w", failed)
	}
	return err
}

type auditCommand struct {
	Since string `default:"30d" placeholder:"TIME" help:"Only from then on: a time, or how long ago, such as 36h; by default ${default}."`
	Limit int    `default:"100" placeholder:"N" help:"The newest N, by default ${default}."`
}

// Help teaches by example.
func (auditCommand) Help() string {
	return `Every command that changes something leaves a line: who, in whose name (--by), when, what, to what, and how it ended. One that says neither done nor why not is under way, or was interrupted.

Examples:

  courante audit
  courante audit --since 2026-03-01T00:00:00Z --limit 1000
  courante audit --json | jq 'select(.command | startswith("deadletter"))'`
}

// auditLine is an operation as --json prints it.
type auditLine struct {
	ID      int64      `json:"id"`
	At      time.Time  `json:"at"`
	Ended   *time.Time `json:"ended"` // null: under way, or interrupted
	Who     string     `json:"who"`
	By      string     `json:"by,omitempty"`
	Command string     `json:"command"`
	Target  string     `json:"target"`
	Outcome string     `json:"outcome,omitempty"`
	Detail  any        `json:"detail"`
}

// Run prints what operators did, the newest first.
func (c *auditCommand) Run(ctx context.Context, p *Program) error {
	since, err := parseMoment(c.Since, time.Now())
	if err != nil {
		return UsageError{fmt.Errorf("--since %s is no time: give one such as %s, or how long ago, such as 36h or 30d", c.Since, time.Now().UTC().Format(time.RFC3339))}
	}
	if c.Limit < 1 {
		return UsageError{fmt.Errorf("--limit %d shows nothing; the least is 1", c.Limit)}
	}
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	list, err := v.db.Operations(ctx, since, c.Limit)
	if err != nil {
		return err
	}
	t := NewTable("WHEN", "WHO", "COMMAND", "TARGET", "OUTCOME", "DETAIL")
	for _, op := range list {
		line := auditLine{ID: op.ID, At: op.At, Who: op.Who, By: op.By, Command: op.Command, Target: op.Target, Outcome: op.Outcome, Detail: op.Detail}
		if !op.Ended.IsZero() {
			line.Ended = &op.Ended
		}
		if p.Globals.JSON {
			if err := p.PrintJSON(line); err != nil {
				return err
			}
			continue
		}
		t.Row(op.At.Local().Format(time.DateTime), line.who(), op.Command, op.Target, line.outcome(), line.detail())
	}
	if p.Globals.JSON {
		return nil
	}
	if len(list) == 0 {
		p.Println("Nothing is on record since " + since.Local().Format(time.DateTime) + ".")
		return nil
	}
	t.Write(p.Stdout)
	if len(list) == c.Limit {
		p.Println(fmt.Sprintf("These are the newest %d. Older ones: courante audit --limit %d", c.Limit, 10*c.Limit))
	}
	return nil
}

func (l auditLine) who() string {
	if l.By == "" {
		return l.Who
	}
	return l.By + " (" + l.Who + ")"
}

func (l auditLine) outcome() string {
	if l.Ended == nil {
		return "?"
	}
	return oneLine(l.Outcome, 60)
}

// detail is the JSON as people write it: from=now logs=[...].
func (l auditLine) detail() string {
	data, _ := l.Detail.(json.RawMessage)
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil || fields == nil {
		return ""
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, name+"="+strings.Trim(string(fields[name]), `"`))
	}
	return oneLine(strings.Join(parts, " "), 100)
}

// oneLine is the first line of a text, at most so many characters of it.
func oneLine(text string, most int) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}
