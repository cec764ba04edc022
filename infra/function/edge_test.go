package function_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// A path or a query that is no text is refused by every operation before its handler runs.
func TestRequestsThatAreNoTextAreRefused(t *testing.T) {
	h := functiontest.New(t, counting)
	for _, target := range []string{"/api/counters/%ff", "/api/counters/a%00b", "/api/counters/a?x=%ff", "/api/counters/a?%00"} {
		for _, method := range []string{"GET", "POST"} {
			h.Call(method, target, functiontest.As("ada"), map[string]int{"by": 1}).Expect(400)
		}
	}
}

// Two credentials are none, and two keys no key.
func TestFieldsThatMustNotRepeat(t *testing.T) {
	h := functiontest.New(t, counting)
	for name, status := range map[string]int{"Authorization": 401, "Idempotency-Key": 400, "Content-Type": 400} {
		r := httptest.NewRequest(http.MethodPost, "/api/counters/a", nil)
		r.Header.Set("Authorization", "Bearer "+h.Token(functiontest.As("ada")))
		r.Header.Add(name, r.Header.Get(name))
		r.Header.Add(name, r.Header.Get(name))
		w := httptest.NewRecorder()
		if h.F.ServeHTTP(w, r); w.Code != status {
			t.Errorf("two lines of %s: got %d, want %d", name, w.Code, status)
		}
	}
}
