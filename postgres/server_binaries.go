//go:build linux || darwin

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Supported majors of PostgreSQL. 15 is the oldest that Debian stable's
// predecessor ships; the ticker needs xid8 and pg_current_snapshot, which are
// there from 13 on.
const (
	MinServerMajor = 15
	MaxServerMajor = 18
)

// binaries are one installation of PostgreSQL.
type binaries struct {
	dir     string // folder of initdb and postgres
	version string // "15.18"
	major   int
}

// places are where packages install PostgreSQL; %d is the major.
var places = []string{
	"/usr/lib/postgresql/%d/bin",          // Debian, Ubuntu
	"/usr/pgsql-%d/bin",                   // the project's packages for Red Hat
	"/usr/libexec/postgresql%d",           // Alpine
	"/opt/homebrew/opt/postgresql@%d/bin", // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@%d/bin",    // Homebrew on Intel
	"/Library/PostgreSQL/%d/bin",          // EDB's installer
}

// findBinaries chooses the installation to run: of the major that wrote the
// data, or else the newest supported one.
func (s *Server) findBinaries(ctx context.Context, config ServerConfig) (binaries, error) {
	written, err := dataMajor(s.data())
	if err != nil {
		return binaries{}, err
	}
	if config.BinDir != "" {
		return givenBinaries(ctx, config.BinDir, written)
	}
	var best binaries
	for _, dir := range candidates() {
		b, err := inspectBinaries(ctx, dir)
		if err != nil || b.supports(written) != nil {
			continue // incomplete or unsuitable: another one may do
		}
		if b.major > best.major {
			best = b
		}
	}
	if best.major != 0 {
		return best, nil
	}
	return s.fetchedBinaries(ctx, config, written)
}

func givenBinaries(ctx context.Context, dir string, written int) (binaries, error) {
	dir, err := filepath.Abs(dir) // the server's working folder is another one
	if err != nil {
		return binaries{}, err
	}
	b, err := inspectBinaries(ctx, dir)
	if err != nil {
		return binaries{}, fmt.Errorf("ServerConfig.BinDir: %w", err)
	}
	if err := b.supports(written); err != nil {
		return binaries{}, fmt.Errorf("ServerConfig.BinDir: %w", err)
	}
	return b, nil
}

// dataMajor is the major that made the data folder, 0 if there is none yet.
func dataMajor(data string) (int, error) {
	b, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("%s/PG_VERSION: %w", data, err)
	}
	return major, nil
}

func candidates() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil { // initdb lies beside the true one
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for major := MaxServerMajor; major >= MinServerMajor; major-- {
		for _, place := range places {
			dirs = append(dirs, fmt.Sprintf(place, major))
		}
	}
	return dirs
}

// inspectBinaries checks that the folder holds what a server needs.
func inspectBinaries(ctx context.Context, dir string) (binaries, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return binaries{}, err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return binaries{}, fmt.Errorf("%s/postgres --version: %w", dir, err)
	}
	// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "postgres (PostgreSQL) 18beta1"
	fields := strings.Fields(string(out))
	if len(fields) < 3 {
		return binaries{}, fmt.Errorf("%s/postgres --version said %q", dir, out)
	}
	version := fields[2]
	digits := len(version) - len(strings.TrimLeft(version, "0123456789"))
	major, err := strconv.Atoi(version[:digits])
	if err != nil {
		return binaries{}, fmt.Errorf("%s/postgres --version said %q", dir, out)
	}
	return binaries{dir: dir, version: version, major: major}, nil
}

// supports says whether the binaries can serve data written by that major, or
// new data if it is 0.
func (b binaries) supports(written int) error {
	if written != 0 && written != b.major {
		return wrongMajor(written, fmt.Sprintf("PostgreSQL %s in %s cannot read it", b.version, b.dir))
	}
	if b.major < MinServerMajor || b.major > MaxServerMajor {
		return fmt.Errorf("PostgreSQL %s in %s is not supported: majors %d to %d are", b.version, b.dir, MinServerMajor, MaxServerMajor)
	}
	return nil
}

func wrongMajor(written int, but string) error {
	return fmt.Errorf("the data was written by PostgreSQL %d and %s: install that version, "+
		"or move the data with pg_dump and psql, or pg_upgrade", written, but)
}

// installHint is the fix for a machine without PostgreSQL.
func installHint() string {
	majors := make([]string, 0, MaxServerMajor-MinServerMajor+1)
	for major := MinServerMajor; major <= MaxServerMajor; major++ {
		majors = append(majors, strconv.Itoa(major))
	}
	slices.Reverse(majors)
	return "install PostgreSQL (" + strings.Join(majors, ", ") + "; on Debian and Ubuntu: apt-get install postgresql, " +
		"on macOS: brew install postgresql@18), or name the folder of initdb and postgres"
}
