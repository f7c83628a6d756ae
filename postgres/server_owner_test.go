//go:build linux || darwin

package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// TestServerOwnerProcess is no test: it is what killOwner runs as another
// process.
func TestServerOwnerProcess(t *testing.T) {
	dir := os.Getenv("COURANTE_TEST_SERVER_OWNER")
	if dir == "" {
		return
	}
	s := startServer(t, ServerConfig{Dir: dir})
	writeNote(t, s.URL("postgres"), "committed")
	fmt.Println("ready")
	<-s.Done()
}

func TestServerGoesDownWithItsOwner(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	killOwner(t, dir, nil)
	if runtime.GOOS == "linux" { // elsewhere the kernel does not tell it
		await(t, "no process of the server is left", func() bool {
			pids, err := processesIn(filepath.Join(dir, "data"))
			return err == nil && len(pids) == 0
		})
	}
	s := startServer(t, ServerConfig{Dir: dir})
	if got := readNote(t, s.URL("postgres")); got != "committed" {
		t.Errorf("note = %q, want %q", got, "committed")
	}
}

func TestServerTakesOverFromAnOrphan(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	// Stopped, it cannot follow the kernel's signal before the next start
	// finds it. The start's warning is where it may go on.
	orphan := killOwner(t, dir, func(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) })
	found := false
	s, err := StartServer(t.Context(), ServerConfig{Dir: dir, Offline: true, Logger: slog.New(warnings{
		Handler: testLogger(t).Handler(),
		hook: func(slog.Record) {
			found = true
			syscall.Kill(orphan, syscall.SIGCONT)
		},
	})})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(context.Background())
	if got := readNote(t, s.URL("postgres")); got != "committed" {
		t.Errorf("note = %q, want %q", got, "committed")
	}
	if pid := postmaster(t, s); !found || pid == orphan {
		t.Errorf("the orphan %d was warned of: %t; postmaster now: %d", orphan, found, pid)
	}
}

// warnings calls the hook before each warning is logged.
type warnings struct {
	slog.Handler
	hook func(slog.Record)
}

func (w warnings) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn {
		w.hook(r)
	}
	return w.Handler.Handle(ctx, r)
}

// killOwner kills a process that has a server on dir, and returns the
// postmaster that it leaves, which before has seen, if it is not nil. The server
// holds one committed note.
func killOwner(t *testing.T, dir string, before func(postmaster int) error) (orphan int) {
	t.Helper()
	owner := exec.Command(os.Args[0], "-test.run=^TestServerOwnerProcess$")
	owner.Env = append(os.Environ(), "COURANTE_TEST_SERVER_OWNER="+dir)
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var word string
	_, err = fmt.Fscan(out, &word)
	orphan, _ = readPostmasterPid(filepath.Join(dir, "data"))
	if before != nil && err == nil {
		err = before(orphan)
	}
	owner.Process.Kill()
	owner.Wait()
	if err != nil || word != "ready" || orphan == 0 {
		t.Fatalf("the owner said %q, %v; postmaster %d", word, err, orphan)
	}
	return orphan
}

