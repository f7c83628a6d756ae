//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	fastShutdown      = 30 * time.Second // includes a checkpoint of up to shared_buffers
	immediateShutdown = 6 * time.Second  // the postmaster itself kills its backends after 5 s
)

// restartPolicy says how long a server that keeps dying is started again.
type restartPolicy struct {
	first, max time.Duration // wait before the first restart; it doubles up to max
	tries      int           // restarts in a row before giving up
	stable     time.Duration // a run of this length ends the row
}

// A crash is mostly a single one, so the server comes back at once; about 40 s
// of trying later whoever watches Done should know.
var defaultRestarts = restartPolicy{first: 100 * time.Millisecond, max: 10 * time.Second, tries: 10, stable: time.Minute}

// supervise keeps the server running until ctx ends, then shuts it down.
func (s *Server) supervise(ctx context.Context, c *child) {
	defer close(s.done)
	defer s.release()
	wait, tries, began := s.restarts.first, 0, time.Now()
	for {
		select {
		case <-ctx.Done():
			if s.err = c.shutdown(s.hurry); s.err == nil {
				s.log.Info("PostgreSQL is stopped", "dir", s.dir)
			}
			return // Stop returns the error to who asked for it
		case <-c.exited:
		}
		if time.Since(began) >= s.restarts.stable {
			wait, tries = s.restarts.first, 0
		}
		err := c.failure()
		for c = nil; c == nil; {
			if tries == s.restarts.tries {
				s.err = fmt.Errorf("PostgreSQL in %s does not stay up, given up after %d restarts: %w", s.dir, tries, err)
				s.log.Error("PostgreSQL does not stay up and is given up", "dir", s.dir, "restarts", tries, "error", err)
				return
			}
			s.log.Error("PostgreSQL is down and is started again", "dir", s.dir, "in", wait, "error", err)
			select {
			case <-ctx.Done():
				return // down is what was asked for
			case <-time.After(wait):
			}
			wait, tries, began = min(2*wait, s.restarts.max), tries+1, time.Now()
			c, err = s.start(ctx)
			if err != nil && ctx.Err() != nil {
				return // Stop came while it was starting, and start has ended it
			}
			if err == nil {
				s.log.Info("PostgreSQL is ready again", "dir", s.dir, "pid", c.pid(), "took", time.Since(began))
			}
		}
	}
}

// start runs postgres and returns when it accepts connections.
func (s *Server) start(ctx context.Context) (*child, error) {
	if err := s.clearOrphans(ctx); err != nil {
		return nil, err
	}
	args := append([]string{"-D", s.data(), "-p", strconv.Itoa(s.port)}, arguments(s.settings)...)
	s.output.forget()
	c, err := launch(s.command("postgres", args...), s.output)
	if err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx, c); err != nil {
		_ = c.shutdown(s.hurry) // err is why
		return nil, err
	}
	return c, nil
}

// command prepares a program of PostgreSQL to run as the server's account.
func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.binaries.dir, program), args...)
	cmd.Dir = s.dir // our own folder may be closed to the account
	// Nothing is inherited: a stray PGPORT or LANG would change the server.
	// macOS needs some locale to be named, or the postmaster refuses to start.
	cmd.Env = []string{"LC_ALL=C"}
	cmd.SysProcAttr = serverAttributes(s.account)
	return cmd
}

// awaitReady waits for the word "ready" in postmaster.pid, which is what
// pg_ctl --wait looks for: it says so without a connection, in any language.
func (s *Server) awaitReady(ctx context.Context, c *child) error {
	poll := time.NewTicker(5 * time.Millisecond) // start-up takes about 60 ms
	defer poll.Stop()
	news := time.NewTicker(5 * time.Second)
	defer news.Stop()
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.exited:
			return c.failure()
		case <-news.C:
			s.log.InfoContext(ctx, "PostgreSQL is recovering from a crash", "dir", s.dir, "since", time.Since(began).Round(time.Second))
		case <-poll.C:
			if pid, status := readPostmasterPid(s.data()); pid == c.pid() && status == "ready" {
				return nil
			}
		}
	}
}

// readPostmasterPid returns the process id and the status that the postmaster
// wrote into its lock file; 0 if there is none.
func readPostmasterPid(data string) (pid int, status string) {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, ""
	}
	lines := strings.Split(string(b), "\n")
	pid, err = strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return 0, ""
	}
	if len(lines) > 7 { // LOCK_FILE_LINE_PM_STATUS is the eighth
		status = strings.TrimSpace(lines[7])
	}
	return pid, status
}

// child is one run of the postmaster.
type child struct {
	cmd     *exec.Cmd
	output  *boundedLog
	exited  chan struct{} // closed when the process is gone
	drained chan struct{} // closed when all that it said is in output
	status  error         // set before exited is closed
}

func launch(cmd *exec.Cmd, output *boundedLog) (*child, error) {
	// A pipe of our own: with exec's, Wait would wait for backends that
	// survive the postmaster, too.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	c := &child{cmd: cmd, output: output, exited: make(chan struct{}), drained: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the *thread* that
		// forked ends, so this goroutine keeps its thread as long as the
		// child lives. Ending locked, it takes the thread with it.
		runtime.LockOSThread()
		err := cmd.Start()
		w.Close()
		started <- err
		if err == nil {
			c.status = cmd.Wait()
			close(c.exited)
		}
	}()
	if err := <-started; err != nil {
		r.Close()
		return nil, err
	}
	go func() {
		defer close(c.drained)
		defer r.Close()
		_, _ = io.Copy(output, r) // a read fails only when nobody can write any more
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// failure is why the child ended by itself: its exit and its last words.
func (c *child) failure() error {
	select {
	case <-c.drained:
	case <-time.After(time.Second): // a backend still holds the pipe: what came so far must do
	}
	status := c.status
	if status == nil {
		status = errors.New("exit status 0")
	}
	if words := c.output.lastWords(); words != "" {
		return fmt.Errorf("postgres: %w; it said:\n%s", status, words)
	}
	return fmt.Errorf("postgres: %w", status)
}

// shutdown ends the child: fast, then at once, then by force. It returns nil
// if it ended by itself and cleanly.
func (c *child) shutdown(hurry <-chan struct{}) error {
	c.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-c.exited:
	case <-hurry:
	case <-time.After(fastShutdown):
	}
	c.cmd.Process.Signal(syscall.SIGQUIT) // no-op when it has exited
	select {
	case <-c.exited:
	case <-time.After(immediateShutdown):
		// By group, for whatever the postmaster forked just now. Its backends
		// lead groups of their own and end when they miss the postmaster.
		syscall.Kill(-c.pid(), syscall.SIGKILL)
		<-c.exited
	}
	if c.status != nil {
		return fmt.Errorf("stop PostgreSQL: it had to be ended by force, the next start recovers: %w", c.failure())
	}
	<-c.drained
	return nil
}
