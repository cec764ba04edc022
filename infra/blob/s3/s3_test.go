package s3_test

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/blobtest"
	"github.com/ebb-dev/ebb/infra/blob/s3"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/awstest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	awstest.Stop()
	os.Exit(code)
}

func open(t *testing.T, bucket string) *s3.Driver {
	t.Helper()
	d, err := s3.Open(t.Context(), s3.Config{Bucket: bucket})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The driver passes the suite against an emulator, which does not check what is signed.
func TestDriver(t *testing.T) {
	awstest.Need(t)
	buckets := strings.NewReplacer("/", "-", ",", "", "_", "-", ".", "-", "#", "-")
	blobtest.Run(t, blobtest.Harness{New: func(t *testing.T) blob.Driver {
		name := strings.ToLower(buckets.Replace(t.Name()))
		name = strings.Trim(name[:min(len(name), 63)], "-")
		awstest.CreateBucket(t, name)
		return open(t, name)
	}})
}

// useStore has the clients of this process use a store at a URL.
func useStore(t *testing.T, url string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": url, "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "key",
		"AWS_SECRET_ACCESS_KEY": "hunter2",
	} {
		t.Setenv(name, value)
	}
}

// Every refusal of S3 is a fault of its kind and a sentence without the secret.
func TestRefusals(t *testing.T) {
	blobtest.Refusals(t, func(url string) blob.Driver {
		useStore(t, url)
		return open(t, "shop")
	}, "hunter2", []blobtest.Refusal{
		{Status: 404, Code: "NoSuchKey", Kind: fault.NotFound, Text: "no blob s3://shop/a"},
		{Status: 404, Code: "NoSuchBucket", Kind: fault.Unavailable, Text: "no bucket shop"},
		{Status: 403, Code: "InvalidAccessKeyId", Kind: fault.Unauthenticated, Text: "credentials"},
		{Status: 403, Code: "SignatureDoesNotMatch", Kind: fault.Unauthenticated, Text: "credentials"},
		{Status: 403, Code: "AccessDenied", Kind: fault.Denied, Text: "s3:GetObject"},
		{Status: 301, Code: "PermanentRedirect", Kind: fault.Invalid, Text: "another region than eu-central-1"},
		{Status: 400, Code: "AuthorizationHeaderMalformed", Kind: fault.Invalid, Text: "another region"},
		{Status: 503, Code: "SlowDown", Kind: fault.Unavailable, Text: "S3 has failed"},
	})
	if _, err := s3.Open(t.Context(), s3.Config{Bucket: "No/Bucket"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("an invalid name: got %v", err)
	}
}

// A signed upload has its size and its type in the signature, so that S3 refuses another one.
func TestSigned(t *testing.T) {
	useStore(t, "http://127.0.0.1:1") // nothing is sent
	signed, err := open(t, "shop").Sign(t.Context(), blob.Grant{
		Method: http.MethodPut, Key: "up/load", For: 90 * time.Second, Type: "image/png", Size: 7,
	})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(signed.URL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("X-Amz-SignedHeaders") != "content-length;content-type;host" || q.Get("X-Amz-Expires") != "90" ||
		q.Get("X-Amz-Signature") == "" || u.Path != "/shop/up/load" {
		t.Errorf("got %s", signed.URL)
	}
}
