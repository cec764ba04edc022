package cli

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// profile writes a CPU profile to the file until the function it returns is called, which writes a
// heap profile beside it; no file, no profile.
func profile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("EBB_PROFILE: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("EBB_PROFILE: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
		if heap, err := os.Create(path + ".heap"); err == nil {
			_ = pprof.WriteHeapProfile(heap) // an incomplete profile does no harm
			heap.Close()
		}
	}, nil
}
