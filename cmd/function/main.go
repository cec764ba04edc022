// Command function hosts the one capability that $FUNCTION names. It is the program of the one image; see package ebb
// for what configures it.
//
// It ends with status 2 when its configuration is wrong, and names every fault; with 1 when it cannot listen or did
// not drain in time.
package main

import (
	"errors"
	"fmt"
	"os"

	"knative.dev/pkg/signals"

	"github.com/ebb-dev/ebb"
	"github.com/ebb-dev/ebb/infra/config"
)

func main() {
	err := ebb.Serve(signals.NewContext(), config.Environment, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "function:", err)
	var wrong *config.Error
	if errors.As(err, &wrong) {
		os.Exit(2)
	}
	os.Exit(1)
}
