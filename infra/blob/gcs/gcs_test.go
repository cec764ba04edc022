package gcs_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/blobtest"
	"github.com/ebb-dev/ebb/infra/blob/gcs"
	"github.com/ebb-dev/ebb/infra/fault"
)

// The driver passes the suite against a fake that checks tokens and signatures, with a key file and without one.
func TestDriver(t *testing.T) {
	blobtest.Run(t, blobtest.Harness{Checked: true, New: func(t *testing.T) blob.Driver { return start(t).open() }})
}

// An account without a key file, such as that of a workload elsewhere, has Google sign for it.
func TestSignedByGoogle(t *testing.T) {
	f := start(t)
	d := f.open()
	if err := d.Put(t.Context(), "a", blob.Blob{Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	elsewhere := f.openAs(map[string]string{
		"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
	})
	grant := blob.Grant{Method: http.MethodGet, Key: "a", For: time.Minute}
	if _, err := elsewhere.Sign(t.Context(), grant); !fault.Is(err, fault.Unauthenticated) ||
		!strings.Contains(fault.Public(err), "authorized_user") {
		t.Errorf("a person's credentials: got %v", err)
	}
	d.HoldsNoKey()
	signed, err := d.Sign(t.Context(), grant)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get(signed.URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("got %s", response.Status)
	}
}

// A signed request ends with its grant.
func TestExpiry(t *testing.T) {
	f := start(t)
	d := f.open()
	if err := d.Put(t.Context(), "a", blob.Blob{Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	signed, err := d.Sign(t.Context(), blob.Grant{Method: http.MethodGet, Key: "a", For: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ passed, want int }{{50, 200}, {20, 403}} {
		f.mu.Lock()
		f.now = f.now.Add(time.Duration(c.passed) * time.Second)
		f.mu.Unlock()
		response, err := http.Get(signed.URL)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("after %d s more: got %d, want %d", c.passed, response.StatusCode, c.want)
		}
	}
}

// publicKey is that of the test account whose signatures Google publishes as test data.
const publicKey = `-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEArD8zIqyKLbX0Nq8o0Jj1
qHEhHhqO3+0OP7TEFx5Vxc6PdwBoFNrfnJRI/S+ZaDYS1avr5Pqpp8g8+UNOMvI1
VsjGM8xjTaxkVv8mmKp6pSmQstTt25pzY1exA2wv4xNWSwWNFNx2kh35+kvTQ/DF
3YA9P7pUU1sKur1PP8OoubWLFO59iy5UE5dX0O/3pjvZ2HAhSXsx2VWtB5nlrHR8
FrKJNLJMEGEDSMz9yRfQaUeYCU9oDYHuiqKQ3rCXi6C82l+3FJw5/ggJ5y7iw8ME
rCFSslcYQRbBVz6ZYKWkEcJhs8BG3/16bfaqNusNlDIJ99I7DmipUngF/HEulYhf
rQIDAQAB
-----END PUBLIC KEY-----
`

// What is signed is what the signatures of Google's test data are about: googleapis/conformance-tests,
// storage/v1/v4_signatures.json.
func TestSignatures(t *testing.T) {
	block, _ := pem.Decode([]byte(publicKey))
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	february := time.Date(2019, 2, 1, 9, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		method, address string
		now             time.Time
		seconds         int
		header          http.Header
		names           string
		signature       string
	}{
		"Simple GET": {
			"GET", "test-bucket/test-object", february, 10, nil, "host",
			"95e6a13d43a1d1962e667f17397f2b80ac9bdd1669210d5e08e0135df9dff4e56113485dbe429ca2266487b9d1796ebd" +
				"ee2d7cf682a6ef3bb9fbb4c351686fba90d7b621cf1c4eb1fdf126460dd25fa0837dfdde0a9fd98662ce60844c458448" +
				"fb2b352c203d9969cb74efa4bdb742287744a4f2308afa4af0e0773f55e32e92973619249214b97283b2daa141952444" +
				"44e33f938138d1e5f561088ce8011f4986dda33a556412594db7c12fc40e1ff3f1bedeb7a42f5bcda0b9567f17f65855" +
				"f65071fabb88ea12371877f3f77f10e1466fff6ff6973b74a933322ff0949ce357e20abe96c3dd5cfab42c9c83e740a4" +
				"d32b9e11e146f0eb3404d2e975896f74",
		},
		"Simple PUT": {
			"PUT", "test-bucket/test-object", february, 10, nil, "host",
			"8adff1d4285739e31aa68e73767a46bc5511fde377497dbe08481bf5ceb34e29cc9a59921748d8ec3dd4085b7e9b7772" +
				"a952afedfcdaecb3ae8352275b8b7c867f204e3db85076220a3127a8a9589302fc1181eae13b9b7fe41109ec8cdc93c1" +
				"e8bac2d7a0cc32a109ca02d06957211326563ab3d3e678a0ba296e298b5fc5e14593c99d444c94724cc4be97015dbff1" +
				"dca377b508fa0cb7169195de98d0e4ac96c42b918d28c8d92d33e1bd125ce0fb3cd7ad2c45dae65c22628378f6584971" +
				"b8bf3945b26f2611eb651e9b6a8648970c1ecf386bb71327b082e7296c4e1ee2fc0bdd8983da80af375c817fb1ad491d" +
				"0bc22c0f51dba0d66e2cffbc90803e47",
		},
		"Vary expiration and timestamp": {
			"GET", "test-bucket/test-object", time.Date(2019, 3, 1, 9, 0, 0, 0, time.UTC), 20, nil, "host",
			"9669ed5b10664dc594c758296580662912cf4bcc5a4ba0b6bf055bcbf6f34eed7bdad664f534962174a924741a0c273a" +
				"4f67bc1847cef20192a6beab44223bd9d4fbbd749c407b79997598c30f82ddc269ff47ec09fa3afe74e00616d438df0d" +
				"96a7d8ad0adacfad1dc3286f864d924fe919fb0dce45d3d975c5afe8e13af2db9cc37ba77835f92f7669b61e94c6d562" +
				"196c1274529e76cfff1564cc2cad7d5387dc8e12f7a5dfd925685fe92c30b43709eee29fa2f66067472cee5423d1a3a4" +
				"182fe8cea75c9329d181dc6acad7c393cd04f8bf5bc0515127d8ebd65d80c08e19ad03316053ea60033fd1b1fd85a69c" +
				"576415da3bf0a3718d9ea6d03e0d66f0",
		},
		"Simple headers": {
			"GET", "test-bucket/test-object", february, 10, http.Header{"Bar": {"BAR-value"}, "Foo": {"foo-value"}},
			"bar;foo;host",
			"68ecd3b008328ed30d91e2fe37444ed7b9b03f28ed4424555b5161980531ef87db1c3a5bc0265aad5640af30f96014c9" +
				"4fb2dba7479c41bfe1c020eb90c0c6d387d4dd09d4a5df8b60ea50eb6b01cdd786a1e37020f5f95eb8f9b6cd3f65a1f8" +
				"a8a65c9fcb61ea662959efd9cd73b683f8d8804ef4d6d9b2852419b013368842731359d7f9e6d1139032ceca75d5e67c" +
				"ee5fd0192ea2125e5f2955d38d3d50cf116f3a52e6a62de77f6207f5b95aaa1d7d0f8a46de89ea72e7ea30f21286318d" +
				"7eba0142232b0deb3a1dc9e1e812a981c66b5ffda3c6b01a8a9d113155792309fd53a3acfd054ca7776e8eec28c26480" +
				"cd1e3c812f67f91d14217f39a606669d",
		},
	} {
		q, text, err := gcs.SignedText(c.method, "https://storage.googleapis.com/"+c.address,
			"test-iam-credentials@dummy-project-id.iam.gserviceaccount.com", c.now, time.Duration(c.seconds)*time.Second,
			c.header)
		if err != nil {
			t.Fatal(err)
		}
		values, err := url.ParseQuery(q)
		if err != nil || values.Get("X-Goog-SignedHeaders") != c.names {
			t.Errorf("%s: got the query %s, %v", name, q, err)
		}
		signature, err := hex.DecodeString(c.signature)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if err := rsa.VerifyPKCS1v15(parsed.(*rsa.PublicKey), crypto.SHA256, sum[:], signature); err != nil {
			t.Errorf("%s: %v of %s", name, err, text)
		}
	}
}

// Every refusal of Cloud Storage is a fault of its kind and a sentence.
func TestRefusals(t *testing.T) {
	blobtest.Refusals(t, func(url string) blob.Driver {
		t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(url, "http://"))
		d, err := gcs.Open(gcs.Config{Bucket: "shop"})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}, "", []blobtest.Refusal{
		{Status: 404, Code: "NoSuchKey", Kind: fault.NotFound, Text: "no blob gs://shop/a"},
		{Status: 404, Code: "NoSuchBucket", Kind: fault.Unavailable, Text: "no bucket shop"},
		{Status: 401, Code: "AuthenticationRequired", Kind: fault.Unauthenticated, Text: "credentials"},
		{Status: 403, Code: "AccessDenied", Kind: fault.Denied, Text: "Storage Object User"},
		{Status: 429, Code: "SlowDown", Kind: fault.Unavailable, Text: "Cloud Storage has failed"},
		{Status: 302, Kind: fault.Unavailable, Text: "Cloud Storage has failed"},
	})
	for _, bucket := range []string{"", "No/Bucket", "ab", ".shop"} {
		if _, err := gcs.Open(gcs.Config{Bucket: bucket}); !fault.Is(err, fault.Invalid) {
			t.Errorf("the name %q: got %v", bucket, err)
		}
	}
	for _, address := range []string{"ftp://host", "https://", "::"} {
		if _, err := gcs.Open(gcs.Config{Bucket: "shop", Endpoint: address}); !fault.Is(err, fault.Invalid) {
			t.Errorf("the address %q: got %v", address, err)
		}
	}
}

// Credentials that are missing or of no use are a sentence, and the driver opens without them.
func TestCredentials(t *testing.T) {
	f := start(t)
	d := f.openAs(map[string]string{"type": "service_account", "client_email": robot, "private_key": "none",
		"token_uri": f.URL + "/token"})
	if err := d.Put(t.Context(), "a", blob.Blob{}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("got %v", err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", t.TempDir()+"/none")
	d, err := gcs.Open(gcs.Config{Bucket: "shop", Endpoint: f.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), "a", blob.Blob{}); !fault.Is(err, fault.Unauthenticated) ||
		!strings.Contains(fault.Public(err), "GOOGLE_APPLICATION_CREDENTIALS") {
		t.Errorf("without credentials: got %v", err)
	}
}

// A short outage is waited out, and a download that is not what is stored is fetched again, and then refused.
func TestOutage(t *testing.T) {
	f := start(t)
	d := f.open()
	f.fail = 2
	if err := d.Put(t.Context(), "a", blob.Blob{Type: "text/plain", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.hash, f.asks = "crc32c=AAAAAA==", nil
	f.mu.Unlock()
	if _, err := d.Get(t.Context(), "a", 10); !fault.Is(err, fault.Unavailable) || len(f.asks) != 3 {
		t.Errorf("got %v after %v", err, f.asks)
	}
}
