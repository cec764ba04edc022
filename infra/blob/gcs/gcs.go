// Package gcs stores blobs in a bucket of Google Cloud Storage. It sends requests of the XML API by plain HTTP, with
// credentials of the library that the drivers of Firestore and Pub/Sub use too: the client library of Cloud Storage
// would make each function megabytes larger.
//
// Cloud Storage is consistent: a Get after a Put that has returned finds the blob. Blobs end by a lifecycle rule of the
// bucket; nothing here deletes what is old. The service account needs the role Storage Object User on the bucket, and,
// to sign URLs without a key file, Service Account Token Creator on itself.
package gcs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/internal/remote"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Config names a bucket.
type Config struct {
	Bucket string

	// Endpoint is the address of Cloud Storage. "": STORAGE_EMULATOR_HOST of the environment, which is an emulator that
	// asks for no credentials, or else https://storage.googleapis.com.
	Endpoint string
}

// Driver stores blobs in a bucket.
type Driver struct {
	bucket
	base    *url.URL // the bucket's; keys come behind it
	account account
	client  *http.Client
	now     func() time.Time
}

type bucket = remote.Bucket

var _ blob.Driver = (*Driver)(nil)

const endpoint = "https://storage.googleapis.com"

// Open returns a driver. It sends nothing, so that the bucket and the credentials may be away.
func Open(cfg Config) (*Driver, error) {
	if !validBucket(cfg.Bucket) {
		return nil, fault.New(fault.Invalid, "invalid name %.70q of a bucket: want 3 to 222 of a-z, 0-9, ., _ and -",
			cfg.Bucket)
	}
	emulator := os.Getenv("STORAGE_EMULATOR_HOST")
	if emulator != "" && !strings.Contains(emulator, "://") {
		emulator = "http://" + emulator
	}
	base, err := url.Parse(cmp.Or(cfg.Endpoint, emulator, endpoint))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "the address of Cloud Storage is not valid: want https://HOST")
	}
	d := &Driver{base: base.JoinPath(cfg.Bucket), now: time.Now, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	d.bucket = bucket{Scheme: "gs", Name: cfg.Bucket, Send: d.send}
	if d.account = (&google{client: d.client, iam: iamEndpoint}); cfg.Endpoint == "" && emulator != "" {
		d.account = anonymous{}
	}
	return d, nil
}

func validBucket(name string) bool {
	return len(name) >= 3 && len(name) <= 222 && strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	}) < 0 && name[0] != '.'
}

func (d *Driver) send(ctx context.Context, method, key string, b blob.Blob, limit int64) (blob.Blob, error) {
	r, err := http.NewRequestWithContext(ctx, method, d.base.JoinPath(key).String(), bytes.NewReader(b.Data))
	if err != nil {
		return blob.Blob{}, fault.Wrap(err, fault.Invalid, "the request to Cloud Storage is not valid")
	}
	if method == http.MethodPut {
		r.Header.Set("Content-Type", cmp.Or(b.Type, defaultType))
		r.Header.Set(hashHeader, sumOf(b.Data)) // Cloud Storage refuses other data
	}
	token, err := d.account.token(ctx)
	if err != nil {
		return blob.Blob{}, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := d.client.Do(r)
	if err != nil {
		return blob.Blob{}, fault.Wrap(err, fault.Unavailable, "Cloud Storage cannot be reached")
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return blob.Blob{}, d.refusal(response, key)
	}
	if method != http.MethodGet {
		return blob.Blob{}, nil
	}
	out, err := remote.Read(response, limit, "Cloud Storage")
	if err == nil && !intact(response, out.Data) {
		return blob.Blob{}, fault.New(fault.Unavailable, "Cloud Storage did not respond with what is stored")
	}
	return out, err
}

// defaultType is the media type of a blob without one.
const defaultType = "application/octet-stream"

// hashHeader has the checksums of an object.
const hashHeader = "X-Goog-Hash"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf returns the CRC-32C of data as hashHeader has it.
func sumOf(data []byte) string {
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli))
	return "crc32c=" + base64.StdEncoding.EncodeToString(sum)
}

// intact reports whether the data has the CRC-32C that the response names, if it names one.
func intact(response *http.Response, data []byte) bool {
	for _, line := range response.Header.Values(hashHeader) {
		for sum := range strings.SplitSeq(line, ",") {
			if sum = strings.TrimSpace(sum); strings.HasPrefix(sum, "crc32c=") {
				return sum == sumOf(data)
			}
		}
	}
	return true
}

// refusal returns the fault of a response.
func (d *Driver) refusal(response *http.Response, key string) error {
	code, cause := remote.Refusal(response)
	switch status := response.StatusCode; {
	case code == "NoSuchBucket":
		return fault.Wrap(cause, fault.Unavailable, "there is no bucket %s", d.Name)
	case status == http.StatusNotFound:
		return blob.NotFound(d.URI(key))
	case status == http.StatusUnauthorized:
		return fault.Wrap(cause, fault.Unauthenticated, "Cloud Storage does not accept the credentials")
	case status == http.StatusForbidden: // also for a blob that does not exist, without the permission to list
		return fault.Wrap(cause, fault.Denied, "the credentials do not allow to use %s; the service account needs the "+
			"role Storage Object User", d.URI(key))
	}
	return fault.Wrap(cause, fault.Unavailable, "Cloud Storage has failed")
}
