// Package tlsconfig returns TLS configurations of clients.
package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
)

// Config returns a configuration that trusts the system's certificate authorities and those of the PEM. ok reports
// whether the PEM has any.
func Config(pem []byte) (c *tls.Config, ok bool) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	ok = pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ok
}
