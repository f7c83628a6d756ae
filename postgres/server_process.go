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
	fastShutdown      = 30 * time.Second       // includes a checkpoint of up to shared_buffers
	immediateShutdown = 6 * time.Second        // the postmaster itself kills its backends after 5 s
	firstBackoff      = 100 * time.Millisecond // a crash is mostly a single one: come back at once
	maxBackoff        = 10 * time.Second
	stableAfter       = time.Minute // a server that ran so long starts afresh with backoff and tries
	maxTries          = 10          // about 40 s of backoff; then whoever watches Done should know
)

// supervise keeps the server running until ctx ends, then shuts it down.
func (s *Server) supervise(ctx context.Context, c *child) {
	defer close(s.done)
	defer s.release()
	backoff, tries, began := firstBackoff, 0, time.Now()
	for {
		var crash error
		if c != nil {
			select {
			case <-ctx.Done():
				s.err = c.shutdown(s.hurry)
				s.log.Info("PostgreSQL is stopped", "dir", s.dir)
				return
			case <-c.exited:
			}
			if time.Since(began) >= stableAfter {
				backoff, tries = firstBackoff, 0
			}
			crash = c.failure()
			s.log.Error("PostgreSQL ended unexpectedly and is started again", "dir", s.dir, "in", backoff, "error", crash)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff):
		}
		tries++
		backoff = min(2*backoff, maxBackoff)
		began = time.Now()
		next, err := s.start(ctx)
		switch {
		case err == nil:
			s.log.Info("PostgreSQL is ready again", "dir", s.dir, "pid", next.pid(), "took", time.Since(began))
		case ctx.Err() != nil:
			return
		case tries >= maxTries:
			s.err = fmt.Errorf("PostgreSQL in %s does not stay up, given up after %d tries: %w", s.dir, tries, errors.Join(crash, err))
			s.log.Error("PostgreSQL does not stay up and is given up", "dir", s.dir, "tries", tries, "error", err)
			return
		default:
			s.log.Error("PostgreSQL could not be started and is tried again", "dir", s.dir, "in", backoff, "error", err)
		}
		c = next
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
		c.shutdown(s.hurry)
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
		io.Copy(output, r)
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
