package cli

import (
	"maps"
	"net"
	"testing"

	"github.com/ebb-dev/ebb/infra/config"
)

// ebb dev has passkeys for localhost at its own port, unless the environment names a site or origins.
func TestPasskeySettings(t *testing.T) {
	const site, origins = "EBB_PASSKEY_RP_ID", "EBB_PASSKEY_ORIGINS"
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}
	for name, c := range map[string]struct {
		set, want map[string]string
		tls       bool
	}{
		"nothing is set": {nil, map[string]string{site: "localhost", origins: "http://localhost:8081"}, false},
		"with TLS":       {nil, map[string]string{site: "localhost", origins: "https://localhost:8081"}, true},
		"a site is set":  {map[string]string{site: "shop.example"}, map[string]string{}, false},
		"none is wanted": {map[string]string{site: ""}, map[string]string{}, false},
		"one origin is":  {map[string]string{origins: "https://shop.example"}, map[string]string{}, false},
	} {
		got := map[string]string{}
		passkeySettings(got, config.Map(c.set), c.tls, at)
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
