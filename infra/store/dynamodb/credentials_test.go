package dynamodb_test

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/dynamodb"
)

// A function without credentials says that, and not that DynamoDB does not answer: nothing was sent to it.
func TestNoCredentials(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/nothing", "AWS_SHARED_CREDENTIALS_FILE": "/nothing", "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	_, err := dynamodb.Open(t.Context(), dynamodb.Config{Region: "eu-central-1", Table: "shop"}, store.Schema{})
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Public(err), "has no credentials for AWS") {
		t.Errorf("got %v", err)
	}
}
