// Package open chooses a store of blobs by its URL: file:PATH or s3://BUCKET. Only commands, hosts, drivers and tests
// import it.
package open

import (
	"context"
	"strings"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/files"
	"github.com/ebb-dev/ebb/infra/blob/s3"
	"github.com/ebb-dev/ebb/infra/fault"
)

// ByURL opens the store with this URL. It refuses an invalid one with fault.Invalid. Nothing is sent to a remote store.
func ByURL(ctx context.Context, url string) (blob.Driver, error) {
	switch {
	case strings.HasPrefix(url, "file:"):
		return opened(files.Open(files.Config{Dir: strings.TrimPrefix(strings.TrimPrefix(url, "file:"), "//")}))
	case strings.HasPrefix(url, "s3://"):
		return opened(s3.Open(ctx, s3.Config{Bucket: strings.TrimPrefix(url, "s3://")}))
	}
	return nil, fault.New(fault.Invalid, "invalid address of a store of blobs: want s3://BUCKET or file:PATH")
}

// opened returns a driver as the interface, which is nil beside an error.
func opened[D blob.Driver](d D, err error) (blob.Driver, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}
