package local_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/ratelimit/redis/redistest"
)

// A change that did not come through the gateway reaches its stored answers by its event: the clock stands still, so
// that their time does not end.
func TestStoredAnswersFollowEvents(t *testing.T) {
	now := time.Now()
	s := startWith(t, func(cfg *local.Config) { cfg.Now = func() time.Time { return now } }, t.TempDir(), time.Minute)
	id, _ := s.customer()
	admin := s.signIn(adminEmail, adminPassword)
	instances, err := s.Instances(t.Context(), "catalog")
	if err != nil || len(instances) != 1 {
		t.Fatal(instances, err)
	}
	shown := func(path string) (body, status string) {
		t.Helper()
		answer, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		all, _ := io.ReadAll(answer.Body)
		return string(all), answer.Header.Get("Cache-Status")
	}
	for _, name := range []string{"Almanac", "Atlas", "Chart"} {
		for _, path := range []string{"/api/products/" + id, "/api/products"} {
			shown(path)
			if _, status := shown(path); status != "ebb; hit" {
				t.Errorf("%s is not stored: %q", path, status)
			}
		}
		r := httptest.NewRequest("PATCH", "/api/products/"+id, bytes.NewReader([]byte(`{"name":"`+name+`"}`)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("If-Match", "*")
		r.Header.Set("Authorization", "Bearer "+admin)
		w := httptest.NewRecorder()
		instances[0].Handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		for _, path := range []string{"/api/products/" + id, "/api/products"} {
			s.within(20*time.Second, path+" shows the change", func() bool {
				body, _ := shown(path)
				return strings.Contains(body, name)
			})
		}
	}
}

// BenchmarkProduct reads a product in the process, without a network: by the catalog itself, by the gateway with each
// of its caches, and by the gateway for a caller with credentials, who passes by the cache.
func BenchmarkProduct(b *testing.B) {
	for _, where := range []string{"memory", "Redis"} {
		url := "memory:"
		if where == "Redis" {
			url = redistest.Start(b).URL()
		}
		s := startWith(b, func(cfg *local.Config) {
			cfg.Secrets["gateway"] = config.Map(map[string]string{"EBB_CACHE": url, "EBB_ACCESS_LOG": "off"})
		}, b.TempDir(), time.Hour)
		id, customer := s.customer()
		instances, err := s.Instances(b.Context(), "catalog")
		if err != nil {
			b.Fatal(err)
		}
		read := func(name string, h http.Handler, authorization string) {
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					r := httptest.NewRequest("GET", "/api/products/"+id, nil)
					if authorization != "" {
						r.Header.Set("Authorization", authorization)
					}
					w := httptest.NewRecorder()
					if h.ServeHTTP(w, r); w.Code != http.StatusOK {
						b.Fatal(w.Code)
					}
				}
			})
		}
		read("gateway, "+where, s.Handler(), "")
		if where == "memory" {
			read("gateway, not cached", s.Handler(), "Bearer "+customer)
			read("catalog", instances[0].Handler, "")
		}
	}
}
