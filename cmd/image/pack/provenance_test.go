package pack_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ebb-dev/ebb/cmd/image/pack"
)

// A provenance is verified by the public key alone, for the image and for each binary, and is the same each time. With
// another key, another digest or any byte of the statement changed it is refused.
func TestProvenance(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := binary(amd64)
	img := image(t, b, facts())
	made := pack.Made{Top: img, Binaries: []pack.Binary{b}, Images: []v1.Image{img}}
	text, err := pack.Provenance("registry.example.com/shop:1", made, facts(), private)
	if err != nil {
		t.Fatal(err)
	}
	again, err := pack.Provenance("registry.example.com/shop:1", made, facts(), private)
	if err != nil || string(again) != string(text) {
		t.Errorf("the second one differs: %v", err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes)
	for _, of := range []string{digest.String(), "sha256:" + hex.EncodeToString(sum[:])} {
		names, err := pack.VerifyProvenance(text, public, of)
		if err != nil || strings.Join(names, ";") != "registry.example.com/shop:1;function linux/amd64" {
			t.Errorf("%s: got %v %v", of, names, err)
		}
	}
	for _, of := range []string{"sha256:" + strings.Repeat("0", 64), "sha256:", "", "sha512:" + digest.Hex} {
		if _, err := pack.VerifyProvenance(text, public, of); err == nil {
			t.Errorf("it speaks of %q", of)
		}
	}
	if _, err := pack.VerifyProvenance(text, other, digest.String()); err == nil {
		t.Error("another key has signed it")
	}
	var e map[string]any
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e["payload"].(string))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"gitCommit":"0123456789abcdef"`, `pkg:golang/example.com/fork@v2.0.1`, `https://slsa.dev/provenance/v1`,
	} {
		if !strings.Contains(string(payload), part) {
			t.Errorf("it does not say %s", part)
		}
	}
	forged := strings.Replace(string(payload), "0123456789abcdef", "fedcba9876543210", 1)
	for name, change := range map[string]map[string]any{
		"another commit":  {"payload": base64.StdEncoding.EncodeToString([]byte(forged))},
		"another type":    {"payloadType": "application/json"},
		"no signature":    {"signatures": []any{}},
		"an empty object": {"payload": "", "payloadType": "", "signatures": nil},
	} {
		changed := map[string]any{}
		for k, v := range e {
			changed[k] = v
		}
		for k, v := range change {
			changed[k] = v
		}
		text, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pack.VerifyProvenance(text, public, digest.String()); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// Keys are those that openssl writes, and an error quotes none.
func TestKeysOfProvenance(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if key, err := pack.ParsePrivateKey(text); err != nil || !key.Equal(private) {
		t.Errorf("got %v", err)
	}
	if _, err := pack.ParsePublicKey(text); err == nil {
		t.Error("a private key is taken for a public one")
	}
	if der, err = x509.MarshalPKIXPublicKey(public); err != nil {
		t.Fatal(err)
	}
	text = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if key, err := pack.ParsePublicKey(text); err != nil || !key.Equal(public) {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"", "secret", string(text)} {
		if _, err := pack.ParsePrivateKey([]byte(bad)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}
