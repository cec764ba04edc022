// Command function hosts the one function that $FUNCTION names. It is the program of the one image; see package
// infra/host/run for its settings and exit statuses.
package main

import (
	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/host/run"
)

func main() { run.Main(functions.System()) }
