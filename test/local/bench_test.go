package local_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// BenchmarkGetUser sends a request through the gateway, a function and its store, without the network.
func BenchmarkGetUser(b *testing.B) {
	s := start(b, b.TempDir(), time.Minute)
	_, customer := s.customer()
	var me struct {
		User struct {
			ID string `json:"id"`
		} `json:"user"`
	}
	s.must("GET", "/api/me", customer, nil, &me)
	h := s.Handler()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := httptest.NewRequest("GET", "/api/users/"+me.User.ID, nil)
		r.Header.Set("Authorization", "Bearer "+customer)
		for pb.Next() {
			w := &sink{header: http.Header{}}
			h.ServeHTTP(w, r)
			if w.status != http.StatusOK {
				b.Errorf("got %d", w.status)
			}
		}
	})
}

type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
