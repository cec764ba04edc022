// Package aws adds Amazon S3 to the stores of blobs that package open chooses from:
//
//	import _ "github.com/ebb-dev/ebb/infra/blob/open/aws"
//
// It is a package of its own because of the size of what it links.
package aws

import (
	"context"

	"github.com/ebb-dev/ebb/infra/blob/open"
	"github.com/ebb-dev/ebb/infra/blob/s3"
)

func init() {
	open.Add("s3://", func(ctx context.Context, bucket string) (*s3.Driver, error) {
		return s3.Open(ctx, s3.Config{Bucket: bucket})
	})
}
