package gateway

import (
	"net/http"
	"runtime"
)

// Waiting returns a function that waits until a number of requests wait for the answer of another one.
func Waiting(h http.Handler) func(n int64) {
	c := h.(*Gateway).caches
	return func(n int64) {
		for c.waiting.Load() < n {
			runtime.Gosched()
		}
	}
}

// Ways returns how many functions and upstreams a gateway knows a way to.
func Ways(h http.Handler) int {
	g := h.(*Gateway)
	g.configuring.Lock()
	defer g.configuring.Unlock()
	return len(g.functions)
}

// AwaitCopies waits until no copy of a request is under way.
func AwaitCopies(h http.Handler) {
	for len(h.(*Gateway).copies) > 0 {
		runtime.Gosched()
	}
}
