// Package oidc accepts the access tokens of an OpenID Connect provider, beside or instead of those that users signs.
// The keys of the issuer are found by OpenID Connect Discovery 1.0. Every token is checked by an auth.Verifier, whose
// rules are the same for every issuer.
package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Config is which tokens are accepted and what they give. Issuer and Audience are required.
type Config struct {
	Issuer   string // an https URL, as the iss claim has it; http for a loopback host
	Audience string // that a token must be for: this system

	Algorithms []string          // of RS256, PS256, ES256 and EdDSA; none: all of them
	Subjects   string            // put before the sub claim; "": oidc-
	RolesClaim string            // a text, or a list of texts; a dot leads into an object; "": roles
	Roles      map[string]string // a value of that claim, or * for every token, to the role that it gives

	// ScopesClaim is the claim with what a token may be used for: a text with spaces between, as scope of RFC 9068, or a
	// list of texts. The values are scopes of this system, such as orders:read. "": a token may do all that its roles
	// allow.
	ScopesClaim string

	// StaffACR are the values of the acr claim, how the user has signed in, with which roles beyond that of a customer
	// count. None: they always count.
	StaffACR []string

	Client *http.Client     // nil: one with the system's authorities
	Now    func() time.Time // nil: time.Now
}

// The times of fetches.
const (
	fetchTime     = 5 * time.Second  // the longest time of one fetch
	refetch       = 10 * time.Second // the shortest time between two fetches, for an unknown key or for fresh ones
	refetchFailed = time.Second      // the shortest time after a first fetch that failed
	fresh         = 15 * time.Minute // after which keys are fetched again, so that those that the issuer takes back end
)

// maxDocument is the most bytes of a document of an issuer.
const maxDocument = 1 << 20

// Issuer authenticates requests with access tokens of one issuer. It may be used concurrently.
type Issuer struct {
	cfg  Config
	keys atomic.Pointer[keys]

	fetching sync.Mutex // held during a fetch; requests with a known key do not wait for it
	asked    time.Time
}

// keys are those of one fetch.
type keys struct {
	verifier *auth.Verifier
	fetched  time.Time
}

var _ auth.Authenticator = (*Issuer)(nil)

// New returns an Issuer, or an error that names all that is not valid. It does not call the issuer: the first token
// does.
func New(cfg Config) (*Issuer, error) {
	var invalid []error
	if err := checkURL(cfg.Issuer); err != nil {
		invalid = append(invalid, fmt.Errorf("invalid issuer %q: %w", cfg.Issuer, err))
	}
	if cfg.Audience == "" {
		invalid = append(invalid, errors.New("no audience: a token for another system would be accepted"))
	}
	for value, role := range cfg.Roles {
		if value == "" || role == "" {
			invalid = append(invalid, fmt.Errorf("invalid role %s=%s: want VALUE=ROLE", value, role))
		}
	}
	if err := errors.Join(invalid...); err != nil {
		return nil, err
	}
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	}
	if cfg.Subjects == "" {
		cfg.Subjects = "oidc-"
	}
	if cfg.RolesClaim == "" {
		cfg.RolesClaim = "roles"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	client := http.Client{}
	if cfg.Client != nil {
		client = *cfg.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cfg.Client = &client
	return &Issuer{cfg: cfg}, nil
}

// checkURL accepts https, and http for a loopback host, whose traffic does not leave the machine.
func checkURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("want a URL such as https://login.example.com/realm")
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (ip.IsLoopback() || u.Hostname() == "localhost") {
		return nil
	}
	return errors.New("want https")
}

// Authenticate implements auth.Authenticator. While the keys cannot be fetched it answers fault.Unavailable, and while
// the issuer is away later on it goes on with the keys that it knows.
func (i *Issuer) Authenticate(r *http.Request) (auth.Principal, error) {
	shown := r.Header["Authorization"]
	if len(shown) == 0 {
		return auth.Principal{}, nil
	}
	k := i.keys.Load()
	if k == nil {
		var err error
		if k, err = i.fetch(r.Context(), nil); err != nil {
			return auth.Principal{}, err
		}
	}
	if i.cfg.Now().Sub(k.fetched) > fresh && i.fetching.TryLock() {
		if newer, err := i.fetchLocked(r.Context(), k); err == nil {
			k = newer
		}
		i.fetching.Unlock()
	}
	who, err := k.verifier.Authenticate(r)
	if !errors.Is(err, auth.ErrUnknownKey) {
		return who, err
	}
	newer, failed := i.fetch(r.Context(), k)
	if failed != nil {
		return who, err // the keys are fetched so often, or cannot be: the token is none of the known ones
	}
	return newer.verifier.Authenticate(r)
}

// fetch returns newer keys than the known ones: those that another request has fetched meanwhile, or the issuer's.
func (i *Issuer) fetch(ctx context.Context, known *keys) (*keys, error) {
	i.fetching.Lock()
	defer i.fetching.Unlock()
	return i.fetchLocked(ctx, known)
}

func (i *Issuer) fetchLocked(ctx context.Context, known *keys) (*keys, error) {
	if k := i.keys.Load(); k != known {
		return k, nil
	}
	now, wait := i.cfg.Now(), refetch
	if known == nil {
		wait = refetchFailed
	}
	if since := now.Sub(i.asked); since >= 0 && since < wait {
		return nil, fault.New(fault.Unavailable, "the keys of the issuer were asked for just now").After(wait - since)
	}
	i.asked = now
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime) // other requests wait for it too
	defer cancel()
	v, err := i.discover(ctx)
	if err != nil {
		i.asked = i.cfg.Now() // a fetch that took long is not followed by one for each request that has waited for it
		return nil, fault.Wrap(err, fault.Unavailable, "the keys of the issuer are not available just now").
			After(refetchFailed)
	}
	k := &keys{verifier: v, fetched: now}
	i.keys.Store(k)
	return k, nil
}

// discover reads the issuer's configuration and its keys.
func (i *Issuer) discover(ctx context.Context) (*auth.Verifier, error) {
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	data, err := i.get(ctx, strings.TrimSuffix(i.cfg.Issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &about); err != nil {
		return nil, fmt.Errorf("the OpenID configuration: %w", err)
	}
	if about.Issuer != i.cfg.Issuer {
		return nil, fmt.Errorf("the OpenID configuration is of the issuer %q", about.Issuer)
	}
	if err := checkURL(about.Keys); err != nil {
		return nil, fmt.Errorf("invalid jwks_uri %q: %w", about.Keys, err)
	}
	if data, err = i.get(ctx, about.Keys); err != nil {
		return nil, err
	}
	set, err := auth.ParseJWKS(data)
	if err != nil {
		return nil, err
	}
	accepts := auth.VerifierConfig{
		Keys: set, Issuer: i.cfg.Issuer, Audience: i.cfg.Audience, Clock: i.cfg.Now, Algorithms: i.cfg.Algorithms,
		Subjects: i.cfg.Subjects, Roles: i.roles,
	}
	if i.cfg.ScopesClaim != "" {
		accepts.Scopes = i.scopes
	}
	return auth.NewVerifier(accepts)
}

func (i *Issuer) get(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := i.cfg.Client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %s", address, response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("%s: more than %d bytes", address, maxDocument)
	}
	return data, err
}

// scopes returns what a token may be used for by its claims: without the claim, for nothing.
func (i *Issuer) scopes(claims map[string]any) (scopes []string) {
	for _, value := range valuesAt(claims, i.cfg.ScopesClaim) {
		scopes = append(scopes, strings.Fields(value)...)
	}
	return scopes
}

// roles returns the roles that the claims give, sorted. A value that Roles does not name gives none.
func (i *Issuer) roles(claims map[string]any) []string {
	given := map[string]bool{}
	if role, ok := i.cfg.Roles["*"]; ok {
		given[role] = true
	}
	for _, value := range valuesAt(claims, i.cfg.RolesClaim) {
		if role, ok := i.cfg.Roles[value]; ok {
			given[role] = true
		}
	}
	if acr, _ := claims["acr"].(string); len(i.cfg.StaffACR) > 0 && !slices.Contains(i.cfg.StaffACR, acr) {
		maps.DeleteFunc(given, func(role string, _ bool) bool { return role != auth.RoleCustomer })
	}
	return slices.Sorted(maps.Keys(given))
}

// valuesAt returns the texts at a path of claims: under its whole name, or else within objects.
func valuesAt(claims map[string]any, path string) []string {
	value, ok := claims[path]
	if !ok {
		outer, inner, nested := strings.Cut(path, ".")
		within, isObject := claims[outer].(map[string]any)
		if !nested || !isObject {
			return nil
		}
		return valuesAt(within, inner)
	}
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		var texts []string
		for _, v := range value {
			if text, ok := v.(string); ok {
				texts = append(texts, text)
			}
		}
		return texts
	}
	return nil
}
