package run

import (
	"errors"
	"fmt"
	"os"

	"knative.dev/pkg/signals"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/system"
)

// Main is the main function of a product's image: it hosts the function that $FUNCTION names until SIGTERM. It ends the
// process with status 2 when the settings are not valid, and names every violation; with 1 when it cannot listen or did
// not drain in time.
func Main(sys system.System) {
	err := Serve(signals.NewContext(), sys, config.Environment, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "function:", err)
	var invalid *config.Error
	if errors.As(err, &invalid) {
		os.Exit(2)
	}
	os.Exit(1)
}
