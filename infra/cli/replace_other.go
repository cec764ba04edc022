//go:build !unix

package cli

import "context"

// replace runs the binary as a child: this system cannot put another program in the place of a process.
func (a *app) replace(ctx context.Context, binary string) error { return a.runAsChild(ctx, binary) }
