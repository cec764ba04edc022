//go:build !unix

package cli

import "context"

// replace runs the binary as a child, because this operating system cannot replace a process.
func (a *app) replace(ctx context.Context, binary string) error { return a.runAsChild(ctx, binary) }
