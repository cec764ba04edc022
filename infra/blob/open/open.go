// Package open chooses a store of blobs by its URL:
//
//	file:PATH      files of a directory, see package files
//	s3://BUCKET    Amazon S3, see package s3; in programs that import package aws below this one
//	gs://BUCKET    Google Cloud Storage, see package gcs; in programs that import package google below this one
//
// Only commands, hosts, drivers and tests import it.
package open

import (
	"context"
	"strings"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/files"
	"github.com/ebb-dev/ebb/infra/fault"
)

// buckets are the stores of buckets by the beginning of a URL.
var buckets = map[string]*struct {
	within string                                                      // the package that adds it
	open   func(ctx context.Context, name string) (blob.Driver, error) // nil: the program lacks it
}{
	"s3://": {within: "aws"}, "gs://": {within: "google"},
}

// Add sets what opens the bucket with a name in the store whose URLs begin with a prefix, s3:// or gs://. The packages
// below this one call it before main begins.
func Add[D blob.Driver](prefix string, open func(ctx context.Context, name string) (D, error)) {
	buckets[prefix].open = func(ctx context.Context, name string) (blob.Driver, error) {
		return opened(open(ctx, name))
	}
}

// ByURL opens the store with this URL. It refuses an invalid one with fault.Invalid. Nothing is sent to a remote store.
func ByURL(ctx context.Context, url string) (blob.Driver, error) {
	if path, ok := strings.CutPrefix(url, "file:"); ok {
		return opened(files.Open(files.Config{Dir: strings.TrimPrefix(path, "//")}))
	}
	for prefix, b := range buckets {
		name, ok := strings.CutPrefix(url, prefix)
		switch {
		case ok && b.open == nil:
			return nil, fault.New(fault.Invalid, "this program lacks the store of blobs %sBUCKET: it imports no package "+
				"infra/blob/open/%s", prefix, b.within)
		case ok:
			return b.open(ctx, name)
		}
	}
	return nil, fault.New(fault.Invalid, "invalid address of a store of blobs: want s3://BUCKET, gs://BUCKET or file:PATH")
}

// opened returns a driver as the interface, which is nil beside an error.
func opened[D blob.Driver](d D, err error) (blob.Driver, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}
