package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/courante-dev/courante/postgres"
)

type benchIdleCommand struct {
	Seconds int `default:"30" help:"How long to look."`
}

// Help teaches by example.
func (benchIdleCommand) Help() string {
	return `Counts the CPU time of the running system and of its PostgreSQL, from /proc. If none runs on the data folder, it starts one for as long as it looks.

Examples:

  courante bench idle
  courante bench idle --seconds 300 --json`
}

// idleResult is what the bench prints with --json.
type idleResult struct {
	Bench      string  `json:"bench"`
	Seconds    float64 `json:"seconds"`
	CPU        float64 `json:"cpu_s"`
	Percent    float64 `json:"cpu_percent"` // of one core
	Program    float64 `json:"program_cpu_s"`
	PostgreSQL float64 `json:"postgresql_cpu_s"`
	Checks     string  `json:"checks"`
}

// Run looks at a running system for a while.
func (c *benchIdleCommand) Run(ctx context.Context, p *program) error {
	if c.Seconds < 1 {
		return usageError{errors.New("--seconds must be at least 1")}
	}
	pid, err := p.runningPID()
	if errors.Is(err, fs.ErrNotExist) {
		s, err := startSystem(ctx, p, &upCommand{Listen: "127.0.0.1:0", deadlines: deadlines{time.Minute, time.Minute, time.Hour}})
		if err != nil {
			return err
		}
		defer func() {
			if err := s.stopQuietly(context.WithoutCancel(ctx)); err != nil {
				p.log.Warn("the system did not stop cleanly", "error", err)
			}
		}()
		pid = os.Getpid()
	} else if err != nil {
		return err
	}
	postmaster, err := p.postmaster(ctx)
	if err != nil {
		return err
	}
	return c.look(ctx, p, pid, postmaster)
}

func (c *benchIdleCommand) look(ctx context.Context, p *program, pid, postmaster int) error {
	measure := func() (program, server time.Duration, err error) {
		s, err := readStat(pid)
		if err != nil {
			return 0, 0, err
		}
		server, err = cpuOfServer(postmaster)
		return s.own, server, err
	}
	p.progress("looking for %d s", c.Seconds)
	program, server, err := measure()
	if err != nil {
		return err
	}
	start := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(c.Seconds) * time.Second):
	}
	elapsed := time.Since(start).Seconds()
	programNow, serverNow, err := measure()
	if err != nil {
		return err
	}
	r := idleResult{Bench: "idle", Seconds: elapsed, Program: (programNow - program).Seconds(), PostgreSQL: (serverNow - server).Seconds(), Checks: "ok"}
	r.CPU = r.Program + r.PostgreSQL
	r.Percent = 100 * r.CPU / elapsed
	if p.globals.JSON {
		return p.printJSON(r)
	}
	_, err = fmt.Fprintf(p.stdout, "%.2f%% of a core: %.2f s of CPU in %.0f s (program %.2f s, PostgreSQL %.2f s)\n", r.Percent, r.CPU, r.Seconds, r.Program, r.PostgreSQL)
	return err
}

// runningPID is the process that runs the system of the data folder.
func (p *program) runningPID() (int, error) {
	text, err := os.ReadFile(filepath.Join(p.globals.Data, connectionFile))
	if err != nil {
		return 0, err
	}
	var c connection
	if err := json.Unmarshal(text, &c); err != nil {
		return 0, err
	}
	_, err = readStat(c.PID)
	return c.PID, err // not there: it was killed and left its file
}

func (p *program) postmaster(ctx context.Context) (int, error) {
	url, err := p.globals.findDatabase()
	if err != nil {
		return 0, err
	}
	db, err := postgres.Open(ctx, postgres.Config{URL: url, MaxConns: 2, Logger: p.log})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return findPostmaster(ctx, db)
}
