//go:build lambda

package awsconfig

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// settings reads the environment only: the package for Lambda has no client of AWS's single sign-on, of roles to take
// on or of a machine's role, which nothing there uses and which would make it larger.
func settings(ctx context.Context, region string, client aws.HTTPClient) (aws.Config, error) {
	return fromEnvironment(ctx, region, client)
}
