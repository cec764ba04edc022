package run

import (
	"errors"
	"fmt"
	"os"

	"knative.dev/pkg/signals"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/internal/processwide"
	"github.com/ebb-dev/ebb/infra/system"
)

// Main is the main function of a product's image: it hosts the function that $FUNCTION names until SIGTERM. With the
// argument rotate-keys it rotates the signing keys in a Secret of the cluster instead, and ends. It ends the process
// with status 2 when the settings or arguments are not valid, and names every violation; with 1 when it cannot listen,
// did not drain in time, or could not rotate.
func Main(sys system.System) {
	processwide.Set()
	ctx, err := signals.NewContext(), error(nil)
	if len(os.Args) > 1 {
		err = command(ctx, os.Args[1:], config.Environment, os.Stderr)
	} else {
		err = Serve(ctx, sys, config.Environment, os.Stderr)
	}
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "function:", err)
	var invalid *config.Error
	if errors.As(err, &invalid) || errors.As(err, &usageError{}) {
		os.Exit(2)
	}
	os.Exit(1)
}
