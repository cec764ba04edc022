package gcs_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/gcs"
)

const (
	robot       = "robot@shop.iam.gserviceaccount.com"
	accessToken = "an access token"
)

// robotKey is the key of the service account.
var robotKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// fake is Cloud Storage with one bucket, the service that gives access tokens, and the one that signs. It checks
// tokens, checksums and signatures.
type fake struct {
	*httptest.Server
	t   *testing.T
	mu  sync.Mutex
	all map[string]blob.Blob // by path
	now time.Time

	fail int    // so many requests are answered with 503
	hash string // of a download, in place of the right one
	asks []string
}

func start(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, all: map[string]blob.Blob{}, now: time.Now()}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("assertion") == "" {
			http.Error(w, "no assertion", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer", "expires_in": 3600}`, accessToken)
	})
	mux.HandleFunc("POST /v1/projects/-/serviceAccounts/{account}", f.sign)
	mux.HandleFunc("/shop/", f.object)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// open returns a driver that uses the fake with the key file of the service account.
func (f *fake) open() *gcs.Driver {
	f.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(robotKey())
	if err != nil {
		f.t.Fatal(err)
	}
	return f.openAs(map[string]string{
		"type": "service_account", "client_email": robot, "project_id": "shop", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   f.URL + "/token",
	})
}

// openAs returns a driver that uses the fake with these credentials.
func (f *fake) openAs(file map[string]string) *gcs.Driver {
	f.t.Helper()
	text, err := json.Marshal(file)
	if err != nil {
		f.t.Fatal(err)
	}
	name := filepath.Join(f.t.TempDir(), "credentials.json")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", name)
	d, err := gcs.Open(gcs.Config{Bucket: "shop", Endpoint: f.URL})
	if err != nil {
		f.t.Fatal(err)
	}
	d.At(f.clock)
	d.SignAt(f.URL)
	return d
}

func (f *fake) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fake) sign(w http.ResponseWriter, r *http.Request) {
	account, action, _ := strings.Cut(r.PathValue("account"), ":")
	var body struct{ Payload []byte }
	err := json.NewDecoder(r.Body).Decode(&body)
	switch {
	case r.Header.Get("Authorization") != "Bearer "+accessToken || account != robot:
		http.Error(w, "denied", http.StatusForbidden)
		return
	case err != nil || action != "signBlob":
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	sum := sha256.Sum256(body.Payload)
	signature, _ := rsa.SignPKCS1v15(nil, robotKey(), crypto.SHA256, sum[:])
	_ = json.NewEncoder(w).Encode(map[string][]byte{"signedBlob": signature})
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version='1.0'?><Error><Code>%s</Code><Message>no</Message></Error>", code)
}

func (f *fake) object(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asks = append(f.asks, r.Method)
	if f.fail > 0 {
		f.fail--
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return
	}
	switch signature := r.URL.Query().Get("X-Goog-Signature"); {
	case signature != "":
		if !f.signed(r, signature) {
			refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
			return
		}
	case r.Header.Get("Authorization") != "Bearer "+accessToken:
		refuse(w, http.StatusUnauthorized, "AuthenticationRequired")
		return
	}
	b, known := f.all[r.URL.Path]
	switch {
	case r.Method == http.MethodPut:
		f.upload(w, r)
	case !known:
		refuse(w, http.StatusNotFound, "NoSuchKey")
	case r.Method == http.MethodDelete:
		delete(f.all, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Content-Type", b.Type)
		w.Header().Add("X-Goog-Hash", "md5=AAAA,"+checksum(b.Data))
		if f.hash != "" {
			w.Header().Set("X-Goog-Hash", f.hash)
		}
		_, _ = w.Write(b.Data)
	}
}

func checksum(data []byte) string {
	sum := make([]byte, 4)
	binary.BigEndian.PutUint32(sum, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	return "crc32c=" + base64.StdEncoding.EncodeToString(sum)
}

func (f *fake) upload(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	hash := r.Header.Get("X-Goog-Hash")
	if err != nil || hash != "" && hash != checksum(data) {
		refuse(w, http.StatusBadRequest, "BadDigest")
		return
	}
	if least, most, ranged := strings.Cut(r.Header.Get("X-Goog-Content-Length-Range"), ","); ranged {
		from, _ := strconv.Atoi(least)
		to, _ := strconv.Atoi(most)
		if len(data) < from || len(data) > to {
			refuse(w, http.StatusBadRequest, "EntityTooLarge")
			return
		}
	}
	f.all[r.URL.Path] = blob.Blob{Type: r.Header.Get("Content-Type"), Data: data}
}

// signed reports whether a request is signed by the service account, for this time.
func (f *fake) signed(r *http.Request, signature string) bool {
	q := r.URL.Query()
	made, err := time.Parse("20060102T150405Z", q.Get("X-Goog-Date"))
	seconds, wrong := strconv.Atoi(q.Get("X-Goog-Expires"))
	if err != nil || wrong != nil || f.now.After(made.Add(time.Duration(seconds)*time.Second)) || seconds > 604800 ||
		q.Get("X-Goog-Algorithm") != "GOOG4-RSA-SHA256" ||
		q.Get("X-Goog-Credential") != robot+"/"+made.Format("20060102")+"/auto/storage/goog4_request" {
		return false
	}
	names := strings.Split(q.Get("X-Goog-SignedHeaders"), ";")
	for name := range r.Header { // Cloud Storage wants its own fields to be signed
		if strings.HasPrefix(name, "X-Goog-") && !slices.Contains(names, strings.ToLower(name)) {
			return false
		}
	}
	unsigned, _, _ := strings.Cut(r.URL.RawQuery, "&X-Goog-Signature=")
	lines := []string{r.Method, r.URL.EscapedPath(), unsigned}
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		lines = append(lines, name+":"+value)
	}
	lines = append(lines, "", strings.Join(names, ";"), "UNSIGNED-PAYLOAD")
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	text := strings.Join([]string{
		"GOOG4-RSA-SHA256", q.Get("X-Goog-Date"), made.Format("20060102") + "/auto/storage/goog4_request",
		hex.EncodeToString(sum[:]),
	}, "\n")
	whole := sha256.Sum256([]byte(text))
	raw, err := hex.DecodeString(signature)
	return err == nil && rsa.VerifyPKCS1v15(&robotKey().PublicKey, crypto.SHA256, whole[:], raw) == nil
}
