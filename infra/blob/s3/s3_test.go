package s3_test

import (
	"net/http"
	"net/http/httptest"
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

// static has the clients of this process use a server that answers every request alike.
func static(t *testing.T, status int, body string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	for name, value := range map[string]string{
		"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hunter2",
	} {
		t.Setenv(name, value)
	}
}

// Every refusal of S3 is a fault of its kind and a sentence without the secret.
func TestRefusals(t *testing.T) {
	for body, c := range map[string]struct {
		status int
		kind   fault.Kind
		text   string
	}{
		"<Error><Code>NoSuchKey</Code></Error>":                    {404, fault.NotFound, "no blob s3://shop/a"},
		"<Error><Code>NoSuchBucket</Code></Error>":                 {404, fault.Unavailable, "no bucket shop"},
		"<Error><Code>InvalidAccessKeyId</Code></Error>":           {403, fault.Unauthenticated, "credentials"},
		"<Error><Code>SignatureDoesNotMatch</Code></Error>":        {403, fault.Unauthenticated, "credentials"},
		"<Error><Code>AccessDenied</Code></Error>":                 {403, fault.Denied, "s3:GetObject"},
		"<Error><Code>PermanentRedirect</Code></Error>":            {301, fault.Invalid, "another region than eu-central-1"},
		"<Error><Code>AuthorizationHeaderMalformed</Code></Error>": {400, fault.Invalid, "another region"},
		"<Error><Code>SlowDown</Code></Error>":                     {503, fault.Unavailable, "S3 has failed"},
	} {
		static(t, c.status, body)
		_, err := open(t, "shop").Get(t.Context(), "a", 10)
		if !fault.Is(err, c.kind) || !strings.Contains(fault.Public(err), c.text) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", body, err)
		}
	}
	static(t, 200, "")
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	if _, err := open(t, "shop").Get(t.Context(), "a", 10); !fault.Is(err, fault.Unavailable) {
		t.Errorf("away: got %v", err)
	}
	if _, err := s3.Open(t.Context(), s3.Config{Bucket: "No/Bucket"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("an invalid name: got %v", err)
	}
}

// A signed upload has its size and its type in the signature, so that S3 refuses another one.
func TestSigned(t *testing.T) {
	static(t, 200, "")
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
