package pack

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The types of what Provenance writes.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	payloadType   = "application/vnd.in-toto+json"
	buildType     = "https://github.com/ebb-dev/ebb/cmd/image@v1"
)

type (
	// statement says of subjects how they were made.
	statement struct {
		Type          string     `json:"_type"`
		Subject       []resource `json:"subject"`
		PredicateType string     `json:"predicateType"`
		Predicate     predicate  `json:"predicate"`
	}

	resource struct {
		Name   string            `json:"name,omitempty"`
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
	}

	predicate struct {
		BuildDefinition struct {
			BuildType            string            `json:"buildType"`
			ExternalParameters   map[string]string `json:"externalParameters"`
			ResolvedDependencies []resource        `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Builder struct {
				ID      string            `json:"id"`
				Version map[string]string `json:"version"`
			} `json:"builder"`
		} `json:"runDetails"`
	}

	// envelope is a signed statement.
	envelope struct {
		PayloadType string      `json:"payloadType"`
		Payload     string      `json:"payload"`
		Signatures  []signature `json:"signatures"`
	}

	signature struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
	}
)

// Provenance returns a statement of in-toto with SLSA's provenance, signed in an envelope of DSSE: that the image of
// this name and its binaries were made from the commit and the modules that the binaries name. It has no time, so that
// it is the same for the same bytes and the same key.
func Provenance(name string, made Made, f Facts, key ed25519.PrivateKey) ([]byte, error) {
	digest, err := made.Top.Digest()
	if err != nil {
		return nil, err
	}
	s := statement{
		Type: statementType, PredicateType: predicateType,
		Subject: []resource{{Name: name, Digest: map[string]string{digest.Algorithm: digest.Hex}}},
	}
	b := &s.Predicate.BuildDefinition
	b.BuildType = buildType
	b.ExternalParameters = map[string]string{"version": f.Version}
	b.ResolvedDependencies = []resource{{URI: "git+" + f.Source, Digest: map[string]string{"gitCommit": f.Revision}}}
	s.Predicate.RunDetails.Builder.ID = buildType
	seen := map[string]bool{}
	for _, binary := range made.Binaries {
		sum := sha256.Sum256(binary.Bytes)
		s.Subject = append(s.Subject, resource{
			Name: binary.Name + " " + binary.Platform.String(), Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])},
		})
		s.Predicate.RunDetails.Builder.Version = map[string]string{"go": binary.Info.GoVersion}
		for _, m := range binary.Info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			if uri := "pkg:golang/" + m.Path + "@" + m.Version; !seen[uri] {
				seen[uri] = true
				b.ResolvedDependencies = append(b.ResolvedDependencies, resource{URI: uri, Digest: sumOf(m.Sum)})
			}
		}
	}
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return json.Marshal(envelope{
		PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: []signature{{
			KeyID: keyID(key.Public().(ed25519.PublicKey)),
			Sig:   base64.StdEncoding.EncodeToString(ed25519.Sign(key, signed(payloadType, payload))),
		}},
	})
}

// sumOf returns the digest of a module's sum in go.sum's form; nil if there is none.
func sumOf(sum string) map[string]string {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:"))
	if err != nil || len(raw) != sha256.Size {
		return nil
	}
	return map[string]string{"dirHash1": hex.EncodeToString(raw)}
}

// signed returns what DSSE signs of a payload.
func signed(kind string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(kind), kind, len(payload)), payload...)
}

func keyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:])
}

// VerifyProvenance returns the names of what an envelope speaks of, if the key has signed it and the digest is one of
// them: sha256:HEX of an image or of a file.
func VerifyProvenance(text []byte, key ed25519.PublicKey, digest string) (names []string, err error) {
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("invalid provenance: %w", err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil || e.PayloadType != payloadType {
		return nil, errors.New("invalid provenance: it has no statement of in-toto")
	}
	bySigner := func(s signature) bool {
		sig, err := base64.StdEncoding.DecodeString(s.Sig)
		return err == nil && ed25519.Verify(key, signed(e.PayloadType, payload), sig)
	}
	if !slices.ContainsFunc(e.Signatures, bySigner) {
		return nil, errors.New("the provenance is not signed with this key")
	}
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil || s.Type != statementType || s.PredicateType != predicateType {
		return nil, errors.New("invalid provenance: it is no statement of provenance")
	}
	algorithm, value, _ := strings.Cut(digest, ":")
	found := false
	for _, subject := range s.Subject {
		found = found || value != "" && subject.Digest[algorithm] == value
		names = append(names, subject.Name)
	}
	if !found {
		return nil, fmt.Errorf("the provenance does not speak of %s, but of %s", digest, strings.Join(names, ", "))
	}
	return names, nil
}

// ParsePrivateKey returns the Ed25519 key of a PEM as openssl genpkey -algorithm ed25519 writes it.
func ParsePrivateKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("want a PEM with an Ed25519 key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if key, ok := parsed.(ed25519.PrivateKey); ok && err == nil {
		return key, nil
	}
	return nil, errors.New("want a PEM with an Ed25519 key") // the cause could quote it
}

// ParsePublicKey returns the Ed25519 key of a PEM as openssl pkey -pubout writes it.
func ParsePublicKey(text []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("want a PEM with a public Ed25519 key")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if key, ok := parsed.(ed25519.PublicKey); ok && err == nil {
		return key, nil
	}
	return nil, cmp.Or(err, errors.New("want a PEM with a public Ed25519 key"))
}
