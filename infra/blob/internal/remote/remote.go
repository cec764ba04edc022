// Package remote has what drivers share whose store of blobs is reached by HTTP. All that is here may be used
// concurrently.
package remote

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/fault"
)

const (
	attempts    = 3
	callTimeout = 15 * time.Second // of a call with its attempts
)

// Bucket is a bucket of a store: blob.Driver without Sign. A driver embeds it.
type Bucket struct {
	Scheme string // of URI, such as s3
	Name   string

	// Send sends one request for the blob with a valid key. A PUT stores b, and a GET returns a blob of at most limit
	// bytes. Its errors are those of blob.Driver.
	Send func(ctx context.Context, method, key string, b blob.Blob, limit int64) (blob.Blob, error)
}

// Put implements blob.Driver.
func (b Bucket) Put(ctx context.Context, key string, data blob.Blob) error {
	_, err := b.call(ctx, http.MethodPut, key, data, 0)
	return err
}

// Get implements blob.Driver.
func (b Bucket) Get(ctx context.Context, key string, limit int64) (blob.Blob, error) {
	return b.call(ctx, http.MethodGet, key, blob.Blob{}, limit)
}

// Delete implements blob.Driver.
func (b Bucket) Delete(ctx context.Context, key string) error {
	_, err := b.call(ctx, http.MethodDelete, key, blob.Blob{}, 0)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// URI implements blob.Driver.
func (b Bucket) URI(key string) string { return b.Scheme + "://" + b.Name + "/" + key }

// call sends a request, and again while Send returns fault.Unavailable: three times at most, within 15 seconds. Every
// request may be repeated. It returns the error of ctx when that has ended.
func (b Bucket) call(
	ctx context.Context, method, key string, data blob.Blob, limit int64,
) (out blob.Blob, err error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Blob{}, err
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for n := range attempts {
		if n > 0 && !pause(limited, time.Duration(n)*200*time.Millisecond) {
			break
		}
		if out, err = b.Send(limited, method, key, data, limit); !fault.Is(err, fault.Unavailable) {
			return out, err
		}
	}
	if ctx.Err() != nil {
		return blob.Blob{}, ctx.Err()
	}
	return blob.Blob{}, err
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Read returns the blob that a response has. One of more than limit bytes is fault.TooLarge, and one that is cut off is
// fault.Unavailable with the name of the store.
func Read(response *http.Response, limit int64, store string) (blob.Blob, error) {
	if response.ContentLength > limit {
		return blob.Blob{}, blob.TooLarge(response.ContentLength, limit)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return blob.Blob{}, fault.Wrap(err, fault.Unavailable, "%s did not respond in full", store)
	}
	if int64(len(data)) > limit {
		return blob.Blob{}, blob.TooLarge(int64(len(data)), limit)
	}
	return blob.Blob{Type: response.Header.Get("Content-Type"), Data: data}, nil
}

// MaxError is how many bytes are read of a response that is a refusal.
const MaxError = 16 << 10

// Refusal returns the code of a refusal, in the XML that Amazon S3 and Cloud Storage both write, and what to report as
// its cause. The code is "" for a response without such XML, such as a proxy's.
func Refusal(response *http.Response) (code string, cause error) {
	var body struct {
		Code    string
		Message string
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, MaxError))
	_ = xml.Unmarshal(text, &body)
	return body.Code, errors.New(response.Status + " " + body.Code + ": " + body.Message)
}
