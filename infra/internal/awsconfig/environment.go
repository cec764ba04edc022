package awsconfig

import (
	"cmp"
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
)

// errNone is what a client is told whose environment has no credentials.
var errNone = errors.New("the environment has no credentials")

// fromEnvironment returns what the environment alone gives, which is all that Lambda has: it sets the credentials of a
// function's role as variables, for as long as the sandbox lives. An empty region is AWS_REGION.
func fromEnvironment(_ context.Context, region string, client aws.HTTPClient) (aws.Config, error) {
	env, err := config.NewEnvConfig()
	if err != nil {
		return aws.Config{}, err
	}
	c := aws.Config{
		Region: cmp.Or(region, env.Region), HTTPClient: client, Logger: logging.Nop{}, ConfigSources: []any{env},
		RetryMode: env.RetryMode, RetryMaxAttempts: env.RetryMaxAttempts, AppID: env.AppID,
		DefaultsMode:               cmp.Or(env.DefaultsMode, aws.DefaultsModeLegacy),
		AccountIDEndpointMode:      cmp.Or(env.AccountIDEndpointMode, aws.AccountIDEndpointModePreferred),
		RequestChecksumCalculation: cmp.Or(env.RequestChecksumCalculation, aws.RequestChecksumCalculationWhenSupported),
		ResponseChecksumValidation: cmp.Or(env.ResponseChecksumValidation, aws.ResponseChecksumValidationWhenSupported),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			if !env.Credentials.HasKeys() {
				return aws.Credentials{}, errNone
			}
			return env.Credentials, nil
		}),
	}
	if env.BaseEndpoint != "" && !aws.ToBool(env.IgnoreConfiguredEndpoints) {
		c.BaseEndpoint = &env.BaseEndpoint
	}
	return c, nil
}
