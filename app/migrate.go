package app

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/courante-dev/courante/postgres"
)

type migrateCommand struct {
	Action string `arg:"" optional:"" enum:"up,status" default:"up" help:"up applies what is missing, status only lists it."`
	DryRun bool   `help:"Say what would be applied, and change nothing."`
}

// Help teaches by example.
func (migrateCommand) Help() string {
	return `"courante up" migrates by itself. This is for those who want it done, or seen, before the new version starts: migrations only go forward, and leave the version that runs working.

Examples:

  courante migrate status
  courante migrate --dry-run
  COURANTE_POSTGRES_URL=postgres://admin@db/main courante migrate`
}

// migration is a migration as --json prints it.
type migration struct {
	Schema  string     `json:"schema"`
	Source  string     `json:"source"` // "courante", or "context" for the context's own
	Version int        `json:"version"`
	Name    string     `json:"name"`
	Applied *time.Time `json:"applied"` // null: not yet
}

// Run migrates, or says what that would do.
func (c *migrateCommand) Run(ctx context.Context, p *Program) error {
	url, stop, err := p.DatabaseForWork(ctx)
	if err != nil {
		return err
	}
	defer stop()
	config := postgres.Config{URL: url, Logger: p.Log}
	logs := map[string]fs.FS{}
	for _, s := range p.app.Declare() {
		logs[s.Name()] = s.Migrations()
	}
	before, err := postgres.Inspect(ctx, config, logs)
	if err != nil {
		return err
	}
	if c.DryRun || c.Action == "status" {
		return printMigrations(p, before, c.Action != "status")
	}
	db, err := postgres.Open(ctx, config)
	if err != nil {
		return err
	}
	defer db.Close()
	for log, own := range logs {
		store, err := db.Store(ctx, log)
		if err != nil {
			return err
		}
		if own == nil {
			continue
		}
		if err := db.MigrateSchema(ctx, store.Schema(), own); err != nil {
			return err
		}
	}
	after, err := postgres.Inspect(ctx, config, logs)
	if err != nil {
		return err
	}
	var applied []postgres.Migration
	for i, m := range after {
		if !m.Applied.IsZero() && (i >= len(before) || before[i].Applied.IsZero()) {
			applied = append(applied, m)
		}
	}
	if len(applied) == 0 && !p.Globals.JSON {
		_, err := fmt.Fprintln(p.Stdout, "Everything was applied before; nothing to do.")
		return err
	}
	return printMigrations(p, applied, false)
}

func printMigrations(p *Program, list []postgres.Migration, pendingOnly bool) error {
	t := NewTable("SCHEMA", "OF", "MIGRATION", "APPLIED")
	pending := 0
	for _, m := range list {
		if !m.Applied.IsZero() && pendingOnly {
			continue
		}
		at := "not yet"
		out := migration{Schema: m.Schema, Source: m.Source, Version: m.Version, Name: m.Name}
		if m.Applied.IsZero() {
			pending++
		} else {
			at, out.Applied = m.Applied.Local().Format(time.DateTime), &m.Applied
		}
		if p.Globals.JSON {
			if err := p.PrintJSON(out); err != nil {
				return err
			}
			continue
		}
		t.Row(m.Schema, m.Source, fmt.Sprintf("%03d %s", m.Version, m.Name), at)
	}
	if p.Globals.JSON {
		return nil
	}
	if pendingOnly && pending == 0 {
		_, err := fmt.Fprintln(p.Stdout, "Nothing to apply: the database is up to date.")
		return err
	}
	t.Write(p.Stdout)
	return nil
}
