package app

import (
	"fmt"
	"io"
	"strings"

	"github.com/courante-dev/courante/schema"
)

type schemaCommand struct {
	Export schemaExportCommand `cmd:"" help:"Write the JSON Schema of every event type to a folder."`
	Check  schemaCheckCommand  `cmd:"" help:"Say whether the code still reads what is stored, and writes what others read."`
}

// Help teaches by example.
func (schemaCommand) Help() string {
	return `Events are kept for ever and read in other languages. Their schemas are made from the Go types and kept as files, one for each type and schema version; a change that breaks stored events or their readers is found before it is deployed. This needs no running system.

Examples:

  courante schema check
  courante schema export
  courante schema export --event {event}`
}

type schemaExportCommand struct {
	Out   string `default:"docs/schemas" placeholder:"DIR" help:"The folder, by default ${default}."`
	Event string `placeholder:"TYPE" help:"Only print the schema of this event type."`
}

// Help teaches by example.
func (schemaExportCommand) Help() string {
	return `Files of older schema versions, and of event types that are gone, stay: there are events of them.

The file of a type that breaks stored events or their readers stays as it is, and the command fails. Raise the type's schema version; if nobody has such events yet, delete the file first.

Examples:

  courante schema export
  courante schema export --out /srv/schemas
  courante schema export --event {event} | jq .required`
}

// Run writes the files, or prints one schema.
func (c *schemaExportCommand) Run(p *Program) error {
	if c.Event == "" {
		findings, err := schema.Export(c.Out, p.app.Declare()...)
		if err != nil {
			return err
		}
		return p.printFindings(findings, c.Out, false)
	}
	for _, svc := range p.app.Declare() {
		for _, t := range svc.Events() {
			if t.Name != c.Event {
				continue
			}
			s, err := schema.Of(svc.Name(), t)
			if err != nil {
				return err
			}
			return p.PrintJSON(s)
		}
	}
	return UsageError{fmt.Errorf("no service emits %q; courante routes lists the event types", c.Event)}
}

type schemaCheckCommand struct {
	Dir string `default:"docs/schemas" placeholder:"DIR" help:"The folder with the files, by default ${default}."`
}

// Help teaches by example.
func (schemaCheckCommand) Help() string {
	return `Compares the event types of this program with the schemas that were exported, and has it read the stored examples of every version beside them. It fails if a type breaks stored events or their readers, or is not written down.

Examples:

  courante schema check
  courante schema check --json | jq 'select(.state == "breaks")'`
}

// Run prints what differs, and fails if something does.
func (c *schemaCheckCommand) Run(p *Program) error {
	findings, err := schema.Check(c.Dir, p.app.Declare()...)
	if err != nil {
		return err
	}
	return p.printFindings(findings, c.Dir, true)
}

// printFindings prints what differs and a sum. It fails if a type breaks, or,
// when checking, if anything differs.
func (p *Program) printFindings(findings []schema.Finding, folder string, checking bool) error {
	var same, breaks, other int
	for _, f := range findings {
		switch f.State {
		case schema.Same:
			same++
		case schema.Breaks:
			breaks++
		default:
			other++
		}
		if p.Globals.JSON {
			if err := p.PrintJSON(f); err != nil {
				return err
			}
		}
	}
	if !p.Globals.JSON {
		printDifferences(p.Stdout, findings)
		fmt.Fprintf(p.Stdout, "%d event types: %d as in %s", len(findings), same, folder)
		switch {
		case other > 0 && checking:
			fmt.Fprintf(p.Stdout, ", %d not written down yet (courante schema export does)", other)
		case other > 0:
			fmt.Fprintf(p.Stdout, ", %d written", other)
		}
		if breaks > 0 {
			fmt.Fprintf(p.Stdout, ", %d break", breaks)
		}
		fmt.Fprintln(p.Stdout)
	}
	if breaks > 0 || checking && other > 0 {
		return ErrReported
	}
	return nil
}

func printDifferences(w io.Writer, findings []schema.Finding) {
	for _, f := range findings {
		if f.State == schema.Same {
			continue
		}
		fmt.Fprintf(w, "%s version %d: %s\n", f.Event, f.Version, f.State)
		for _, change := range f.Changes {
			where := change.Path
			if where == "" {
				where = "the event"
			}
			who := ""
			if change.Breaks != schema.Nobody {
				who = " (breaks " + string(change.Breaks) + ")"
			}
			fmt.Fprintf(w, "  %s: %s%s\n", where, change.Detail, who)
		}
		if f.State == schema.Breaks {
			fmt.Fprintf(w, "  fix: %s\n", strings.TrimSpace(f.Fix))
		}
	}
}
