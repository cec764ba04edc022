// Package keyfile has keys that are a value, or a file that may be replaced while the process runs: a rotation reaches
// processes without a restart.
package keyfile

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
)

// Scheme begins a setting that names a file: file:/etc/ebb/keys.json.
const Scheme = "file:"

// The shortest times between two looks at a file: on the way, and for a token of a key that is not known.
const (
	recheck    = 5 * time.Second
	recheckNow = time.Second
)

// Keys are keys of the type T. They may be used concurrently.
type Keys[T any] struct {
	path  string // "": they never change
	parse func([]byte) (T, error)
	clock func() time.Time

	mu      sync.Mutex // held while the file is read
	last    string     // what was accepted or refused last
	checked time.Time

	now atomic.Pointer[T]
}

// Open returns the keys of a setting: what parse makes of it, or of the file that it names. A nil clock is time.Now.
func Open[T any](setting string, parse func([]byte) (T, error), clock func() time.Time) (*Keys[T], error) {
	if clock == nil {
		clock = time.Now
	}
	k := &Keys[T]{parse: parse, clock: clock, last: setting, checked: clock()}
	if path, named := strings.CutPrefix(setting, Scheme); named {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		k.path, k.last = path, string(content)
	}
	parsed, err := parse([]byte(k.last))
	if err != nil {
		return nil, err
	}
	k.now.Store(&parsed)
	return k, nil
}

// Now returns the keys. A file is read again when five seconds have passed; one that cannot be read or is not valid is
// logged, and the keys before still count.
func (k *Keys[T]) Now() T {
	if k.path != "" && k.mu.TryLock() { // else another call reads it
		defer k.mu.Unlock()
		k.reload(recheck)
	}
	return *k.now.Load()
}

// newest returns the keys after a look at the file, which was at most a second ago. It waits for another call's look.
func (k *Keys[T]) newest() T {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reload(recheckNow)
	return *k.now.Load()
}

// reload reads the file again unless that was done a moment ago. mu is held.
func (k *Keys[T]) reload(after time.Duration) {
	if k.path == "" {
		return
	}
	now := k.clock()
	if since := now.Sub(k.checked); since >= 0 && since < after {
		return
	}
	k.checked = now
	content, err := os.ReadFile(k.path)
	if err == nil {
		if string(content) == k.last {
			return
		}
		k.last = string(content)
		var parsed T
		if parsed, err = k.parse(content); err == nil {
			k.now.Store(&parsed)
			slog.Info("there are new keys", "file", k.path)
			return
		}
	}
	slog.Error("the keys stay as they were: the new ones were refused", "file", k.path, "error", err)
}

// Verifier is an auth.Authenticator whose keys may change.
type Verifier struct{ keys *Keys[*auth.Verifier] }

var _ auth.Authenticator = (*Verifier)(nil)

// NewVerifier returns the Verifier of a setting: a JWK Set, or a file that has one, after Scheme. The rest of what it
// accepts is in cfg.
func NewVerifier(setting string, cfg auth.VerifierConfig) (*Verifier, error) {
	return NewVerifierOf(setting, auth.ParseJWKS, cfg)
}

// NewVerifierOf is NewVerifier for keys in another form.
func NewVerifierOf(
	setting string, parse func([]byte) (auth.JWKS, error), cfg auth.VerifierConfig,
) (*Verifier, error) {
	keys, err := Open(setting, func(text []byte) (*auth.Verifier, error) {
		set, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("parse keys: %w", err)
		}
		now := cfg
		now.Keys = set
		return auth.NewVerifier(now)
	}, cfg.Clock)
	if err != nil {
		return nil, err
	}
	return &Verifier{keys}, nil
}

// Authenticate implements auth.Authenticator. For a token of a key that is not known it looks for new keys, once a
// second at most.
func (v *Verifier) Authenticate(r *http.Request) (auth.Principal, error) {
	p, err := v.keys.Now().Authenticate(r)
	if errors.Is(err, auth.ErrUnknownKey) {
		return v.keys.newest().Authenticate(r)
	}
	return p, err
}
