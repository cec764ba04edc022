package function_test

import (
	"context"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/function"
)

// A client outside cannot choose its address; one behind proxies of the platform is found.
func TestClientAddr(t *testing.T) {
	var got netip.Addr
	f := function.New("probe", function.Env{})
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/probe", Access: function.Public},
		func(ctx context.Context, _ *function.Tx, _ *struct{}) (*struct{}, error) {
			got = function.ClientAddr(ctx)
			return nil, nil
		})
	for name, c := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"alone":                  {"198.51.100.7:1", nil, "198.51.100.7"},
		"a public one that lies": {"198.51.100.7:1", []string{"203.0.113.1"}, "198.51.100.7"},
		"behind a proxy":         {"127.0.0.1:1", []string{"198.51.100.7"}, "198.51.100.7"},
		"behind proxies, and lying": {"127.0.0.1:1", []string{"203.0.113.1, 198.51.100.7", "10.0.0.3, 100.64.0.9"},
			"198.51.100.7"},
		"only private ones":           {"127.0.0.1:1", []string{"192.168.1.5, 10.0.0.3"}, "192.168.1.5"},
		"rubbish before the client's": {"10.0.0.1:1", []string{"x, 198.51.100.7"}, "198.51.100.7"},
		"rubbish at the end":          {"10.0.0.1:1", []string{"198.51.100.7, x"}, "10.0.0.1"},
		"IPv6":                        {"[fe80::1%eth0]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		"IPv4 in IPv6":                {"[::ffff:198.51.100.7]:1", nil, "198.51.100.7"},
		"more hops than are read": {"10.0.0.1:1", []string{"198.51.100.7" + strings.Repeat(", 10.0.0.2", 40)},
			"10.0.0.2"},
		"no address": {"", []string{"198.51.100.7"}, "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/api/probe", nil)
		r.RemoteAddr = c.peer
		r.Header["X-Forwarded-For"] = c.forwarded
		f.Instance().ServeHTTP(httptest.NewRecorder(), r)
		if got.String() != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
