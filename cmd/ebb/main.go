// Command ebb is the shop's command: see infra/cli.
package main

import (
	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/cli"
)

func main() { cli.Main(functions.System()) }
