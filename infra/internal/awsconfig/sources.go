//go:build !lambda

package awsconfig

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// settings reads every source that the SDK knows.
func settings(ctx context.Context, region string, client aws.HTTPClient) (aws.Config, error) {
	return fromAll(ctx, region, client)
}
