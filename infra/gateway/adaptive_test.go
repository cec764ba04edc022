package gateway_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/policy"
)

// measured is what became of requests.
type measured struct {
	mu      sync.Mutex
	took    []time.Duration // of those that were accepted
	refused int
}

// ask sends a request and notes what became of it. It returns false for one that was refused.
func (m *measured) ask(f *fixture) bool {
	begun := time.Now()
	w := f.call("GET", "/api/guarded", "", nil)
	spent := time.Since(begun)
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.Code == http.StatusOK {
		m.took = append(m.took, spent)
		return true
	}
	if m.refused++; spent != 0 {
		f.Errorf("a refusal took %v", spent)
	}
	return false
}

// p99 returns the time within which 99 of 100 were answered.
func (m *measured) p99() time.Duration {
	slices.Sort(m.took)
	return m.took[len(m.took)*99/100]
}

// Three times the load that a function of four workers takes: 99 of 100 accepted requests take at most twice as long as
// at its capacity, from the first second on, and it does as much as before. The others are refused at once. When the
// load has lasted for minutes it is the same.
func TestAdaptiveOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, work, d = 4, 10 * time.Millisecond, 10 * time.Second
		slots := make(chan struct{}, workers)
		f := guarded(t, policy.Policy{Adaptive: true}, func(http.ResponseWriter, *http.Request) {
			slots <- struct{}{}
			time.Sleep(work)
			<-slots
		})
		var capacity measured
		var all sync.WaitGroup
		end := time.Now().Add(d)
		for range workers {
			all.Go(func() {
				for time.Now().Before(end) {
					capacity.ask(f)
				}
			})
		}
		all.Wait()
		for round := range 7 { // of ten seconds
			var overload measured
			for range 3 * len(capacity.took) {
				all.Go(func() { overload.ask(f) })
				time.Sleep(d / time.Duration(3*len(capacity.took)))
			}
			all.Wait()
			if round > 0 && round < 6 {
				continue
			}
			t.Logf("round %d: accepted %d of %d, p99 %v; at capacity %d, p99 %v", round, len(overload.took),
				len(overload.took)+overload.refused, overload.p99(), len(capacity.took), capacity.p99())
			if overload.p99() > 2*capacity.p99() || len(overload.took) < len(capacity.took)*95/100 {
				t.Errorf("round %d: accepted %d, p99 %v; at capacity %d, p99 %v", round, len(overload.took), overload.p99(),
					len(capacity.took), capacity.p99())
			}
		}
	})
}

// Requests that take longer than others, but not because of others, are no overload: next to none is refused.
func TestAdaptiveOfUnevenRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		var drawing sync.Mutex
		f := guarded(t, policy.Policy{Adaptive: true}, func(http.ResponseWriter, *http.Request) {
			drawing.Lock()
			takes := time.Millisecond * time.Duration(1+49*r.IntN(2))
			drawing.Unlock()
			time.Sleep(takes)
		})
		var got measured
		var all sync.WaitGroup
		end := time.Now().Add(time.Minute)
		for range 30 { // more than the limit is at first
			all.Go(func() {
				for time.Now().Before(end) {
					if !got.ask(f) {
						time.Sleep(10 * time.Millisecond)
					}
				}
			})
		}
		all.Wait()
		t.Logf("refused %d of %d", got.refused, got.refused+len(got.took))
		if got.refused > len(got.took)/50 {
			t.Errorf("refused %d, accepted %d", got.refused, len(got.took))
		}
	})
}

// slowReader is a client that takes a minute to take an answer.
type slowReader struct{ *httptest.ResponseRecorder }

func (w slowReader) Write(b []byte) (int, error) {
	time.Sleep(time.Minute)
	return w.ResponseRecorder.Write(b)
}

// slowBody is a body that takes a minute to come.
type slowBody struct{}

func (slowBody) Read([]byte) (int, error) {
	time.Sleep(time.Minute)
	return 0, io.EOF
}

// Clients that send or take slowly, and those that listen to events, leave others the whole limit, and do not make the
// function look slow.
func TestAdaptiveOfSlowClients(t *testing.T) {
	for name, slow := range map[string]func(h http.Handler){
		"takes": func(h http.Handler) {
			h.ServeHTTP(slowReader{httptest.NewRecorder()}, httptest.NewRequest("GET", "/api/guarded", nil))
		},
		"sends": func(h http.Handler) {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/api/guarded", slowBody{}))
		},
		"listens": func(h http.Handler) {
			r := httptest.NewRequest("GET", "/api/guarded", nil)
			r.Header.Set("Accept", "text/event-stream")
			h.ServeHTTP(httptest.NewRecorder(), r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := guarded(t, policy.Policy{Adaptive: true}, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					time.Sleep(time.Millisecond)
					if r.Header.Get("Accept") != "" {
						w.Header().Set("Content-Type", "text/event-stream")
						w.WriteHeader(http.StatusOK)
						time.Sleep(time.Minute)
					}
					_, _ = w.Write([]byte("an answer"))
				})
				var all sync.WaitGroup
				end := time.Now().Add(10 * time.Minute)
				for range 100 {
					all.Go(func() {
						for time.Now().Before(end) {
							slow(f.gateway)
							time.Sleep(time.Second)
						}
					})
				}
				var got measured
				for range 10 {
					all.Go(func() {
						for time.Now().Before(end) {
							got.ask(f)
							time.Sleep(time.Second)
						}
					})
				}
				all.Wait()
				t.Logf("refused %d of %d", got.refused, got.refused+len(got.took))
				if got.refused > len(got.took)/50 {
					t.Errorf("refused %d, accepted %d", got.refused, len(got.took))
				}
			})
		})
	}
}
