//go:build linux || darwin

package postgres

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	killOwner(t, dir)
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
	s := startServer(t, ServerConfig{Dir: dir})
	writeNote(t, s.URL("postgres"), "committed")
	stopServer(t, s)
	// A postmaster without anybody who holds the folder's lock.
	var err error
	if s.output, err = openBoundedLog(filepath.Join(dir, "orphan.log"), logLimit); err != nil {
		t.Fatal(err)
	}
	defer s.output.Close()
	orphan, err := s.start(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	next := startServer(t, ServerConfig{Dir: dir})
	<-orphan.exited
	if got := readNote(t, next.URL("postgres")); got != "committed" {
		t.Errorf("note = %q, want %q", got, "committed")
	}
}

// killOwner kills a process that has a server on dir, whose database holds one
// committed note.
func killOwner(t *testing.T, dir string) {
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
	owner.Process.Kill()
	owner.Wait()
	if err != nil || word != "ready" {
		t.Fatalf("the owner said %q, %v", word, err)
	}
}
