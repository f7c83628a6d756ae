//go:build unix

// Package child starts processes that end with the one that started them.
package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Start starts a command as a process group of its own, so that Ctrl-C is for
// its parent alone, and has it end with us, however we end. exited is closed
// when it has ended and its output was read.
func Start(cmd *exec.Cmd) (exited <-chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	endWithParent(cmd.SysProcAttr)
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The kernel takes the end of the thread that started it for our end, so
		// that one stays.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	return ended, <-started
}
