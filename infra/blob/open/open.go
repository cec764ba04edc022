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

// Opener opens the store with a name: what follows the beginning of its URL.
type Opener func(ctx context.Context, name string) (blob.Driver, error)

// buckets are the openers by the beginning of a URL; nil: the program lacks it. Each has the name of the package that
// adds it.
var buckets = map[string]*struct {
	within string
	open   Opener
}{
	"s3://": {within: "aws"}, "gs://": {within: "google"},
}

// Add sets the opener of the stores whose URLs begin with a prefix, s3:// or gs://. The packages below this one call it
// before main begins.
func Add(prefix string, o Opener) { buckets[prefix].open = o }

// ByURL opens the store with this URL. It refuses an invalid one with fault.Invalid. Nothing is sent to a remote store.
func ByURL(ctx context.Context, url string) (blob.Driver, error) {
	if path, ok := strings.CutPrefix(url, "file:"); ok {
		d, err := files.Open(files.Config{Dir: strings.TrimPrefix(path, "//")})
		if err != nil {
			return nil, err
		}
		return d, nil
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
