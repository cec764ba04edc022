package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/policy"
)

// guarded returns a fixture with GET /api/guarded, which h serves.
func guarded(t *testing.T, p policy.Policy, h http.HandlerFunc) *fixture {
	op := function.Operation{Method: "GET", Path: "/api/guarded", Access: function.Public, Policy: p}
	return newFixture(t, with("guarded", h, op))
}

// refused checks that the answer is a problem of 503 that asks to come again after so many seconds.
func (f *fixture) refused(w *httptest.ResponseRecorder, after string) {
	f.Helper()
	f.problem(w, http.StatusServiceUnavailable)
	if got := w.Header().Get("Retry-After"); got != after {
		f.Errorf("Retry-After is %q, want %q", got, after)
	}
}

// A breaker opens when enough requests were answered 5xx. Then requests are refused at once, until three that are tried
// after the pause succeed. A refusal by the function does not count, and new policies do not close the breaker unless
// they change it.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status, called := 200, 0
		p := policy.Policy{Breaker: policy.Breaker{Failures: .5, Requests: 4, Pause: policy.Duration(3 * time.Second)}}
		f := guarded(t, p, func(w http.ResponseWriter, _ *http.Request) {
			called++
			if status == 0 {
				panic("a fault")
			}
			w.WriteHeader(status)
		})
		get := func() *httptest.ResponseRecorder { return f.call("GET", "/api/guarded", "", nil) }
		all := func(want int, statuses ...int) {
			t.Helper()
			for _, status = range statuses {
				if w := get(); w.Code != want && w.Code != status {
					t.Fatalf("got %d, want %d", w.Code, status)
				}
			}
		}
		all(0, 404, 404, 404, 404, 404, 404)
		time.Sleep(11 * time.Second)
		all(500, 0, 0, 0)
		if get(); called != 10 {
			t.Fatalf("called %d times: it opened too early", called)
		}
		status = 200
		f.refused(get(), "3")
		time.Sleep(1500 * time.Millisecond)
		f.refused(get(), "2")
		f.configure("operations: {GET /api/guarded: {max_answer: 10000}}")
		f.refused(get(), "2")
		if called != 10 {
			t.Errorf("called %d times while it is open", called)
		}
		time.Sleep(1500 * time.Millisecond)
		all(503, 200, 503, 503) // three are tried, and two of them fail
		f.refused(get(), "3")
		time.Sleep(3 * time.Second)
		all(0, 200, 200, 200, 503, 200)
		all(0, 503, 503, 503, 503)
		f.refused(get(), "3")
		status = 200
		f.configure("operations: {GET /api/guarded: {breaker: {failures: 0.9}}}")
		all(0, 200)
	})
}

// Callers who go away while the function is tried after a pause do not leave the breaker in between for ever.
func TestBreakerWithCallersWhoGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := 500
		p := policy.Policy{Breaker: policy.Breaker{Failures: .5, Requests: 1, Pause: policy.Duration(time.Second)}}
		f := guarded(t, p, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(time.Millisecond):
				w.WriteHeader(status)
			}
		})
		f.call("GET", "/api/guarded", "", nil)
		status = 200
		for range 10 {
			time.Sleep(time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			f.gateway.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/api/guarded", nil).WithContext(ctx))
		}
		for range 10 {
			time.Sleep(time.Second)
			f.call("GET", "/api/guarded", "", nil)
		}
		if w := f.call("GET", "/api/guarded", "", nil); w.Code != 200 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}

// More requests than the operation has room for are refused at once. A panic leaves its room to the next.
func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := guarded(t, policy.Policy{Concurrency: 2}, func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Panic") != "" {
				panic("a fault")
			}
			<-release
		})
		for range 5 {
			f.problem(f.call("GET", "/api/guarded", "", nil, "X-Panic", "yes"), 500)
		}
		var running sync.WaitGroup
		for range 2 {
			running.Go(func() {
				if w := f.call("GET", "/api/guarded", "", nil); w.Code != 200 {
					t.Errorf("got %d", w.Code)
				}
			})
		}
		synctest.Wait()
		begun := time.Now()
		f.refused(f.call("GET", "/api/guarded", "", nil), "1")
		if time.Since(begun) != 0 {
			t.Error("the refusal waited")
		}
		close(release)
		running.Wait()
		if w := f.call("GET", "/api/guarded", "", nil); w.Code != 200 {
			t.Errorf("afterwards: got %d", w.Code)
		}
	})
}

// A function that does ten requests at a time gets few more, however many come: those that are accepted are answered
// nearly as fast as without load, and the others are refused at once. Without the limit each takes ten times as long.
func TestAdaptive(t *testing.T) {
	const workers, callers, work = 10, 100, 10 * time.Millisecond
	slowest := map[bool]time.Duration{}
	for _, adaptive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			slots := make(chan struct{}, workers)
			f := guarded(t, policy.Policy{Adaptive: adaptive}, func(http.ResponseWriter, *http.Request) {
				slots <- struct{}{}
				time.Sleep(work)
				<-slots
			})
			var mu sync.Mutex
			var took []time.Duration
			var accepted, refused atomic.Int64
			end := time.Now().Add(20 * time.Second)
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for time.Now().Before(end) {
						begun := time.Now()
						w := f.call("GET", "/api/guarded", "", nil)
						spent := time.Since(begun)
						if w.Code == 200 {
							accepted.Add(1)
							if end.Sub(begun) < 10*time.Second { // it has found its limit
								mu.Lock()
								took = append(took, spent)
								mu.Unlock()
							}
							continue
						}
						if refused.Add(1); spent != 0 {
							t.Errorf("a refusal took %v", spent)
						}
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
			all.Wait()
			slices.Sort(took)
			slowest[adaptive] = took[len(took)*99/100]
			if accepted.Load() < 10*workers*100 {
				t.Errorf("adaptive %v: %d requests were accepted in 20 s, of 20,000", adaptive, accepted.Load())
			}
			if adaptive == (refused.Load() == 0) {
				t.Errorf("adaptive %v: %d requests were refused", adaptive, refused.Load())
			}
		})
	}
	if slowest[false] < 9*work || slowest[true] > 5*work {
		t.Errorf("the slowest of a hundred took %v without and %v with the limit", slowest[false], slowest[true])
	}
	t.Logf("the slowest of a hundred took %v without and %v with the limit", slowest[false], slowest[true])
}
