// Package awsconfig makes the configuration of AWS clients, the same for every driver.
package awsconfig

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Load returns the configuration of clients in a region, with the credentials that the SDK finds: of the environment,
// which Lambda sets, of a container's or a machine's role, or of a profile. With the build tag lambda it looks into the
// environment only. An empty region is AWS_REGION. AWS_ENDPOINT_URL and its kin name another endpoint, such as an
// emulator's. It sends no request. Clients of one configuration share their connections.
func Load(ctx context.Context, region string) (aws.Config, error) {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = 64 // the default of 10 closes connections that concurrent units soon need again
		t.IdleConnTimeout = 55 * time.Second
	})
	c, err := settings(ctx, region, client)
	if err != nil {
		return aws.Config{}, fault.Wrap(err, fault.Invalid, "the settings of AWS cannot be used: %v", err)
	}
	return c, nil
}

// fromAll returns what all sources of the SDK give. The SDK's logger warns of each response that it need not read;
// errors are returned.
func fromAll(ctx context.Context, region string, client aws.HTTPClient) (aws.Config, error) {
	return config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithHTTPClient(client),
		config.WithLogger(logging.Nop{}))
}
