// Package google adds Google Cloud Storage to the stores of blobs that package open chooses from:
//
//	import _ "github.com/ebb-dev/ebb/infra/blob/open/google"
//
// It is a package of its own because of the size of what it links.
package google

import (
	"context"

	"github.com/ebb-dev/ebb/infra/blob/gcs"
	"github.com/ebb-dev/ebb/infra/blob/open"
)

func init() {
	open.Add("gs://", func(_ context.Context, bucket string) (*gcs.Driver, error) {
		return gcs.Open(gcs.Config{Bucket: bucket})
	})
}
