package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

type upCommand struct {
	Listen string `default:"127.0.0.1:8080" placeholder:"HOST:PORT" env:"COURANTE_LISTEN" help:"Where to answer HTTP, by default ${default}; port 0 picks a free one (${env})."`
	deadlines
	parts
}

// Help teaches by example.
func (upCommand) Help() string {
	return `Sets up what is missing, starts everything, says what to try, and runs until Ctrl-C. The next start finds the data of this one. Mails go to files in the data folder.

Examples:

  courante up
  courante up --data /var/lib/courante --listen 0.0.0.0:80
  COURANTE_POSTGRES_URL=postgres://me@db/shop courante up     # a PostgreSQL of your own
  courante up --payment-deadline 2s                           # less patience, to see compensation
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 courante up   # traces to a collector

With --json, one line on standard output says when it is ready, and where.`
}

// ready is what up says, with --json, once it answers.
type ready struct {
	Ready   bool   `json:"ready"`
	URL     string `json:"url"`
	Data    string `json:"data"`
	Version string `json:"version"`
	PID     int    `json:"pid"`
}

// Run runs the system until ctx ends.
func (c *upCommand) Run(ctx context.Context, p *program) error {
	if err := errors.Join(c.deadlines.check(), c.parts.check()); err != nil {
		return err
	}
	s, err := startSystem(ctx, p, c)
	if err != nil {
		if ctx.Err() != nil {
			return context.Canceled // whoever ended it knows why it did not start
		}
		return err
	}
	if p.globals.JSON {
		err = p.printJSON(s.ready())
	} else {
		_, err = fmt.Fprint(p.stdout, s.welcome())
	}
	if err == nil {
		err = s.wait(ctx)
	}
	return errors.Join(err, s.stop(context.WithoutCancel(ctx)))
}

// dataDir makes the data folder. It is readable, because PostgreSQL refuses to
// run as root and then runs as another user; what is secret in it is not.
func (g *globals) dataDir() (string, error) {
	dir, err := filepath.Abs(g.Data)
	if err != nil {
		return "", fmt.Errorf("find the data folder: %w", err)
	}
	return dir, makeDir(dir)
}

// step says what up is doing, to the person who waits for it.
func (p *program) step(format string, args ...any) {
	if !p.globals.JSON {
		p.println("  " + fmt.Sprintf(format, args...))
	}
}

// short is a duration as people say it.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1ms"
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
