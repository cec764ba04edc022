// Package redis is a rate limiter that counts in Redis, so that all processes count together.
//
// One script decides about all limits of a request, in one round trip, by the clock of the server. A counter expires
// when it has its whole quota: the script sets none without an expiry. The keys of a request lie in one slot of a
// cluster, because they all have the tag {ebb-rate}.
package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ebb-dev/ebb/infra/ratelimit"
)

//go:embed take.lua
var source string

var script = redis.NewScript(source)

// prefix of every key.
const prefix = "{ebb-rate}:"

// timeout is how long one step of a call may take: to connect, to write, to read. A request waits for it.
const timeout = 250 * time.Millisecond

// Limiter is a ratelimit.Limiter. Use Open.
type Limiter struct{ client *redis.Client }

var _ ratelimit.Limiter = (*Limiter)(nil)

// Open returns the limiter of a server: redis://USER:PASSWORD@HOST:PORT/DB, rediss:// with TLS, or unix://PATH. It does
// not connect.
func Open(url string) (*Limiter, error) { return openWithin(url, timeout) }

func openWithin(url string, timeout time.Duration) (*Limiter, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("invalid URL: want redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss://… or unix://PATH")
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = timeout, timeout, timeout
	options.PoolTimeout, options.MaxRetries, options.DialerRetries = timeout, -1, 1
	options.ContextTimeoutEnabled = true
	return &Limiter{redis.NewClient(options)}, nil
}

// Close closes the connections.
func (l *Limiter) Close() error { return l.client.Close() }

// Take implements ratelimit.Limiter.
func (l *Limiter) Take(ctx context.Context, limits []ratelimit.Limit) (ratelimit.Decision, error) {
	keys, arguments := make([]string, len(limits)), make([]any, 0, 2*len(limits))
	for i, limit := range limits {
		keys[i] = prefix + limit.Key
		arguments = append(arguments, limit.Window.Microseconds(), limit.Quota)
	}
	numbers, err := script.Run(ctx, l.client, keys, arguments...).Int64Slice()
	if err == nil && len(numbers) != 3*len(limits) {
		err = fmt.Errorf("got %d numbers, want %d", len(numbers), 3*len(limits))
	}
	if err != nil {
		return ratelimit.Decision{}, fmt.Errorf("rate limits in Redis: %w", err)
	}
	d := ratelimit.Decision{States: make([]ratelimit.State, len(limits))}
	for i := range limits {
		d.States[i] = ratelimit.State{
			Remaining: numbers[3*i],
			Reset:     time.Duration(numbers[3*i+1]) * time.Microsecond,
			Wait:      time.Duration(numbers[3*i+2]) * time.Microsecond,
		}
		d.Wait = max(d.Wait, d.States[i].Wait)
	}
	return d, nil
}
