package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
)

// A process that dev --watch starts gets the listener as file 3, and a pipe as standard input. The parent closes the
// pipe to stop it, or by exiting itself; then the process drains and exits.

// listenerFile is the file descriptor of the listener in the child.
const listenerFile = 3

// inherited returns the parent's listener.
func inherited() (net.Listener, error) {
	f := os.NewFile(listenerFile, "listener")
	if f == nil {
		return nil, fmt.Errorf("missing listener: --watched is for processes that dev --watch starts")
	}
	defer f.Close() // the listener has a copy
	return net.FileListener(f)
}

// untilParentEnds returns a context that ends with ctx, or when in is closed.
func untilParentEnds(ctx context.Context, in io.Reader) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, in) // returns when in is closed
		cancel()
	}()
	return ctx, cancel
}
