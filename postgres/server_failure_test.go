//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestServerThatDoesNotStayUpIsGivenUp(t *testing.T) {
	t.Parallel()
	s := startServer(t, ServerConfig{
		Dir:      serverDir(t),
		restarts: restartPolicy{first: time.Millisecond, max: time.Millisecond, tries: 3, stable: time.Hour},
	})
	if err := os.Remove(filepath.Join(s.data(), "global", "pg_control")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(postmaster(t, s), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "pg_control") {
		t.Errorf("Err = %v, want PostgreSQL's own words about pg_control", err)
	}
	if err := s.Stop(t.Context()); !errors.Is(err, s.Err()) {
		t.Errorf("Stop = %v, want the error of Err: %v", err, s.Err())
	}
	// The folder is free again.
	lock, err := lockServerDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

func TestStopEndsAServerThatDoesNotListen(t *testing.T) {
	t.Parallel()
	s := startServer(t, ServerConfig{Dir: serverDir(t)})
	// A stopped process answers no shutdown; only force ends it.
	pid := postmaster(t, s)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(over); err == nil || !strings.Contains(err.Error(), "by force") {
		t.Errorf("Stop = %v, want an error that says it took force", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the postmaster %d lives on: %v", pid, err)
	}
}

func TestStopRollsOpenTransactionsBack(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	s := startServer(t, ServerConfig{Dir: dir})
	url := s.URL("postgres")
	writeNote(t, url, "committed")
	tx, err := connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `update notes set note = 'never committed'`); err != nil {
		t.Fatal(err)
	}
	stopServer(t, s)
	startServer(t, ServerConfig{Dir: dir})
	if got := readNote(t, url); got != "committed" {
		t.Errorf("note = %q, want %q", got, "committed")
	}
}

func TestUnfinishedInitdbIsBegunAgain(t *testing.T) {
	t.Parallel()
	dir := serverDir(t)
	left := filepath.Join(dir, "data.new", "base")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, ServerConfig{Dir: dir})
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished folder is still there: %v", err)
	}
	if conn, err := pgx.Connect(t.Context(), s.URL("postgres")); err != nil {
		t.Error(err)
	} else {
		conn.Close(t.Context())
	}
}

func TestServerErrorsSayTheFix(t *testing.T) {
	t.Parallel()
	closed := t.TempDir() // 0700: nobody but its owner gets in
	odd := serverDir(t)
	if err := os.MkdirAll(filepath.Join(odd, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(odd, "data", "PG_VERSION"), []byte("9\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		rule   string
		config ServerConfig
		want   []string
		asRoot bool
	}{
		{rule: "all problems at once", config: ServerConfig{Port: -1, Settings: map[string]string{"Listen_Addresses": "*"}},
			want: []string{"Dir is empty", "Port is -1", "Listen_Addresses"}},
		{rule: "a folder without PostgreSQL", config: ServerConfig{Dir: serverDir(t), BinDir: "/nowhere"},
			want: []string{"BinDir", "/nowhere"}},
		{rule: "PostgreSQL's own words about a setting", config: ServerConfig{Dir: serverDir(t), Settings: map[string]string{"shared_buffers": "many"}},
			want: []string{"shared_buffers", "many"}},
		{rule: "data of a version that is not installed", config: ServerConfig{Dir: odd},
			want: []string{"written by PostgreSQL 9", "pg_upgrade"}},
		{rule: "a folder that the account cannot reach", config: ServerConfig{Dir: filepath.Join(closed, "pg")}, asRoot: true,
			want: []string{"refuses root", "chmod o+x " + filepath.Dir(closed)}},
	}
	for _, tt := range tests {
		if tt.asRoot && os.Geteuid() != 0 {
			continue // an ordinary user runs the server himself
		}
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			tt.config.Offline = true
			tt.config.Logger = testLogger(t)
			s, err := StartServer(t.Context(), tt.config)
			if err == nil {
				s.Stop(t.Context())
				t.Fatal("it started")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

func TestServerLogIsBounded(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "log")
	l, err := openBoundedLog(name, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	line := strings.Repeat("x", 39) + "\n"
	for range 10 {
		if n, err := l.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	for _, file := range []string{name, name + ".1"} {
		if b, err := os.ReadFile(file); err != nil || string(b) != line+line {
			t.Errorf("%s holds %q, %v; want two lines", filepath.Base(file), b, err)
		}
	}
	if got := l.lastWords(); !strings.HasSuffix(got, strings.TrimSpace(line)) {
		t.Errorf("last words = %q", got)
	}
}
