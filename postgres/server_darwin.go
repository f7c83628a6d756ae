package postgres

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// serverAttributes make the server a process group of its own, so that Ctrl-C
// in our terminal does not stop it before we have. There is no parent-death
// signal here: a server whose owner was killed runs on until the next start on
// its folder ends it.
func serverAttributes(a account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: a.credential(), Setpgid: true}
}

// processesIn returns the postmaster on the data folder, which its command
// line names; its backends end when they miss it.
func processesIn(data string) ([]int, error) {
	out, err := exec.Command("/bin/ps", "-axww", "-o", "pid=,command=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		pid, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.Contains(command, "postgres -D "+data+" ") {
			continue
		}
		if n, err := strconv.Atoi(pid); err == nil {
			pids = append(pids, n)
		}
	}
	return pids, nil
}
