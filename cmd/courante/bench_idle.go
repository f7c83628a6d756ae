package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/courante-dev/courante/postgres"

	"github.com/courante-dev/courante/app"
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
func (c *benchIdleCommand) Run(ctx context.Context, p *app.Program) error {
	if c.Seconds < 1 {
		return app.UsageError{Err: errors.New("--seconds must be at least 1")}
	}
	if _, err := p.Globals.Connection(); errors.Is(err, fs.ErrNotExist) {
		_, stop, err := startChild(ctx, p, p.Globals.Data, p.Stderr)
		if err != nil {
			return err
		}
		defer stop()
	}
	system, err := p.Globals.Connection()
	if err != nil {
		return err
	}
	if _, err := readStat(system.PID); err != nil {
		return fmt.Errorf("the system on %s does not run any more; start it with \"courante up\"", p.Globals.Data)
	}
	postmaster, err := postmasterOf(ctx, p, system.URL)
	if err != nil {
		return err
	}
	return c.look(ctx, p, system.PID, postmaster)
}

func (c *benchIdleCommand) look(ctx context.Context, p *app.Program, pid, postmaster int) error {
	measure := func() (program, server time.Duration, err error) {
		s, err := readStat(pid)
		if err != nil {
			return 0, 0, err
		}
		server, err = cpuOfServer(postmaster)
		return s.own, server, err
	}
	p.Progress("looking for %d s", c.Seconds)
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
	if p.Globals.JSON {
		return p.PrintJSON(r)
	}
	_, err = fmt.Fprintf(p.Stdout, "%.2f%% of a core: %.2f s of CPU in %.0f s (program %.2f s, PostgreSQL %.2f s)\n", r.Percent, r.CPU, r.Seconds, r.Program, r.PostgreSQL)
	return err
}

// startChild runs the system of a data folder as a program of its own, so that
// its CPU time is not ours, until stop. log gets what it says.
func startChild(ctx context.Context, p *app.Program, data string, log io.Writer, args ...string) (ready app.Ready, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return ready, nil, err
	}
	args = append([]string{"up", "--json", "--data", data, "--listen", "127.0.0.1:0"}, args...)
	up := exec.CommandContext(context.WithoutCancel(ctx), self, args...)
	up.Stderr = log
	out, err := up.StdoutPipe()
	if err != nil {
		return ready, nil, err
	}
	p.Progress("starting the system")
	if err := up.Start(); err != nil {
		return ready, nil, err
	}
	stop = func() {
		_ = up.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := up.Wait(); err != nil {
			p.Log.Warn("the system did not stop cleanly", "error", err)
		}
	}
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		stop()
		return ready, nil, errors.New("the system did not start; it said why above")
	}
	return ready, stop, nil
}

func postmasterOf(ctx context.Context, p *app.Program, url string) (int, error) {
	db, err := postgres.OpenExisting(ctx, postgres.Config{URL: url, MaxConns: 2, Logger: p.Log})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return findPostmaster(ctx, db)
}
