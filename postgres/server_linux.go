package postgres

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// serverAttributes make the server a process group of its own, so that Ctrl-C
// in our terminal does not stop it before we have, and give it a fast shutdown
// when we are gone, however we went.
func serverAttributes(a account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: a.credential(), Setpgid: true, Pdeathsig: syscall.SIGINT}
}

// processesIn returns the processes of the PostgreSQL server on the data
// folder: each of them, postmaster or backend, has it as its working folder,
// and a recycled process id does not deceive us.
func processesIn(data string) ([]int, error) {
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, comm := range comms {
		proc := filepath.Dir(comm)
		name, err := os.ReadFile(comm)
		if err != nil || strings.TrimSpace(string(name)) != "postgres" {
			continue // gone already, or a shell that somebody has open there
		}
		if cwd, err := os.Readlink(filepath.Join(proc, "cwd")); err != nil || cwd != data {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(proc)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
