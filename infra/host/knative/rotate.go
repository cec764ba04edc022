package knative

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
)

// The keys of the Secret that RotateKeys changes. Pods mount them as files of these names.
const (
	SigningKeys      = "signing.json"      // the private JWK set, for users alone
	VerificationKeys = "verification.json" // its public side, for every function
)

// RotateConfig configures RotateKeys. Server, Secret and the times are required.
type RotateConfig struct {
	Server string        // URL of the API server
	Secret string        // name of the Secret, in the namespace of the service account
	Lead   time.Duration // after it the new key signs; the Secret has reached every pod by then
	Keep   time.Duration // for how long a key stays after its last token; the longest life of an access token at least

	// Account is the directory of the service account, with its token, the cluster's certificate authority and the
	// namespace; "": the one of the pod.
	Account string
	Client  *http.Client // nil: one that trusts the cluster's certificate authority
	Now     func() time.Time
}

// attempts is how often RotateKeys reads and writes the Secret, if it is changed in between by others.
const attempts = 3

// RotateKeys adds the next signing key to a Secret of the cluster, as auth.KeyRing.Schedule does, and writes the public
// side beside the private one, in one update: pods never see one without the other. It returns when the newest key
// begins to sign. While a key waits for its time nothing is written, so it can be called by schedule, and again after a
// crash. An error has the fault.Kind Denied when the service account may not do it, NotFound for a missing Secret,
// Invalid for one without keys, and Unavailable when the API server does not answer.
func RotateKeys(ctx context.Context, cfg RotateConfig) (time.Time, error) {
	if cfg.Account == "" {
		cfg.Account = account
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Client == nil {
		client, err := accountClient(cfg.Account)
		if err != nil {
			return time.Time{}, err
		}
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		cfg.Client = client
	}
	namespace, err := os.ReadFile(cfg.Account + "/namespace")
	if err != nil {
		return time.Time{}, fmt.Errorf("no service account: %w", err)
	}
	at := strings.TrimSuffix(cfg.Server, "/") + "/api/v1/namespaces/" +
		url.PathEscape(strings.TrimSpace(string(namespace))) + "/secrets/" + url.PathEscape(cfg.Secret)
	var from time.Time
	for range attempts {
		if from, err = cfg.rotate(ctx, at); !fault.Is(err, fault.Conflict) {
			break
		}
	}
	return from, err
}

// rotate reads the Secret at the URL and writes it with the next key, unless it has changed in between.
func (cfg RotateConfig) rotate(ctx context.Context, at string) (time.Time, error) {
	text, err := cfg.call(ctx, http.MethodGet, at, nil)
	if err != nil {
		return time.Time{}, err
	}
	// Members that are not known here are written as they were read. The version of the Secret is one of them.
	var secret map[string]json.RawMessage
	var data map[string][]byte
	err = json.Unmarshal(text, &secret)
	if err == nil && len(secret["data"]) > 0 {
		err = json.Unmarshal(secret["data"], &data)
	}
	if err != nil {
		return time.Time{}, fault.New(fault.Invalid, "the Secret %s is not a Secret", cfg.Secret) // the cause could quote it
	}
	ring, err := auth.ParseKeyRing(data[SigningKeys])
	if err != nil {
		return time.Time{}, fault.New(fault.Invalid, "%s in the Secret %s is not a private JWK set, as `keys generate` "+
			"of the command prints it", SigningKeys, cfg.Secret)
	}
	if ring, err = ring.Schedule(cfg.Now(), cfg.Lead, cfg.Keep); err != nil {
		return time.Time{}, err
	}
	private, err := ring.Marshal()
	if err != nil {
		return time.Time{}, err
	}
	public, err := json.Marshal(ring.Public())
	if err != nil {
		return time.Time{}, err
	}
	if bytes.Equal(private, bytes.TrimSpace(data[SigningKeys])) && bytes.Equal(public, data[VerificationKeys]) {
		return ring.Next(), nil
	}
	data[SigningKeys], data[VerificationKeys] = private, public
	if secret["data"], err = json.Marshal(data); err != nil {
		return time.Time{}, err
	}
	if text, err = json.Marshal(secret); err != nil {
		return time.Time{}, err
	}
	_, err = cfg.call(ctx, http.MethodPut, at, text)
	return ring.Next(), err
}

// maxSecret is more than the largest Secret has, in bytes, in JSON.
const maxSecret = 4 << 20

// call sends a request with the service account's token and returns the body of its answer.
func (cfg RotateConfig) call(ctx context.Context, method, at string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(cfg.Account + "/token")
	if err != nil {
		return nil, fmt.Errorf("no service account: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	answer, err := cfg.Client.Do(r)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the API server does not answer")
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxSecret))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the API server breaks its answer off")
	}
	switch answer.StatusCode {
	case http.StatusOK:
		return text, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fault.New(fault.Denied, "the service account may not %s the Secret %s", method, cfg.Secret)
	case http.StatusNotFound:
		return nil, fault.New(fault.NotFound, "there is no Secret %s", cfg.Secret)
	case http.StatusConflict:
		return nil, fault.New(fault.Conflict, "the Secret %s was changed meanwhile", cfg.Secret)
	case http.StatusUnprocessableEntity:
		return nil, fault.New(fault.Invalid, "the API server refuses the Secret %s; is it immutable?", cfg.Secret)
	}
	return nil, fault.New(fault.Unavailable, "%s the Secret %s: status %s", method, cfg.Secret, answer.Status)
}
