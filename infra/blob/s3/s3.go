// Package s3 stores blobs in a bucket of Amazon S3, or of a store with the same API. It signs its requests with the
// SDK's signer and sends them by plain HTTP: the SDK's client of S3 would make each function megabytes larger.
//
// S3 is consistent: a Get after a Put that has returned finds the blob. Blobs end by a lifecycle rule of the bucket,
// which Terraform makes; nothing here deletes what is old.
package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/internal/remote"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
)

// Config names a bucket.
type Config struct {
	Bucket string
	Region string // "": AWS_REGION
}

// Driver stores blobs in a bucket.
type Driver struct {
	bucket
	settings aws.Config
	base     *url.URL // the bucket's; keys come behind it
	signer   *v4.Signer
	now      func() time.Time
}

type bucket = remote.Bucket

var _ blob.Driver = (*Driver)(nil)

// Open returns a driver. It sends nothing, so that the bucket may be away.
func Open(ctx context.Context, cfg Config) (*Driver, error) {
	if !validBucket(cfg.Bucket) {
		return nil, fault.New(fault.Invalid, "invalid name %.70q of a bucket: want 3 to 63 of a-z, 0-9, . and -", cfg.Bucket)
	}
	settings, err := awsconfig.Load(ctx, cfg.Region)
	if err != nil {
		return nil, err
	}
	if settings.Region == "" {
		return nil, fault.New(fault.Invalid, "no region of the bucket %s: set AWS_REGION", cfg.Bucket)
	}
	address := "https://s3." + settings.Region + ".amazonaws.com/" + cfg.Bucket
	switch {
	case settings.BaseEndpoint != nil: // an emulator's, or another store's
		address = strings.TrimSuffix(*settings.BaseEndpoint, "/") + "/" + cfg.Bucket
	case !strings.Contains(cfg.Bucket, "."): // else TLS certificates do not match
		address = "https://" + cfg.Bucket + ".s3." + settings.Region + ".amazonaws.com"
	}
	base, err := url.Parse(address)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the address of S3 is not valid")
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	d := &Driver{settings: settings, base: base, signer: signer, now: time.Now}
	d.bucket = bucket{Scheme: "s3", Name: cfg.Bucket, Send: d.send}
	return d, nil
}

func validBucket(name string) bool {
	return len(name) >= 3 && len(name) <= 63 && strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-'
	}) < 0
}

func (d *Driver) send(ctx context.Context, method, key string, b blob.Blob, limit int64) (blob.Blob, error) {
	r, err := http.NewRequestWithContext(ctx, method, d.base.JoinPath(key).String(), bytes.NewReader(b.Data))
	if err != nil {
		return blob.Blob{}, fault.Wrap(err, fault.Invalid, "the request to S3 is not valid")
	}
	if method == http.MethodPut && b.Type != "" {
		r.Header.Set("Content-Type", b.Type)
	}
	credentials, err := d.settings.Credentials.Retrieve(ctx)
	if err != nil {
		return blob.Blob{}, noCredentials(err)
	}
	sum := sha256.Sum256(b.Data)
	hash := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Content-Sha256", hash)
	if err := d.signer.SignHTTP(ctx, credentials, r, hash, "s3", d.settings.Region, d.now()); err != nil {
		return blob.Blob{}, fault.Wrap(err, fault.Internal, "a request to S3 cannot be signed")
	}
	response, err := d.settings.HTTPClient.Do(r)
	if err != nil {
		return blob.Blob{}, fault.Wrap(err, fault.Unavailable, "S3 cannot be reached")
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return blob.Blob{}, d.refusal(response, key)
	}
	if method != http.MethodGet {
		return blob.Blob{}, nil
	}
	return remote.Read(response, limit, "S3")
}

func noCredentials(err error) error {
	return fault.Wrap(err, fault.Unauthenticated, "there are no credentials for AWS: set AWS_ACCESS_KEY_ID and "+
		"AWS_SECRET_ACCESS_KEY, a profile or a role")
}

// refusal returns the fault of a response.
func (d *Driver) refusal(response *http.Response, key string) error {
	code, cause := remote.Refusal(response)
	switch status := response.StatusCode; {
	case code == "NoSuchBucket":
		return fault.Wrap(cause, fault.Unavailable, "there is no bucket %s", d.Name)
	case status == http.StatusNotFound:
		return blob.NotFound(d.URI(key))
	case code == "InvalidAccessKeyId", code == "SignatureDoesNotMatch", code == "ExpiredToken",
		status == http.StatusUnauthorized:
		return fault.Wrap(cause, fault.Unauthenticated, "S3 does not accept the credentials")
	case status == http.StatusForbidden: // also for a blob that does not exist, without the permission to list
		return fault.Wrap(cause, fault.Denied, "the credentials do not allow to use %s; the role needs s3:GetObject, "+
			"s3:PutObject and s3:ListBucket", d.URI(key))
	case status == http.StatusMovedPermanently, status == http.StatusBadRequest && code == "AuthorizationHeaderMalformed":
		return fault.Wrap(cause, fault.Invalid, "the bucket %s is in another region than %s", d.Name, d.settings.Region)
	}
	return fault.Wrap(cause, fault.Unavailable, "S3 has failed")
}

// Sign implements blob.Driver. S3 checks the size and the type of an upload, since both are signed.
func (d *Driver) Sign(ctx context.Context, g blob.Grant) (blob.Signed, error) {
	if err := blob.CheckKey(g.Key); err != nil {
		return blob.Signed{}, err
	}
	address := d.base.JoinPath(g.Key)
	address.RawQuery = url.Values{"X-Amz-Expires": {strconv.Itoa(int(g.For.Seconds()))}}.Encode()
	r, err := http.NewRequestWithContext(ctx, g.Method, address.String(), nil)
	if err != nil {
		return blob.Signed{}, fault.Wrap(err, fault.Invalid, "the request to S3 is not valid")
	}
	if g.Method == http.MethodPut {
		r.Header.Set("Content-Type", g.Type)
		r.ContentLength = g.Size
	}
	credentials, err := d.settings.Credentials.Retrieve(ctx)
	if err != nil {
		return blob.Signed{}, noCredentials(err)
	}
	signed, header, err := d.signer.PresignHTTP(ctx, credentials, r, "UNSIGNED-PAYLOAD", "s3", d.settings.Region, d.now())
	if err != nil {
		return blob.Signed{}, fault.Wrap(err, fault.Internal, "a request to S3 cannot be signed")
	}
	header.Del("Host") // the URL has it
	return blob.Signed{Method: g.Method, URL: signed, Header: header}, nil
}
