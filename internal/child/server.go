//go:build unix

package child

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// StartServer starts a command as [Start] does and returns when it answers. One
// that ends before, or does not answer in time and is killed, is an error with
// all that it has said.
func StartServer(cmd *exec.Cmd, patience time.Duration, answers func() bool) (exited <-chan struct{}, err error) {
	name := filepath.Base(cmd.Path)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if exited, err = Start(cmd); err != nil {
		return nil, err
	}
	deadline := time.After(patience)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !answers() {
		select {
		case <-exited:
			return nil, fmt.Errorf("%s ended: %s", name, out.String())
		case <-deadline:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-exited
			return nil, fmt.Errorf("%s does not answer: %s", name, out.String())
		case <-poll.C:
		}
	}
	return exited, nil
}
