package postgres

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// serverCPU is the CPU time of the server that the backend belongs to: of its
// postmaster, of the processes that it has now, and of those that it had. It is
// 0 if the server is not on this machine, or the machine has no /proc.
func serverCPU(backend int) time.Duration {
	own, ok := readProcess(strconv.Itoa(backend))
	if !ok || own.name != "postgres" {
		return 0
	}
	master, ok := readProcess(own.parent)
	if !ok || master.name != "postgres" {
		return 0
	}
	total := master.own + master.children
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, file := range stats {
		if p, ok := readProcess(filepath.Base(filepath.Dir(file))); ok && p.parent == own.parent {
			total += p.own
		}
	}
	return total
}

type process struct {
	name, parent  string
	own, children time.Duration
}

// clockTick is USER_HZ, in which /proc counts: 100 on all that Go runs on.
const clockTick = time.Second / 100

// readProcess reads /proc/PID/stat; see proc(5). The name is in parentheses and
// may hold anything.
func readProcess(pid string) (process, bool) {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return process{}, false
	}
	begin, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if begin < 0 || end < begin {
		return process{}, false
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 15 {
		return process{}, false
	}
	ticks := func(i int) time.Duration {
		n, _ := strconv.ParseInt(fields[i], 10, 64) // the kernel writes numbers
		return time.Duration(n) * clockTick
	}
	return process{
		name: string(text[begin+1 : end]), parent: fields[1],
		own: ticks(11) + ticks(12), children: ticks(13) + ticks(14),
	}, true
}
