package main

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
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
  COURANTE_POSTGRES_URL=postgres://admin@db/shop courante migrate`
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
func (c *migrateCommand) Run(ctx context.Context, p *program) error {
	url, stop, err := p.databaseForWork(ctx)
	if err != nil {
		return err
	}
	defer stop()
	config := postgres.Config{URL: url, Logger: p.log}
	logs := map[string]fs.FS{}
	for _, s := range declaredShop() {
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
	if len(applied) == 0 && !p.globals.JSON {
		_, err := fmt.Fprintln(p.stdout, "Everything was applied before; nothing to do.")
		return err
	}
	return printMigrations(p, applied, false)
}

func printMigrations(p *program, list []postgres.Migration, pendingOnly bool) error {
	t := newTable("SCHEMA", "OF", "MIGRATION", "APPLIED")
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
		if p.globals.JSON {
			if err := p.printJSON(out); err != nil {
				return err
			}
			continue
		}
		t.row(m.Schema, m.Source, fmt.Sprintf("%03d %s", m.Version, m.Name), at)
	}
	if p.globals.JSON {
		return nil
	}
	if pendingOnly && pending == 0 {
		_, err := fmt.Fprintln(p.stdout, "Nothing to apply: the database is up to date.")
		return err
	}
	t.write(p.stdout)
	return nil
}

// databaseForWork returns the database of a running system, or, if none runs,
// starts the embedded server for as long as the command takes.
func (p *program) databaseForWork(ctx context.Context) (url string, stop func(), err error) {
	if url, err = p.globals.findDatabase(); err == nil {
		return url, func() {}, nil
	}
	dir, err := p.globals.dataDir()
	if err != nil {
		return "", nil, err
	}
	server, err := postgres.StartServer(ctx, postgres.ServerConfig{Dir: filepath.Join(dir, "postgres"), Logger: p.log})
	if err != nil {
		return "", nil, err
	}
	stop = func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), serverEnd)
		defer cancel()
		if err := server.Stop(limit); err != nil {
			p.log.Warn("PostgreSQL did not stop cleanly", "error", err)
		}
	}
	if err := server.CreateDatabase(ctx, databaseName); err != nil {
		stop()
		return "", nil, err
	}
	return server.URL(databaseName), stop, nil
}
