package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
)

// A process that dev --watch has started gets the listener as file 3, and a pipe as standard input: when the pipe is
// closed, because the parent wants it to end or has ended itself, it drains and ends.

// listenerFile is the number of the file that the listener is passed on as.
const listenerFile = 3

// inherited returns the listener that the parent has passed on.
func inherited() (net.Listener, error) {
	f := os.NewFile(listenerFile, "listener")
	if f == nil {
		return nil, fmt.Errorf("no listener was passed on: --watched is for processes that dev --watch starts")
	}
	defer f.Close() // the listener has a copy
	return net.FileListener(f)
}

// untilParentEnds returns a context that ends with ctx, or when in ends.
func untilParentEnds(ctx context.Context, in io.Reader) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, in) // that it ended is all that matters
		cancel()
	}()
	return ctx, cancel
}
