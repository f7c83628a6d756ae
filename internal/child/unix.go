//go:build unix && !linux

package child

import "syscall"

// endWithParent is left to whoever kills the parent: only Linux can do it.
func endWithParent(*syscall.SysProcAttr) {}
