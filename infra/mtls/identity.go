// Package mtls has mutual TLS between the processes of a system: each shows the other a certificate with a SPIFFE ID
// such as spiffe://example.org/orders, and both check it.
//
// An Identity is the certificate of this process and the authorities that it accepts. It comes from files, as
// cert-manager writes them, or from an Authority, which is for development. TLS is always 1.3, and sessions are never
// resumed, so that every connection is verified in full.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Identity is the certificate of this process, its key, and the authorities whose certificates it accepts. All three
// may be replaced while connections are open: those stay, and new ones use what is there now. Start and Stop are called
// by one goroutine at a time, everything else may be called concurrently.
type Identity struct {
	now    atomic.Pointer[credentials]
	keeper keeper
}

// credentials are what an Identity shows and accepts at one time.
type credentials struct {
	cert   *tls.Certificate
	id     spiffeid.ID
	bundle *x509bundle.Bundle
}

// keeper replaces the credentials of an Identity while it runs.
type keeper interface {
	start(*Identity)
	stop()
}

// newCredentials returns what the PEM stands for: a certificate before those of its issuers, its key, and authorities.
// It refuses a certificate that its own side would not accept.
func newCredentials(cert, key, authorities []byte, now time.Time) (*credentials, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	id, err := x509svid.IDFromCert(pair.Leaf)
	if err != nil {
		return nil, fmt.Errorf("want a certificate with a SPIFFE ID: %w", err)
	}
	trusted, err := parseAuthorities(authorities)
	if err != nil {
		return nil, err
	}
	if now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("the certificate expired at %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	chain := make([]*x509.Certificate, 0, len(pair.Certificate))
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	bundle := x509bundle.FromX509Authorities(id.TrustDomain(), trusted)
	if _, _, err := x509svid.Verify(chain, bundle, x509svid.WithTime(now)); err != nil {
		return nil, fmt.Errorf("the certificate is not one that its own authorities issued: %w", err)
	}
	return &credentials{cert: &pair, id: id, bundle: bundle}, nil
}

// parseAuthorities returns the certificates of the PEM.
func parseAuthorities(text []byte) (all []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("invalid certificate of an authority: %w", err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no certificate of an authority")
	}
	return all, nil
}

// Start begins to keep the identity current. It does nothing if it has begun.
func (i *Identity) Start() { i.keeper.start(i) }

// Stop ends what Start began.
func (i *Identity) Stop() { i.keeper.stop() }

// ID returns the SPIFFE ID of this process.
func (i *Identity) ID() string { return i.now.Load().id.String() }

// Until returns when the certificate ends that is shown now.
func (i *Identity) Until() time.Time { return i.now.Load().cert.Leaf.NotAfter }

// Sibling returns the SPIFFE ID of the process of that name in the same system: the own one with another last segment.
// Of spiffe://example.org/ns/shop/sa/orders that is spiffe://example.org/ns/shop/sa/NAME.
func (i *Identity) Sibling(name string) string { return sibling(i.now.Load().id, name) }

func sibling(own spiffeid.ID, name string) string {
	folder := own.Path()
	folder = folder[:strings.LastIndexByte(folder, '/')+1]
	if folder == "" {
		folder = "/"
	}
	return own.TrustDomain().IDString() + folder + name
}

// TLS returns the configuration of a server that shows the certificate and asks clients for theirs. A certificate
// that is expired, of another authority or without a SPIFFE ID ends the handshake. A client without one is let in, for
// the probes of a platform: Require refuses its requests.
func (i *Identity) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.now.Load().cert, nil },
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 0 {
				return nil
			}
			_, err := i.verify(c.PeerCertificates)
			return err
		},
	}
}

// Public is an Identity whose TLS is that of a server for strangers: TLS 1.2 or later, and clients need no certificate.
type Public struct{ *Identity }

// Public returns the identity for a server that strangers call.
func (i *Identity) Public() Public { return Public{i} }

// TLS returns the configuration of a server that shows the certificate and asks clients for none.
func (p Public) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.now.Load().cert, nil },
	}
}

// Client returns the configuration of a client that shows the certificate and accepts one server only: the one of that
// name in the same system, whatever its address is called. "" accepts every server of the trust domain, and a server
// without a SPIFFE ID by its host name, if roots or, without any, the system's authorities vouch for it. A server
// without a SPIFFE ID that is called by an IP address is refused: TLS does not tell which address that was.
func (i *Identity) Client(name string, roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection verifies: a SPIFFE ID is no host name
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return i.now.Load().cert, nil
		},
		VerifyConnection: func(c tls.ConnectionState) error { return i.verifyServer(c, name, roots) },
	}
}

func (i *Identity) verifyServer(c tls.ConnectionState, name string, roots *x509.CertPool) error {
	if name == "" && len(c.PeerCertificates) > 0 && len(c.PeerCertificates[0].URIs) == 0 {
		if c.ServerName == "" { // Verify would not check the name then
			return errors.New("the server has no SPIFFE ID and was called by an IP address: call it by a name")
		}
		intermediates := x509.NewCertPool()
		for _, issuer := range c.PeerCertificates[1:] {
			intermediates.AddCert(issuer)
		}
		_, err := c.PeerCertificates[0].Verify(x509.VerifyOptions{
			DNSName: c.ServerName, Roots: roots, Intermediates: intermediates,
		})
		return err
	}
	id, err := i.verify(c.PeerCertificates)
	if err != nil {
		return err
	}
	if want := i.Sibling(name); name != "" && id.String() != want {
		return fmt.Errorf("the server is %s, want %s", id, want)
	}
	return nil
}

// verify returns the SPIFFE ID of a chain that the authorities vouch for.
func (i *Identity) verify(chain []*x509.Certificate) (spiffeid.ID, error) {
	id, _, err := x509svid.Verify(chain, i.now.Load().bundle)
	return id, err
}
