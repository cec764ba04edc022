package gcs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/compute/metadata"

	"github.com/ebb-dev/ebb/infra/blob/internal/remote"
	"github.com/ebb-dev/ebb/infra/fault"
)

// signer signs a text.
type signer func(ctx context.Context, text []byte) ([]byte, error)

// account is what requests are sent as, and signed by. Its methods may be called concurrently.
type account interface {
	// token returns an access token; "": the store asks for none.
	token(ctx context.Context) (string, error)

	// signer returns the address of the service account, and what signs for it.
	signer(ctx context.Context) (email string, s signer, err error)
}

// anonymous is the account for an emulator, which checks no signature.
type anonymous struct{}

func (anonymous) token(context.Context) (string, error) { return "", nil }

func (anonymous) signer(context.Context) (string, signer, error) {
	return "emulator", func(_ context.Context, text []byte) ([]byte, error) {
		sum := sha256.Sum256(text)
		return sum[:], nil
	}, nil
}

// google is the account that the environment has: by GOOGLE_APPLICATION_CREDENTIALS, of gcloud, or of the machine.
type google struct {
	client *http.Client
	iam    string // address of the service that signs for an account without a key file

	mu    sync.Mutex
	found *auth.Credentials // nil: it was not looked for yet, or not found
}

const (
	iamEndpoint   = "https://iamcredentials.googleapis.com"
	cloudPlatform = "https://www.googleapis.com/auth/cloud-platform" // what the roles of the account allow
)

func (g *google) credentials() (*auth.Credentials, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.found != nil {
		return g.found, nil
	}
	found, err := credentials.DetectDefault(&credentials.DetectOptions{Scopes: []string{cloudPlatform}})
	if err != nil {
		return nil, fault.Wrap(err, fault.Unauthenticated, "there are no credentials for Google Cloud: set "+
			"GOOGLE_APPLICATION_CREDENTIALS, or run with a service account")
	}
	g.found = found
	return found, nil
}

func (g *google) token(ctx context.Context) (string, error) {
	c, err := g.credentials()
	if err != nil {
		return "", err
	}
	t, err := c.Token(ctx)
	switch {
	case err != nil && passing(err):
		return "", fault.Wrap(err, fault.Unavailable, "Google Cloud gives no access token")
	case err != nil:
		return "", fault.Wrap(err, fault.Unauthenticated, "Google Cloud does not accept the credentials")
	}
	return t.Value, nil
}

// passing reports whether an error of the credentials is about the way to Google, and not about them.
func passing(err error) bool {
	var refused *auth.Error
	if errors.As(err, &refused) {
		return refused.Temporary()
	}
	var way *url.Error
	var machine *metadata.Error
	return errors.As(err, &way) || errors.As(err, &machine) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Canceled)
}

// keyFile is what is read of a file of credentials.
type keyFile struct {
	Type            string `json:"type"`
	Email           string `json:"client_email"`
	PrivateKey      string `json:"private_key"`
	ImpersonatesURL string `json:"service_account_impersonation_url"`
}

func (g *google) signer(ctx context.Context) (email string, s signer, err error) {
	c, err := g.credentials()
	if err != nil {
		return "", nil, err
	}
	var file keyFile
	if len(c.JSON()) > 0 {
		if err := json.Unmarshal(c.JSON(), &file); err != nil {
			return "", nil, fault.New(fault.Unauthenticated, "the file of credentials for Google Cloud is not JSON")
		}
	}
	switch {
	case file.PrivateKey != "" && file.Email != "":
		s, err = signWith(file.PrivateKey)
		return file.Email, s, err
	case file.ImpersonatesURL != "":
		_, email, _ = strings.Cut(file.ImpersonatesURL, "/serviceAccounts/")
		email, _, _ = strings.Cut(email, ":")
	case len(c.JSON()) == 0:
		if email, err = metadata.EmailWithContext(ctx, "default"); err != nil {
			return "", nil, fault.Wrap(err, fault.Unavailable, "the machine does not tell its service account")
		}
	}
	if email == "" {
		return "", nil, fault.New(fault.Unauthenticated,
			"a signed URL needs the credentials of a service account, not of the type %.40q", file.Type)
	}
	return email, func(ctx context.Context, text []byte) ([]byte, error) { return g.signBlob(ctx, email, text) }, nil
}

// signWith returns what signs with a private key in PEM.
func signWith(text string) (signer, error) {
	invalid := fault.New(fault.Unauthenticated, "the private key in the file of credentials for Google Cloud is not valid")
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, invalid
	}
	var key *rsa.PrivateKey
	if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		key, _ = parsed.(*rsa.PrivateKey)
	} else {
		key, _ = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	if key == nil {
		return nil, invalid
	}
	return func(_ context.Context, text []byte) ([]byte, error) {
		sum := sha256.Sum256(text)
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
		if err != nil {
			return nil, fault.Wrap(err, fault.Internal, "a request to Cloud Storage cannot be signed")
		}
		return signature, nil
	}, nil
}

// signBlob has Google sign for a service account whose key it holds.
func (g *google) signBlob(ctx context.Context, email string, text []byte) ([]byte, error) {
	token, err := g.token(ctx)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string][]byte{"payload": text})
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode what is to be signed")
	}
	address := g.iam + "/v1/projects/-/serviceAccounts/" + url.PathEscape(email) + ":signBlob"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the request for a signature is not valid")
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	response, err := g.client.Do(r)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "Google Cloud cannot be reached for a signature")
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, remote.MaxError))
	switch {
	case err != nil:
		return nil, fault.Wrap(err, fault.Unavailable, "Google Cloud did not respond in full")
	case response.StatusCode == http.StatusForbidden:
		return nil, fault.Wrap(errors.New(response.Status), fault.Denied, "the service account %s may not sign: it needs "+
			"the role Service Account Token Creator on itself", email)
	case response.StatusCode != http.StatusOK:
		return nil, fault.Wrap(errors.New(response.Status), fault.Unavailable, "Google Cloud gives no signature")
	}
	var signed struct {
		Signature []byte `json:"signedBlob"`
	}
	if err := json.Unmarshal(answer, &signed); err != nil || len(signed.Signature) == 0 {
		return nil, fault.New(fault.Unavailable, "Google Cloud gives no signature")
	}
	return signed.Signature, nil
}
