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
