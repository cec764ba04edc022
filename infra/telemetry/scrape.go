package telemetry

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/problem"
)

// tokenVariable is the variable of the token that scrapers show. With it every request for metrics needs the token.
const tokenVariable = "EBB_METRICS_TOKEN"

// minToken is the least length of the token in bytes: 32 hexadecimal digits are 128 bits.
const minToken = 32

// scrapeToken is the digest of the token that scrapers show; nil: there is none.
type scrapeToken *[sha256.Size]byte

func (e environment) scrapeToken() (scrapeToken, error) {
	token := e.get(tokenVariable)
	if token == "" {
		return nil, nil
	}
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("%s is not accepted: want at least %d characters of ASCII without blanks, such as from "+
			"openssl rand -hex 32", tokenVariable, minToken)
	}
	sum := sha256.Sum256([]byte(token))
	return &sum, nil
}

// MetricsHandler returns a handler that serves Prometheus the kit's metrics, Go's and those of the process. With
// EBB_METRICS_TOKEN it answers only requests that show the token as a bearer token. Without it, it answers only
// requests that come directly from this machine: from a loopback address, for a loopback host name, not through a
// proxy.
func (t *Telemetry) MetricsHandler() http.Handler {
	if t.off() {
		return http.NotFoundHandler()
	}
	options := promhttp.HandlerOpts{
		EnableOpenMetrics: true, // the text format that has exemplars
		ErrorHandling:     promhttp.ContinueOnError,
		ErrorLog:          scrapeLog{t.Logger("")},
	}
	text := promhttp.HandlerFor(t.registry, options)
	protobuf := promhttp.HandlerFor(withNative{t.registry, t.native}, options)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := t.mayScrape(r); err != nil {
			problem.Write(w, r, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		if wantsProtobuf(r) {
			protobuf.ServeHTTP(w, r)
			return
		}
		text.ServeHTTP(w, r)
	})
}

// mayScrape answers nil or fault.Unauthenticated.
func (t *Telemetry) mayScrape(r *http.Request) error {
	if t.token == nil {
		if direct(r) {
			return nil
		}
		return fault.New(fault.Unauthenticated, "metrics are for this machine only, unless %s is set", tokenVariable)
	}
	shown := r.Header["Authorization"]
	if len(shown) == 1 {
		scheme, token, _ := strings.Cut(shown[0], " ")
		sum := sha256.Sum256([]byte(strings.Trim(token, " ")))
		if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], t.token[:]) == 1 {
			return nil
		}
	}
	return fault.New(fault.Unauthenticated, "metrics need the token of %s", tokenVariable)
}

// forwardedBy are the header fields that show that a proxy has carried a request.
var forwardedBy = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"}

// direct reports whether a request comes from this machine without a proxy. Knative's queue-proxy has a loopback
// address too, and shows itself by X-Forwarded-For and the host name.
func direct(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, name := range forwardedBy {
		if r.Header[name] != nil {
			return false
		}
	}
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	ip, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && ip.Unmap().IsLoopback()
}
