// Package hostcheck protects servers on a developer's machine from web pages in the developer's browser.
//
// A page can reach loopback by a host name of its own, by DNS rebinding, and then read every response. So only allowed
// host names are accepted. A page can also send simple requests (without a CORS preflight) to any address, though it
// cannot read the response. So those that change something are refused.
package hostcheck

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Config configures which requests are accepted.
type Config struct {
	Loopback bool     // the server listens on loopback: only loopback names and Hosts are accepted
	Hosts    []string // accepted host names, without a port; * for any. Not empty: only these and loopback names
	Origins  []string // other sites that may change something, such as https://shop.example; * for any

	Refuse func(http.ResponseWriter, *http.Request, error) // writes the response to a refused request
}

// Handler returns a handler that calls h for accepted requests. Others are refused with status 421 for their Host, 403
// for their origin, or 415 for a body without a Content-Type.
func Handler(h http.Handler, c Config) http.Handler {
	k := checker{Config: c, hosts: map[string]bool{}, origins: map[string]bool{}, cross: http.NewCrossOriginProtection()}
	for _, name := range c.Hosts {
		if name = normal(name); name != "" {
			k.hosts[name] = true
		}
	}
	for _, origin := range c.Origins {
		k.origins[strings.TrimSuffix(strings.TrimSpace(origin), "/")] = true
	}
	k.restricted = (c.Loopback || len(k.hosts) > 0) && !k.hosts["*"]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := k.check(r); err != nil {
			c.Refuse(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

type checker struct {
	Config
	restricted     bool
	hosts, origins map[string]bool
	cross          *http.CrossOriginProtection
}

func (k *checker) check(r *http.Request) error {
	if k.restricted {
		if name := normal(hostname(r.Host)); !loopback(name) && !k.hosts[name] {
			const message = "this server is not known by the name of the Host header; EBB_HOSTS lists further names"
			return fault.New(fault.Invalid, message).WithStatus(http.StatusMisdirectedRequest)
		}
	}
	origin := r.Header.Get("Origin")
	if !k.origins["*"] && (origin == "" || !k.origins[origin]) {
		if err := k.cross.Check(r); err != nil {
			return fault.Wrap(err, fault.Denied, "another site must not change anything here")
		}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	// An event in the binary mode may have data without a Content-Type. Its header fields need a CORS preflight, too.
	if r.ContentLength != 0 && r.Header.Get("Content-Type") == "" && r.Header.Get("Ce-Specversion") == "" {
		return fault.New(fault.Invalid, "the body needs a Content-Type").WithStatus(http.StatusUnsupportedMediaType)
	}
	return nil
}

// hostname returns a Host header without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// normal returns a name in the form in which names are compared.
func normal(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	return strings.TrimSuffix(strings.Trim(name, "[]"), ".")
}

// loopback reports whether a name always means loopback, as names below localhost do (RFC 6761 section 6.3).
func loopback(name string) bool {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback()
}
