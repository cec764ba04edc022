//go:build unix

package cli

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps the signals of the terminal from a child: its parent tells it when to end.
func ownGroup(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
