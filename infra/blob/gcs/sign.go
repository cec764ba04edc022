package gcs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
)

// lengthRange is the field that has Cloud Storage refuse an upload with fewer or more bytes.
const lengthRange = "X-Goog-Content-Length-Range"

// Sign implements blob.Driver. Cloud Storage checks the type of an upload, which is signed, and its size, by a field
// that is signed.
func (d *Driver) Sign(ctx context.Context, g blob.Grant) (blob.Signed, error) {
	if err := blob.CheckKey(g.Key); err != nil {
		return blob.Signed{}, err
	}
	out := blob.Signed{Method: g.Method, Header: http.Header{}}
	if g.Method == http.MethodPut {
		out.Header.Set("Content-Type", cmp.Or(g.Type, defaultType))
		out.Header.Set(lengthRange, fmt.Sprintf("%d,%d", g.Size, g.Size))
	}
	email, sign, err := d.account.signer(ctx)
	if err != nil {
		return blob.Signed{}, err
	}
	address := d.base.JoinPath(g.Key)
	address.RawQuery = query(email, d.now(), g.For, out.Header)
	signature, err := sign(ctx, stringToSign(g.Method, address, out.Header, d.now()))
	if err != nil {
		return blob.Signed{}, err
	}
	address.RawQuery += "&X-Goog-Signature=" + hex.EncodeToString(signature)
	out.URL = address.String()
	return out, nil
}

// The parts of a signature of version 4 ("V4 signing process" of Cloud Storage).
const (
	algorithm  = "GOOG4-RSA-SHA256"
	timeLayout = "20060102T150405Z"
	scope      = "/auto/storage/goog4_request"
)

func day(now time.Time) string { return now.UTC().Format("20060102") }

// query returns the query of a signed request but for its signature, in the order of the names. The request has the
// fields of header.
func query(email string, now time.Time, d time.Duration, header http.Header) string {
	return url.Values{
		"X-Goog-Algorithm":     {algorithm},
		"X-Goog-Credential":    {email + "/" + day(now) + scope},
		"X-Goog-Date":          {now.UTC().Format(timeLayout)},
		"X-Goog-Expires":       {strconv.Itoa(int(d.Seconds()))},
		"X-Goog-SignedHeaders": {strings.Join(signedNames(header), ";")},
	}.Encode()
}

// signedNames returns the names of the signed fields: those of header, and the host.
func signedNames(header http.Header) []string {
	names := []string{"host"}
	for name := range maps.Keys(header) {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	return names
}

// stringToSign returns what is signed of a request. Its path needs no escaping.
func stringToSign(method string, address *url.URL, header http.Header, now time.Time) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n/%s\n%s\n", method, strings.TrimPrefix(address.Path, "/"), address.RawQuery)
	names := signedNames(header)
	for _, name := range names {
		value := address.Host
		if name != "host" {
			value = header.Get(name)
		}
		fmt.Fprintf(&b, "%s:%s\n", name, value)
	}
	fmt.Fprintf(&b, "\n%s\nUNSIGNED-PAYLOAD", strings.Join(names, ";"))
	sum := sha256.Sum256([]byte(b.String()))
	return fmt.Appendf(nil, "%s\n%s\n%s%s\n%x", algorithm, now.UTC().Format(timeLayout), day(now), scope, sum)
}
