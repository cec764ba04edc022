package mtls

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/problem"
)

// Peers are SPIFFE IDs. The zero Peers has none.
type Peers struct{ all []string }

// ParsePeers returns the peers of a list. A * at the end stands for any text below a path: spiffe://example.org/shop/*.
func ParsePeers(list []string) (Peers, error) {
	var p Peers
	for _, text := range list {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		id, open := strings.CutSuffix(text, "*")
		if open {
			id, open = strings.CutSuffix(id, "/")
			if !open { // spiffe://example* would be spiffe://example.evil too
				return Peers{}, fmt.Errorf("invalid peer %q: a * stands for what follows a slash", text)
			}
		}
		if _, err := spiffeid.FromString(id); err != nil {
			return Peers{}, fmt.Errorf("invalid peer %q: want a SPIFFE ID such as spiffe://example.org/orders", text)
		}
		p.all = append(p.all, text)
	}
	return p, nil
}

// Has reports whether the SPIFFE ID is one of the peers.
func (p Peers) Has(id string) bool {
	for _, allowed := range p.all {
		prefix, open := strings.CutSuffix(allowed, "*")
		if id == allowed || open && strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// Require returns a handler that passes to next the requests of the peers: others get 403, and those without a client
// certificate 401. It must be served with the configuration of Identity.TLS, which has verified the certificate.
//
// A connection is closed after the next answer when the client's certificate is about to end: the client opens another
// one, with its new certificate if it has one.
func Require(next http.Handler, peers Peers) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, leaf, err := peerOf(r)
		switch {
		case err != nil:
			problem.Write(w, r, err)
			return
		case !peers.Has(id):
			problem.Write(w, r, fault.New(fault.Denied, "%s may not call this", id))
			return
		case time.Now().After(leaf.NotAfter.Add(-lead(leaf))):
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// maxLead is the longest time before the end of a certificate in which its connections are closed.
const maxLead = 5 * time.Minute

// lead returns how long before the end of a certificate its connections are closed: a tenth of its life.
func lead(c *x509.Certificate) time.Duration { return min(c.NotAfter.Sub(c.NotBefore)/10, maxLead) }

// peerOf returns the SPIFFE ID and the certificate of the client.
func peerOf(r *http.Request) (string, *x509.Certificate, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", nil, fault.New(fault.Unauthenticated, "this needs a client certificate")
	}
	leaf := r.TLS.PeerCertificates[0]
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return "", nil, fault.Wrap(err, fault.Unauthenticated, "the client certificate has no SPIFFE ID")
	}
	return id.String(), leaf, nil
}
