// Command lambda hosts the one function that $FUNCTION names on AWS Lambda. It is the bootstrap of the package that
// `make lambda` builds; see package infra/host/lambdarun for its settings.
package main

import (
	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/host/lambdarun"
)

func main() { lambdarun.Main(functions.System()) }
