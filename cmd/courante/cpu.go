package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/courante-dev/courante/postgres"
)

// clockTick is the unit of CPU times in /proc: USER_HZ, 100 on every Linux.
const clockTick = time.Second / 100

// procStat is what a line of /proc/PID/stat says.
type procStat struct {
	comm   string
	parent int
	group  int
	own    time.Duration // user and system time of the process
	waited time.Duration // of its children that ended
}

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, err
	}
	// The name is in parentheses and may hold anything; fields count from behind it.
	open, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
	fields := strings.Fields(string(text[end+1:]))
	if open < 0 || end < open || len(fields) < 15 {
		return procStat{}, fmt.Errorf("/proc/%d/stat is not as on Linux", pid)
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(fields[i])
		return n
	}
	return procStat{
		comm: string(text[open+1 : end]), parent: number(1), group: number(2),
		own:    time.Duration(number(11)+number(12)) * clockTick,
		waited: time.Duration(number(13)+number(14)) * clockTick,
	}, nil
}

// cpuOfServer is the CPU time that the PostgreSQL server has used: the
// postmaster, its processes, and those of them that ended.
func cpuOfServer(postmaster int) (time.Duration, error) {
	main, err := readStat(postmaster)
	if err != nil {
		return 0, err
	}
	// One that ends while we look is in the postmaster's sum next time.
	children, err := cpuOf(func(s procStat) bool { return s.parent == postmaster })
	return main.own + main.waited + children, err
}

// cpuOfGroup is the CPU time that the processes of a group have used.
func cpuOfGroup(group int) (time.Duration, error) {
	return cpuOf(func(s procStat) bool { return s.group == group })
}

// cpuOf adds up the CPU time of processes.
func cpuOf(which func(procStat) bool) (sum time.Duration, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil && which(s) {
			sum += s.own
		}
	}
	return sum, nil
}

// findPostmaster returns the process id of the database's server, if it runs
// on this machine.
func findPostmaster(ctx context.Context, db *postgres.Database) (int, error) {
	var pid int
	if err := db.Pool().QueryRow(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
		return 0, err
	}
	backend, err := readStat(pid)
	if err != nil || backend.comm != "postgres" {
		return 0, fmt.Errorf("the database server is not on this machine, or this is not Linux: its CPU time cannot be read")
	}
	return backend.parent, nil
}

// cpuMeter adds up the CPU time of this program and of the database's server.
type cpuMeter struct {
	postmaster int // 0: cannot be read
	from       time.Duration
}

func startCPU(postmaster int) (*cpuMeter, error) {
	m := &cpuMeter{postmaster: postmaster}
	var err error
	m.from, err = m.now()
	return m, err
}

func (m *cpuMeter) now() (time.Duration, error) {
	own, err := readStat(os.Getpid())
	if err != nil {
		return 0, err
	}
	server, err := cpuOfServer(m.postmaster)
	return own.own + server, err
}

// used is the CPU time since the start.
func (m *cpuMeter) used() (time.Duration, error) {
	now, err := m.now()
	return now - m.from, err
}
