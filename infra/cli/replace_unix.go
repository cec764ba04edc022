//go:build unix

package cli

import (
	"context"
	"os"
	"syscall"
)

// replace has the binary take the place of this process, so that signals and the terminal are its own. Where the
// command was called by a test, it runs the binary as a child.
func (a *app) replace(ctx context.Context, binary string) error {
	if a.Out != os.Stdout || a.Dir != "." {
		return a.runAsChild(ctx, binary)
	}
	return syscall.Exec(binary, append([]string{a.Name}, a.args...), os.Environ())
}
