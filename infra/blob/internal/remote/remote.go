// Package remote has what drivers share whose store of blobs is reached by HTTP. Its functions may be called
// concurrently.
package remote

import (
	"context"
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

// Call has send send a request, and again while it returns fault.Unavailable: three times at most, within 15 seconds.
// The request must be one that may be repeated. It returns the error of ctx when that has ended.
func Call(ctx context.Context, send func(context.Context) (blob.Blob, error)) (out blob.Blob, err error) {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for n := range attempts {
		if n > 0 && !pause(limited, time.Duration(n)*200*time.Millisecond) {
			break
		}
		if out, err = send(limited); !fault.Is(err, fault.Unavailable) {
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
