package local_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/system"
)

// byKey returns the status of a GET request with an API key.
func (s *shopHost) byKey(path, key string) int {
	s.Helper()
	r, err := http.NewRequest(http.MethodGet, s.url+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set(apikey.Header, key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// A function that is added to a running system takes the API keys from before, and refuses those that were revoked
// before: at the clock's first sweep it asks the archive for them.
func TestNewFunctionKnowsOldKeys(t *testing.T) {
	dir := t.TempDir()
	sweeps := func(cfg *local.Config) { cfg.Secrets["clock"] = config.Map(map[string]string{"EBB_CLOCK_SWEEP": "1s"}) }
	before := startWith(t, func(cfg *local.Config) {
		sweeps(cfg)
		var old []system.Definition
		for _, d := range cfg.System.Functions {
			if d.Name != "flags" {
				old = append(old, d)
			}
		}
		cfg.System.Functions = old
	}, dir, time.Second)
	customer := before.register()
	key := func() (made struct{ ID, Key string }) {
		before.must("POST", "/api/api-keys", customer, map[string]any{
			"name": "reader", "scopes": []string{"orders:read"}, "current_password": "a countess counts",
		}, &made)
		return made
	}
	good, revoked := key(), key()
	before.within(15*time.Second, "orders takes the keys", func() bool {
		return before.byKey("/api/orders", good.Key) == 200 && before.byKey("/api/orders", revoked.Key) == 200
	})
	before.must("DELETE", "/api/api-keys/"+revoked.ID, customer, nil, nil)
	before.within(15*time.Second, "orders refuses the revoked key", func() bool {
		return before.byKey("/api/orders", revoked.Key) == 401
	})
	admin := before.signIn(adminEmail, adminPassword)
	before.within(15*time.Second, "the archive has both changes", func() bool {
		var page struct{ Items []struct{} }
		before.must("GET", "/api/archive/events?type=dev.ebb.users.api-key-changed.v1", admin, nil, &page)
		return len(page.Items) == 3
	})
	before.stop()

	after := startWith(t, sweeps, dir, time.Second)
	after.within(20*time.Second, "flags knows the key, which has no scope for it", func() bool {
		return after.byKey("/api/flags", good.Key) == http.StatusForbidden
	})
	if got := after.byKey("/api/flags", revoked.Key); got != http.StatusUnauthorized {
		t.Errorf("a revoked key: got %d", got)
	}
}
