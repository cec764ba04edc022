// Package redis is a cache in Redis, which several processes share.
//
// A tag is a key with a random state, and a copy begins with the states of its tags at the time when it was read.
// Invalidating a tag removes its key, and the next reader gives it a new state. So a copy without its tags does not
// count: a server that evicts keys (maxmemory-policy allkeys-lru or allkeys-lfu, which bound the size of the cache)
// loses copies and no invalidation. Every key has an expiry.
//
// A server that does not answer is not asked again for a second, so that callers do not wait for it one after the
// other. Invalidations are tried all the same.
package redis

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ebb-dev/ebb/infra/cache"
)

//go:embed get.lua
var getSource string

//go:embed set.lua
var setSource string

//go:embed invalidate.lua
var invalidateSource string

var (
	getScript        = redis.NewScript(getSource)
	setScript        = redis.NewScript(setSource)
	invalidateScript = redis.NewScript(invalidateSource)
)

const (
	timeout   = 250 * time.Millisecond // of one step of a call: to connect, to write, to read
	coolDown  = time.Second            // after a failure
	leaseTime = time.Minute            // how long a tag has its state when nothing is stored with it
	longKey   = 64                     // bytes of a key that is not replaced by its hash
)

// Store is a cache.Store. Use Open.
type Store struct {
	client *redis.Client
	prefix string

	away atomic.Int64 // until when the server is not asked, in nanoseconds since 1970
}

var _ cache.Store = (*Store)(nil)

// Open returns the cache of a server: redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss:// with TLS, or unix://PATH. The
// parameter name is the prefix of the keys (ebb), for servers that several systems share. It does not connect. The
// error has no part of the URL.
func Open(url string) (*Store, error) { return openWithin(url, timeout) }

func openWithin(text string, timeout time.Duration) (*Store, error) {
	invalid := errors.New(
		"invalid URL: want redis://[USER:PASSWORD@]HOST:PORT[/DB][?name=PREFIX], rediss://… or unix://PATH")
	text, query, _ := strings.Cut(text, "?")
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return nil, invalid
	}
	name := "ebb"
	for parameter, values := range parameters {
		if parameter != "name" || len(values) != 1 || !isName(values[0]) {
			return nil, invalid
		}
		name = values[0]
	}
	options, err := redis.ParseURL(text)
	if err != nil || !strings.Contains(text, "://") {
		return nil, invalid
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = timeout, timeout, timeout
	options.PoolTimeout, options.MaxRetries, options.DialerRetries = timeout, -1, 1
	options.ContextTimeoutEnabled = true
	return &Store{client: redis.NewClient(options), prefix: "{" + name + "-cache}:"}, nil
}

func isName(text string) bool {
	return text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// keys returns the names in Redis of a key and of tags. They lie in one slot of a cluster.
func (s *Store) keys(key string, tags []string) []string {
	all := make([]string, 0, 1+len(tags))
	all = append(all, s.prefix+"k:"+short(key))
	return append(all, s.tags(tags)...)
}

func (s *Store) tags(tags []string) []string {
	all := make([]string, len(tags))
	for i, tag := range tags {
		all[i] = s.prefix + "t:" + short(tag)
	}
	return all
}

// short returns a name of a bounded length.
func short(name string) string {
	if len(name) <= longKey && !strings.HasPrefix(name, "#") {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return "#" + base64.RawURLEncoding.EncodeToString(sum[:])
}

var errAway = errors.New("the server did not answer before, and is not asked for a second")

// asked returns the error of a server that is not to be asked.
func (s *Store) asked() error {
	if time.Now().UnixNano() < s.away.Load() {
		return fmt.Errorf("cache in Redis: %w", errAway)
	}
	return nil
}

// failed returns the error of a call. A server that has not answered is left alone for a while; a caller that has gone
// away says nothing about it.
func (s *Store) failed(ctx context.Context, err error) error {
	var answered redis.Error
	if ctx.Err() == nil && !errors.As(err, &answered) {
		s.away.Store(time.Now().Add(coolDown).UnixNano())
	}
	return fmt.Errorf("cache in Redis: %w", err)
}

// Get implements cache.Store.
func (s *Store) Get(ctx context.Context, key string, tags ...string) ([]byte, cache.Lease, error) {
	if err := s.asked(); err != nil {
		return nil, "", err
	}
	answer, err := getScript.Run(ctx, s.client, s.keys(key, tags), newState(), leaseTime.Milliseconds()).Slice()
	if err == nil && len(answer) != 2 {
		err = fmt.Errorf("got %d values, want 2", len(answer))
	}
	if err != nil {
		return nil, "", s.failed(ctx, err)
	}
	lease, _ := answer[1].(string)
	if value, found := answer[0].(string); found {
		return []byte(value), cache.Lease(lease), nil
	}
	return nil, cache.Lease(lease), nil
}

// Set implements cache.Store.
func (s *Store) Set(
	ctx context.Context, key string, value []byte, ttl time.Duration, lease cache.Lease, tags ...string,
) error {
	ttl, ok := cache.Storable(value, ttl, lease, tags)
	if !ok {
		return nil
	}
	if err := s.asked(); err != nil {
		return err
	}
	err := setScript.Run(ctx, s.client, s.keys(key, tags), string(lease), value, ttl.Milliseconds()).Err()
	if err != nil {
		return s.failed(ctx, err)
	}
	return nil
}

// Invalidate implements cache.Store.
func (s *Store) Invalidate(ctx context.Context, tags ...string) error {
	return s.Suspend(ctx, 0, tags...)
}

// Suspend implements cache.Store. A server that evicts keys may end a suspension early.
func (s *Store) Suspend(ctx context.Context, d time.Duration, tags ...string) error {
	if len(tags) == 0 {
		return nil
	}
	err := invalidateScript.Run(ctx, s.client, s.tags(tags), newState(), d.Milliseconds()).Err()
	if err != nil {
		return s.failed(ctx, err)
	}
	return nil
}

// newState returns random bytes, of which scripts make the states of tags.
func newState() []byte {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return random[:]
}

// Close implements cache.Store.
func (s *Store) Close() error { return s.client.Close() }
