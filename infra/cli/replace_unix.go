//go:build unix

package cli

import (
	"context"
	"os"
	"syscall"
)

// replace replaces this process with the binary, which then gets the signals and the terminal. In a test it runs the
// binary as a child.
func (a *app) replace(ctx context.Context, binary string) error {
	if a.Out != os.Stdout || a.Dir != "." {
		return a.runAsChild(ctx, binary)
	}
	return syscall.Exec(binary, append([]string{a.Name}, a.args...), os.Environ())
}
