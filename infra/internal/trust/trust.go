// Package trust says which authorities a connection's certificate may come from.
package trust

import (
	"crypto/tls"
	"crypto/x509"
)

// Config is the system's authorities and those of the PEM beside them. ok says whether the PEM held any.
func Config(pem []byte) (c *tls.Config, ok bool) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	ok = pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ok
}
