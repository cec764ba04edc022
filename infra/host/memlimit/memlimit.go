// Package memlimit gives the Go runtime the memory limit of the container that the process runs in, so that it collects
// garbage before the kernel ends the process, and so that functions can size what they hold at once.
package memlimit

import (
	"github.com/KimMachineGun/automemlimit/memlimit"
)

// share is the part of the container's memory that the Go runtime may take. The rest is for what the runtime does not
// count: the pages of the program itself, and of the files that a store maps.
const share = 0.8

// Set sets the runtime's soft memory limit (GOMEMLIMIT) from the limit of the process's control group, version 1 or 2.
// The environment's GOMEMLIMIT goes before; without either the limit stays off, and elsewhere than on Linux Set does
// nothing. Hosts call it once, before they make functions. It may be called again.
func Set() {
	// An error means that no limit can be told, as when there is none; then the runtime has none either.
	_, _ = memlimit.Set(memlimit.WithRatio(share))
}
