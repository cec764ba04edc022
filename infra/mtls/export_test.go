package mtls

import (
	"crypto/x509"
	"time"
)

// Issue issues a certificate at a time.
func Issue(a *Authority, name string, at time.Time) (cert, key []byte, err error) {
	then := *a
	then.now = func() time.Time { return at }
	return then.issue(name, nil)
}

// KeyOf returns the key of an authority.
func KeyOf(a *Authority) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		panic(err)
	}
	return encodePEM("PRIVATE KEY", der)
}
