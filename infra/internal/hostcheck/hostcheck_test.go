package hostcheck_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/hostcheck"
)

func handler(c hostcheck.Config) http.Handler {
	c.Refuse = func(w http.ResponseWriter, _ *http.Request, err error) { w.WriteHeader(fault.HTTPStatus(err)) }
	return hostcheck.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), c)
}

func status(h http.Handler, r *http.Request) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// On loopback only loopback names and configured ones are accepted; elsewhere any, unless some are configured.
func TestHosts(t *testing.T) {
	local := hostcheck.Config{Loopback: true}
	named := hostcheck.Config{Loopback: true, Hosts: []string{" Shop.Example "}}
	public := hostcheck.Config{Hosts: []string{"shop.example"}}
	for _, c := range []struct {
		config hostcheck.Config
		host   string
		want   int
	}{
		{local, "localhost", 200}, {local, "localhost:8080", 200}, {local, "LOCALHOST.:8080", 200},
		{local, "shop.localhost:1", 200},
		{local, "127.0.0.1:8080", 200}, {local, "127.9.8.7", 200}, {local, "[::1]:8080", 200}, {local, "[::1]", 200},
		{local, "[::ffff:127.0.0.1]", 200},
		{local, "evil.example:8080", 421}, {local, "localhost.evil.example", 421},
		{local, "127.0.0.1.evil.example", 421}, {local, "notlocalhost", 421},
		{local, "10.0.0.1:8080", 421}, {local, "0.0.0.0:8080", 421}, {local, "", 421},
		{local, "127.0.0.1@evil.example", 421}, {local, "shop.example", 421},
		{named, "shop.example:8080", 200}, {named, "localhost", 200}, {named, "evil.example", 421},
		{public, "SHOP.example", 200}, {public, "localhost", 200}, {public, "evil.example", 421},
		{hostcheck.Config{}, "evil.example", 200},
		{hostcheck.Config{Loopback: true, Hosts: []string{"*"}}, "evil.example", 200},
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Host = c.host
		if got := status(handler(c.config), r); got != c.want {
			t.Errorf("%q with %+v: got %d, want %d", c.host, c.config, got, c.want)
		}
	}
}

// A page of another site may send reading requests, and none that change something.
func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		method, origin, site string
		origins              []string
		want                 int
	}{
		{"POST", "", "", nil, 200},
		{"POST", "http://localhost:8080", "same-origin", nil, 200},
		{"POST", "http://localhost:8080", "", nil, 200},
		{"POST", "https://evil.example", "cross-site", nil, 403},
		{"POST", "https://evil.example", "", nil, 403},
		{"POST", "null", "cross-site", nil, 403},
		{"DELETE", "", "cross-site", nil, 403},
		{"POST", "http://other.localhost:8080", "same-site", nil, 403},
		{"GET", "https://evil.example", "cross-site", nil, 200},
		{"OPTIONS", "https://evil.example", "cross-site", nil, 200},
		{"POST", "https://shop.example", "cross-site", []string{"https://shop.example/"}, 200},
		{"POST", "https://evil.example", "cross-site", []string{"https://shop.example"}, 403},
		{"POST", "https://evil.example", "cross-site", []string{"*"}, 200},
	} {
		r := httptest.NewRequest(c.method, "http://localhost:8080/subscriptions", nil)
		for name, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if got := status(handler(hostcheck.Config{Loopback: true, Origins: c.origins}), r); got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}

// A body needs a Content-Type.
func TestContentType(t *testing.T) {
	for _, c := range []struct {
		method, body, name, value string
		want                      int
	}{
		{"POST", "{}", "", "", 415}, {"PUT", "{}", "", "", 415}, {"DELETE", "{}", "", "", 415}, {"POST", "", "", "", 200},
		{"POST", "{}", "Content-Type", "application/json", 200}, {"POST", "{}", "Ce-Specversion", "1.0", 200},
		{"GET", "", "", "", 200},
	} {
		r := httptest.NewRequest(c.method, "http://localhost/", strings.NewReader(c.body))
		if c.name != "" {
			r.Header.Set(c.name, c.value)
		}
		if got := status(handler(hostcheck.Config{Loopback: true}), r); got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}
