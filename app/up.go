package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type upCommand struct {
	Listen string       `default:"127.0.0.1:8080" placeholder:"HOST:PORT" env:"COURANTE_LISTEN" help:"Where to answer HTTP, by default ${default}; port 0 picks a free one (${env})."`
	Debug  string       `name:"debug-listen" placeholder:"HOST:PORT" env:"COURANTE_DEBUG_LISTEN" help:"Where to answer Go's profiler, for people who may see everything; by default nowhere (${env})."`
	Own    kong.Plugins `embed:""` // flags of the program's own
	wires
	caching
	upkeep
}

// Help teaches by example.
func (upCommand) Help() string {
	return `Sets up what is missing, starts everything, says what to try, and runs until Ctrl-C. The next start finds the data of this one.

Examples:

  courante up
  courante up --data /var/lib/courante --listen 0.0.0.0:80
  COURANTE_POSTGRES_URL=postgres://me@db/main courante up         # a PostgreSQL of your own
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 courante up   # traces to a collector

With --json, one line on standard output says when it is ready, and where.`
}

// Ready is what up says, with --json, once it answers.
type Ready struct {
	Ready   bool   `json:"ready"`
	URL     string `json:"url"`
	Data    string `json:"data"`
	Version string `json:"version"`
	PID     int    `json:"pid"`
	Debug   string `json:"debug_url,omitempty"` // of Go's profiler, if it is served
}

// Run runs the system until ctx ends.
func (c *upCommand) Run(ctx context.Context, p *Program) error {
	return p.runSystem(ctx, &role{listen: c.Listen, debug: c.Debug, wires: c.wires, caching: c.caching, upkeep: c.upkeep})
}

// runSystem runs what the role says until ctx ends.
func (p *Program) runSystem(ctx context.Context, r *role) error {
	if err := errors.Join(p.checkOwn(), r.upkeep.check()); err != nil {
		return err
	}
	s, err := startSystem(ctx, p, r)
	if err != nil {
		if ctx.Err() != nil {
			return context.Canceled // whoever ended it knows why it did not start
		}
		return err
	}
	if p.Globals.JSON {
		err = p.PrintJSON(s.ready())
	} else {
		text := s.welcome()
		if len(r.services)+len(r.relays) > 0 {
			text = fmt.Sprintf("\n%s is ready at %s\n", strings.Join(slices.Concat(r.services, r.relays), ", "), s.url())
		}
		_, err = fmt.Fprint(p.Stdout, p.own(text))
	}
	if err == nil {
		err = s.wait(ctx)
	}
	return errors.Join(err, s.stop(context.WithoutCancel(ctx)))
}

// checkOwn has the program check its own flags.
func (p *Program) checkOwn() error {
	flags, ok := p.app.Flags.(interface{ Check() error })
	if !ok {
		return nil
	}
	if err := flags.Check(); err != nil {
		return UsageError{err}
	}
	return nil
}

// DataDir makes the data folder. It is readable, because PostgreSQL refuses to
// run as root and then runs as another user; what is secret in it is not.
func (g *Globals) DataDir() (string, error) {
	dir, err := filepath.Abs(g.Data)
	if err != nil {
		return "", fmt.Errorf("find the data folder: %w", err)
	}
	return dir, makeDir(dir)
}

// Step says what up is doing, to the person who waits for it.
func (p *Program) Step(format string, args ...any) {
	if !p.Globals.JSON {
		p.Println("  " + fmt.Sprintf(format, args...))
	}
}
