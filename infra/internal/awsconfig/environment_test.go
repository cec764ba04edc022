package awsconfig

import (
	"net/http"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ebb-dev/ebb/infra/fault"
)

// clear leaves no setting of AWS in the environment but those that are given.
func clear(t *testing.T, variables map[string]string) {
	t.Helper()
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SNS", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_CA_BUNDLE",
		"AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS", "AWS_USE_FIPS_ENDPOINT",
	} {
		t.Setenv(name, variables[name])
	}
	t.Setenv("AWS_CONFIG_FILE", "/nothing")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nothing")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// What the environment of a function on Lambda says means the same to the package for Lambda, which reads nothing else,
// as to the SDK.
func TestFromEnvironment(t *testing.T) {
	lambda := map[string]string{
		"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token",
		"AWS_REGION": "eu-central-1",
	}
	for name, c := range map[string]struct {
		region string
		more   map[string]string
	}{
		"as Lambda sets it":     {},
		"another region":        {region: "us-east-1"},
		"an emulator":           {more: map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}},
		"an emulator of one":    {more: map[string]string{"AWS_ENDPOINT_URL_SNS": "http://127.0.0.1:2"}},
		"an ignored emulator":   {more: map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:1", ignored: "true"}},
		"other attempts":        {more: map[string]string{"AWS_RETRY_MODE": "adaptive", "AWS_MAX_ATTEMPTS": "7"}},
		"endpoints with a rule": {more: map[string]string{"AWS_USE_FIPS_ENDPOINT": "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			variables := map[string]string{}
			for _, m := range []map[string]string{lambda, c.more} {
				for k, v := range m {
					variables[k] = v
				}
			}
			clear(t, variables)
			got, err := fromEnvironment(t.Context(), c.region, http.DefaultClient)
			want, wantErr := fromAll(t.Context(), c.region, http.DefaultClient)
			if err != nil || wantErr != nil {
				t.Fatal(err, wantErr)
			}
			gotKeys, err := got.Credentials.Retrieve(t.Context())
			wantKeys, wantErr := want.Credentials.Retrieve(t.Context())
			if err != nil || wantErr != nil || gotKeys != wantKeys {
				t.Errorf("got %v, %v, want %v, %v", gotKeys, err, wantKeys, wantErr)
			}
			if got, want := endpoints(t, got), endpoints(t, want); !reflect.DeepEqual(got, want) {
				t.Errorf("got the endpoints %v, want %v", got, want)
			}
			differ(t, got, want)
		})
	}
}

const ignored = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"

// endpoints returns where the clients of a configuration send what, and how often they try.
func endpoints(t *testing.T, c aws.Config) (out []any) {
	t.Helper()
	s, d := sns.NewFromConfig(c).Options(), dynamodb.NewFromConfig(c).Options()
	return append(out, aws.ToString(s.BaseEndpoint), aws.ToString(d.BaseEndpoint), s.Region,
		s.EndpointOptions.UseFIPSEndpoint, s.Retryer.MaxAttempts(), d.Retryer.MaxAttempts(), d.AccountIDEndpointMode)
}

// Without credentials, and with settings that are not valid, a client says so.
func TestFromEnvironmentWithout(t *testing.T) {
	clear(t, nil)
	c, err := fromEnvironment(t.Context(), "eu-central-1", http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Credentials.Retrieve(t.Context()); !fault.Is(Fault(t.Context(), err, "SNS"), fault.Unauthenticated) {
		t.Errorf("got %v", err)
	}
	clear(t, map[string]string{"AWS_MAX_ATTEMPTS": "many"})
	if _, err := fromEnvironment(t.Context(), "", http.DefaultClient); err == nil {
		t.Error("AWS_MAX_ATTEMPTS=many is taken")
	}
}

// differ fails for each field of two configurations that differs, but for what no client in use looks at.
func differ(t *testing.T, got, want aws.Config) {
	t.Helper()
	a, b := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range a.NumField() {
		switch name := a.Type().Field(i).Name; name {
		case "Credentials", "ConfigSources": // they are compared by what comes out of them
		case "Interceptors": // there are none
		case "RequestMinCompressSizeBytes", "RestrictFilePermissions": // of services and of files that are not used
		default:
			if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
				t.Errorf("%s is %v, want %v", name, a.Field(i), b.Field(i))
			}
		}
	}
}
