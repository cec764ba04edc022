package gcs

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// At has the driver go by a clock.
func (d *Driver) At(now func() time.Time) { d.now = now }

// SignAt has the driver ask the service at an address for signatures.
func (d *Driver) SignAt(address string) { d.account.(*google).iam = address }

// SignedText returns the query of a request without its signature, and what is signed.
func SignedText(
	method, address, email string, now time.Time, d time.Duration, header http.Header,
) (signedQuery string, text []byte, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", nil, err
	}
	u.RawQuery = query(email, now, d, header)
	return u.RawQuery, stringToSign(method, u, header, now), nil
}

// HoldsNoKey has the driver ask the service for signatures although it has a key file.
func (d *Driver) HoldsNoKey() {
	g := d.account.(*google)
	d.account = keyless{g}
}

type keyless struct{ *google }

func (r keyless) signer(ctx context.Context) (string, signer, error) {
	email, _, err := r.google.signer(ctx)
	return email, func(ctx context.Context, text []byte) ([]byte, error) { return r.signBlob(ctx, email, text) }, err
}
