// Package ebb hosts the function that $FUNCTION names, on Knative: the func CLI builds this package by func.yaml, and
// cmd/function is the same in a program of its own, the one of the image. See package infra/host/run for the settings.
package ebb

import (
	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/host/run"
)

// Function is the hosted function with the instanced signature of the func CLI.
type Function = run.Function

// New returns a function that Start configures.
func New() *Function { return run.New(functions.System()) }
