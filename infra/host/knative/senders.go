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

// SendersConfig says who may deliver events. All but Client, Account and Now are required.
type SendersConfig struct {
	Issuer   string   // whose tokens count: the cluster's API server, where its OpenID configuration is
	Audience string   // what the tokens must be meant for: this function
	Subjects []string // who may deliver; a * at the end stands for anything

	Account string // directory of the service account, whose token and authority open the issuer's documents; "": Kubernetes' own
	Client  *http.Client
	Now     func() time.Time
}

// account is where Kubernetes puts a pod's service account.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// refetch is how long keys are kept before a key that nobody knows has them fetched again, refetchFailed how long there are
// none after they could not be had.
const (
	refetch       = 10 * time.Second
	refetchFailed = time.Second
	fetchTime     = 5 * time.Second
)

// Senders checks the identity that Knative Eventing gives each delivery when OIDC authentication is on: a service
// account token of the trigger or the source, meant for the audience of the subscriber alone. Its keys are those of
// OpenID Connect Discovery 1.0 at the issuer, fetched with the first delivery. It may be used concurrently.
type Senders struct {
	cfg  SendersConfig
	keys atomic.Pointer[keys]

	mu    sync.Mutex // held while keys are fetched, which nobody waits for whose key is known
	asked time.Time
}

type keys struct {
	verifier *auth.Verifier
	fetched  time.Time
}

// NewSenders checks the configuration. It does not call the issuer.
func NewSenders(cfg SendersConfig) (*Senders, error) {
	if u, err := url.Parse(cfg.Issuer); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("the issuer %q is no address such as https://kubernetes.default.svc", cfg.Issuer)
	}
	if cfg.Audience == "" {
		return nil, errors.New("an audience is required")
	}
	for _, s := range cfg.Subjects {
		if strings.TrimRight(s, "*") == "" || strings.Contains(strings.TrimSuffix(s, "*"), "*") {
			return nil, fmt.Errorf("the sender %q: a * stands at the end, after something", s)
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

// accountClient trusts the authority of the cluster, if there is one, beside the system's.
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

// Check says whether who sent the request may deliver events: nil, or a fault.Unauthenticated, Denied or, when the
// keys cannot be had, Unavailable.
func (s *Senders) Check(r *http.Request) error {
	header := r.Header.Get("Authorization")
	if header == "" {
		return fault.New(fault.Unauthenticated, "a delivery without the sender's identity is not accepted")
	}
	who, err := s.verify(r.Context(), header)
	if err != nil {
		return err
	}
	for _, allowed := range s.cfg.Subjects {
		prefix, open := strings.CutSuffix(allowed, "*")
		if who.Subject == allowed || open && strings.HasPrefix(who.Subject, prefix) {
			return nil
		}
	}
	return fault.New(fault.Denied, "%s may not deliver events here", who.Subject)
}

func (s *Senders) verify(ctx context.Context, header string) (auth.Principal, error) {
	k := s.keys.Load()
	if k == nil {
		var err error
		if k, err = s.renew(ctx, nil); err != nil {
			return auth.Principal{}, err
		}
	}
	who, err := k.verifier.FromHeader(header)
	if !errors.Is(err, auth.ErrUnknownKey) {
		return who, err
	}
	newer, failed := s.renew(ctx, k)
	switch {
	case failed == nil:
		return newer.verifier.FromHeader(header)
	case issued(header).After(k.fetched):
		return who, failed // with a key that is newer than ours, perhaps: it must come again
	}
	return who, err
}

// issued is when a token says that it was issued, which nobody has checked.
func issued(header string) time.Time {
	var claims jwt.RegisteredClaims
	_, token, _ := strings.Cut(header, " ")
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil || claims.IssuedAt == nil {
		return time.Time{}
	}
	return claims.IssuedAt.Time
}

// renew fetches the keys, unless somebody has since those that were known, or has tried just now.
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
		return nil, fault.New(fault.Unavailable, "the keys that senders are known by were asked for just now").After(wait - since)
	}
	s.asked = now
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime) // it is for others too
	defer cancel()
	v, err := s.fetch(ctx)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the keys that senders are known by cannot be had just now")
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
	// An API server may name itself by an address that only the machines outside know; the path is what counts.
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
	answer, err := s.cfg.Client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", address, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, 1<<20))
}
