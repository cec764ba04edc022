package knative

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/tlsconfig"
)

// SendersConfig configures Senders. Issuer, Audience and Subjects are required.
type SendersConfig struct {
	Issuer   string   // the accepted issuer: the URL of the cluster's API server
	Audience string   // the required audience of tokens: this function
	Subjects []string // the allowed senders; a * at the end matches any text

	// Account is the directory of the service account whose token and certificate authority are used to fetch the issuer's
	// documents; "": the one of the pod.
	Account string
	Client  *http.Client
	Now     func() time.Time
}

// account is the directory of a pod's service account.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// The shortest time between two fetches of keys for an unknown key, and after a failed first fetch, and the timeout of
// a fetch.
const (
	refetch       = 10 * time.Second
	refetchFailed = time.Second
	fetchTime     = 5 * time.Second
)

// Senders checks the token that Knative Eventing adds to each delivery when OIDC authentication is on: a service
// account token of the trigger or source for the subscriber's audience. The issuer's keys are found by OpenID Connect
// Discovery 1.0 at the first delivery. It may be used concurrently.
type Senders struct {
	cfg  SendersConfig
	keys atomic.Pointer[keys]

	mu    sync.Mutex // held while keys are fetched; deliveries with a known key do not need it
	asked time.Time
}

type keys struct {
	verifier *auth.Verifier
	fetched  time.Time
}

// NewSenders returns Senders, or an error for an invalid configuration. It does not call the issuer.
func NewSenders(cfg SendersConfig) (*Senders, error) {
	if u, err := url.Parse(cfg.Issuer); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("invalid issuer %q: want a URL such as https://kubernetes.default.svc", cfg.Issuer)
	}
	if cfg.Audience == "" {
		return nil, errors.New("an audience is required")
	}
	for _, s := range cfg.Subjects {
		if strings.TrimRight(s, "*") == "" || strings.Contains(strings.TrimSuffix(s, "*"), "*") {
			return nil, fmt.Errorf("invalid sender %q: want a name, or a beginning of names with a * at the end", s)
		}
	}
	if len(cfg.Subjects) == 0 {
		return nil, errors.New("at least one sender is required")
	}
	if cfg.Account == "" {
		cfg.Account = account
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Client == nil {
		client, err := accountClient(cfg.Account)
		if err != nil {
			return nil, err
		}
		cfg.Client = client
	}
	return &Senders{cfg: cfg}, nil
}

// accountClient returns a client that trusts the cluster's certificate authority, if the directory has one, and the
// system's.
func accountClient(dir string) (*http.Client, error) {
	ca, err := os.ReadFile(dir + "/ca.crt")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	trusted, _ := tlsconfig.Config(ca)
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: trusted, ForceAttemptHTTP2: true},
	}, nil
}

// Check returns nil when the sender of the request may deliver events, and otherwise fault.Unauthenticated,
// fault.Denied or, when the keys cannot be fetched, fault.Unavailable.
func (s *Senders) Check(r *http.Request) error {
	header := r.Header.Get("Authorization")
	if header == "" {
		return fault.New(fault.Unauthenticated, "the delivery has no token of its sender")
	}
	sender, err := s.verify(r.Context(), header)
	if err != nil {
		return err
	}
	for _, allowed := range s.cfg.Subjects {
		prefix, open := strings.CutSuffix(allowed, "*")
		if sender.Subject == allowed || open && strings.HasPrefix(sender.Subject, prefix) {
			return nil
		}
	}
	return fault.New(fault.Denied, "%s may not deliver events here", sender.Subject)
}

func (s *Senders) verify(ctx context.Context, header string) (auth.Principal, error) {
	k := s.keys.Load()
	if k == nil {
		var err error
		if k, err = s.renew(ctx, nil); err != nil {
			return auth.Principal{}, err
		}
	}
	sender, err := k.verifier.FromHeader(header)
	if !errors.Is(err, auth.ErrUnknownKey) {
		return sender, err
	}
	newer, failed := s.renew(ctx, k)
	switch {
	case failed == nil:
		return newer.verifier.FromHeader(header)
	case issued(header).After(k.fetched):
		return sender, failed // perhaps signed with a newer key: the delivery must be retried
	}
	return sender, err
}

// issued returns the iat claim of an unverified token.
func issued(header string) time.Time {
	var claims jwt.RegisteredClaims
	_, token, _ := strings.Cut(header, " ")
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil || claims.IssuedAt == nil {
		return time.Time{}
	}
	return claims.IssuedAt.Time
}

// renew fetches the keys, unless a concurrent call has fetched newer ones than known. Shortly after another fetch it
// fails.
func (s *Senders) renew(ctx context.Context, known *keys) (*keys, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys.Load(); k != known {
		return k, nil
	}
	now := s.cfg.Now()
	wait := refetch
	if known == nil {
		wait = refetchFailed
	}
	if since := now.Sub(s.asked); since < wait {
		return nil, fault.New(fault.Unavailable, "the keys of senders were fetched just now; try again later").
			After(wait - since)
	}
	s.asked = now
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime) // other callers wait for it too
	defer cancel()
	v, err := s.fetch(ctx)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the keys of senders cannot be fetched")
	}
	k := &keys{verifier: v, fetched: now}
	s.keys.Store(k)
	return k, nil
}

func (s *Senders) fetch(ctx context.Context) (*auth.Verifier, error) {
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	data, err := s.get(ctx, strings.TrimSuffix(s.cfg.Issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &about); err != nil {
		return nil, fmt.Errorf("the OpenID configuration: %w", err)
	}
	at, err := url.Parse(about.Keys)
	if err != nil {
		return nil, fmt.Errorf("the OpenID configuration: %w", err)
	}
	// An API server may give an address that is not reachable from here; only its path is used.
	issuer, _ := url.Parse(s.cfg.Issuer)
	at.Scheme, at.Host = issuer.Scheme, issuer.Host
	if data, err = s.get(ctx, at.String()); err != nil {
		return nil, err
	}
	keys, err := auth.ParseJWKS(data)
	if err != nil {
		return nil, err
	}
	return auth.NewVerifier(auth.VerifierConfig{
		Keys: keys, Issuer: about.Issuer, Audience: s.cfg.Audience, Clock: s.cfg.Now, Algorithms: []string{"RS256", "ES256"},
	})
}

func (s *Senders) get(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if token, err := os.ReadFile(s.cfg.Account + "/token"); err == nil {
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	response, err := s.cfg.Client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %s", address, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, 1<<20))
}
