//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// serverDir makes a folder that the account of the server can reach also when
// the tests run as root; t.TempDir is closed to others.
func serverDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "courante-server-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func startServer(t *testing.T, config ServerConfig) *Server {
	t.Helper()
	config.Logger = testLogger(t)
	config.Offline = true
	s, err := StartServer(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(context.Background()) })
	return s
}

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func stopServer(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatalf("stop: %v", err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// writeNote commits one row, which later has to be found by readNote.
func writeNote(t *testing.T, url, note string) {
	t.Helper()
	_, err := connect(t, url).Exec(t.Context(), `create table notes as select $1::text as note`, note)
	if err != nil {
		t.Fatal(err)
	}
}

func readNote(t *testing.T, url string) string {
	t.Helper()
	var note string
	if err := connect(t, url).QueryRow(t.Context(), `select note from notes`).Scan(&note); err != nil {
		t.Fatal(err)
	}
	return note
}

func postmaster(t *testing.T, s *Server) int {
	t.Helper()
	pid, _ := readPostmasterPid(s.data())
	if pid == 0 {
		t.Fatal("no postmaster.pid")
	}
	return pid
}

// await polls until the condition holds; the test's deadline is its limit.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	limit := time.After(time.Minute)
	for !condition() {
		select {
		case <-poll.C:
		case <-limit:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func TestServerKeepsDataOverARestart(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	first := startServer(t, ServerConfig{Dir: dir})
	for range 2 { // making it again is no error
		if err := first.CreateDatabase(t.Context(), `so-called "shop"`); err != nil {
			t.Fatal(err)
		}
	}
	url := first.URL(`so-called "shop"`)
	writeNote(t, url, "kept")
	stopServer(t, first)
	if err := first.Err(); err != nil {
		t.Errorf("Err after a clean stop = %v, want nil", err)
	}
	if pids, err := processesIn(first.data()); err != nil || len(pids) > 0 {
		t.Errorf("processes left after Stop: %v, %v", pids, err)
	}

	startServer(t, ServerConfig{Dir: dir})
	if got := readNote(t, url); got != "kept" {
		t.Errorf("note = %q, want %q", got, "kept")
	}
}

func TestServerComesBackWhenThePostmasterIsKilled(t *testing.T) {
	t.Parallel()
	s := startServer(t, ServerConfig{Dir: serverDir(t)})
	url := s.URL("postgres")
	writeNote(t, url, "committed")

	killed := postmaster(t, s)
	if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the server accepts connections again", func() bool {
		conn, err := pgx.Connect(t.Context(), url)
		if err == nil {
			conn.Close(t.Context())
		}
		return err == nil && postmaster(t, s) != killed
	})
	if got := readNote(t, url); got != "committed" {
		t.Errorf("note = %q, want %q", got, "committed")
	}
	select {
	case <-s.Done():
		t.Errorf("Done is closed after a crash that was recovered from; Err: %v", s.Err())
	default:
	}
}

func TestServerFolderHasOneOwner(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	startServer(t, ServerConfig{Dir: dir})
	_, err := StartServer(t.Context(), ServerConfig{Dir: dir, Offline: true})
	want := fmt.Sprintf("process %d uses this folder", os.Getpid())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("second start: got error %v, want one with %q", err, want)
	}
}

func TestServerStartsDespiteAStalePid(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	s := startServer(t, ServerConfig{Dir: dir})
	stopServer(t, s)

	// A program of the same user that got the number of the dead postmaster.
	other := exec.Command("sleep", "600")
	other.SysProcAttr = &syscall.SysProcAttr{Credential: s.account.credential()}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Process.Kill(); other.Wait() })
	stale := fmt.Sprintf("%d\n%s\n1\n5432\n\n\n\nready   \n", other.Process.Pid, s.data())
	file := filepath.Join(s.data(), "postmaster.pid")
	if err := os.WriteFile(file, []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.account.own(file); err != nil {
		t.Fatal(err)
	}

	startServer(t, ServerConfig{Dir: dir})
	if err := syscall.Kill(other.Process.Pid, 0); err != nil {
		t.Errorf("the innocent process is gone: %v", err)
	}
}

func TestServerOnTCPAsksForThePassword(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	s := startServer(t, ServerConfig{Dir: serverDir(t), Port: port})

	password, err := os.ReadFile(filepath.Join(s.dir, "password"))
	if err != nil {
		t.Fatal(err)
	}
	address := "@127.0.0.1:" + strconv.Itoa(port) + "/postgres?sslmode=disable"
	connect(t, "postgres://courante:"+strings.TrimSpace(string(password))+address)
	if conn, err := pgx.Connect(t.Context(), "postgres://courante:wrong"+address); err == nil {
		conn.Close(t.Context())
		t.Error("a wrong password was let in")
	}
}

func TestServerFolderMayHaveALongName(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(serverDir(t), strings.Repeat("long", 30)) // too long for the path of a socket
	s := startServer(t, ServerConfig{Dir: dir})
	url, socket := s.URL("postgres"), s.socket
	writeNote(t, url, "here")
	if got := readNote(t, url); got != "here" {
		t.Errorf("note = %q, want %q", got, "here")
	}
	stopServer(t, s)
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder %s of the socket is left behind: %v", socket, err)
	}
}
