package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/postgres"
)

// ordersDatabase is a database of the bench's own on some server: "verify" looks
// for the shop where it always is, so a schema of its own would not do.
type ordersDatabase struct {
	p          *app.Program
	admin      *pgxpool.Pool // on another database of the server, to make and drop it
	name       string
	url        string
	pool       *pgxpool.Pool // for what is no part of the system
	postmaster int
	statements bool // pg_stat_statements is there
	stopServer func()
}

func openOrdersDatabase(ctx context.Context, p *app.Program, statements bool) (_ *ordersDatabase, err error) {
	d := &ordersDatabase{p: p, name: "bench_" + strings.ToLower(rand.Text()[:8]), statements: statements, stopServer: func() {}}
	defer func() {
		if err != nil {
			d.close(ctx)
		}
	}()
	url, err := d.server(ctx)
	if err != nil {
		return nil, err
	}
	if d.admin, err = pgxpool.New(ctx, url); err != nil {
		return nil, err
	}
	if _, err := d.admin.Exec(ctx, "create database "+d.name); err != nil {
		return nil, fmt.Errorf("make a database for the bench: %w", err)
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.Database = d.name
	if d.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	// Later settings of a connection string win, in both of its forms.
	if d.url = url + " dbname=" + d.name; strings.Contains(url, "://") {
		d.url = url + "&dbname=" + d.name
		if !strings.Contains(url, "?") {
			d.url = url + "?dbname=" + d.name
		}
	}
	if statements {
		if _, err := d.pool.Exec(ctx, "create extension pg_stat_statements"); err != nil {
			return nil, fmt.Errorf("count statements: %w", err)
		}
	}
	db, err := postgres.Open(ctx, postgres.Config{URL: d.url, Logger: p.Log})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	d.postmaster, err = findPostmaster(ctx, db)
	return d, err
}

// server returns the URL of the server to work on. To count statements it needs
// one with a library that our own servers do not load.
func (d *ordersDatabase) server(ctx context.Context) (string, error) {
	if !d.statements {
		url, stop, err := d.p.DatabaseForWork(ctx)
		if err == nil {
			d.stopServer = stop
		}
		return url, err
	}
	dir, err := d.p.Globals.DataDir()
	if err != nil {
		return "", err
	}
	server, err := postgres.StartServer(ctx, postgres.ServerConfig{
		Dir: filepath.Join(dir, "postgres"), Logger: d.p.Log,
		Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track": "top"},
	})
	if err != nil {
		return "", err
	}
	d.stopServer = func() {
		if err := server.Stop(context.WithoutCancel(ctx)); err != nil {
			d.p.Log.Warn("PostgreSQL did not stop cleanly", "error", err)
		}
	}
	return server.URL("postgres"), nil
}

// close drops the database, also after Ctrl-C.
func (d *ordersDatabase) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if d.pool != nil {
		d.pool.Close()
	}
	if d.admin != nil {
		if _, err := d.admin.Exec(ctx, "drop database if exists "+pgx.Identifier{d.name}.Sanitize()+" with (force)"); err != nil {
			d.p.Log.Warn("the bench's database is still there", "name", d.name, "error", err)
		}
		d.admin.Close()
	}
	d.stopServer()
}
