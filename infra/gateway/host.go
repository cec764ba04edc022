package gateway

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/strictyaml"
	"github.com/ebb-dev/ebb/infra/policy"
)

// checkHost refuses requests that were sent to a host that the environment does not name. Health checks, which use
// addresses, may be sent to any.
func checkHost(next Handler) Handler {
	return func(x *Exchange) {
		if hosts := x.table.hosts; len(hosts) > 0 && !isHost(hosts, x.Request) && !isHealth(x.Request.URL.Path) {
			x.Refuse(fault.New(fault.Invalid, "this host is not served here").WithStatus(http.StatusMisdirectedRequest))
			return
		}
		next(x)
	}
}

func isHealth(path string) bool { return path == "/healthz" || path == "/readyz" || path == "/metrics" }

// isHost reports whether a request was sent to one of the hosts.
func isHost(hosts []string, r *http.Request) bool {
	host := hostOf(r)
	return slices.ContainsFunc(hosts, func(pattern string) bool { return policy.HostMatches(pattern, host) })
}

// checkHosts reports what is no name of a host.
func checkHosts(hosts []string, field string, doc *strictyaml.Document) {
	for i, h := range hosts {
		if !policy.HostPattern(h) {
			doc.Report(fmt.Sprintf("%s[%d]", field, i), "want the name of a host without a port, or *.NAME")
		}
	}
}
