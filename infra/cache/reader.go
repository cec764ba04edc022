package cache

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Config is how a Reader reads. TTL is required.
type Config struct {
	TTL                  time.Duration // how long a value is fresh
	StaleWhileRevalidate time.Duration // beyond TTL: a stale value is returned at once, and fetched anew
	StaleIfError         time.Duration // beyond TTL: a stale value is returned when the origin fails
	Missing              time.Duration // how long it is known that the origin has no value (fault.NotFound); 0: not at all

	// Jitter is the share of TTL and Missing by which they are shorter at random, so that what was stored at the same time
	// does not expire at the same time. 0: a tenth; negative: none.
	Jitter float64

	Timeout time.Duration    // of a call of the origin; 0: 30 s. Not over a minute, which is how long a lease is good.
	Now     func() time.Time // nil: time.Now
	Random  func() float64   // from 0 to below 1, for Jitter; nil: math/rand

	// Observe is called with what became of each read: hit, stale, miss, or away when the store failed. Nil: nothing is.
	Observe func(what string)
}

// Reader reads values of a type through a store, which has them as JSON. It may be used concurrently.
//
// Those who ask for the same thing at the same time share one call of the origin, and get the same value, which they
// must not change. A call for one goes on when the caller has gone away. A reader that begins after an invalidation
// does not share a call that began before it; while the store is away it may.
type Reader[T any] struct {
	store   Store
	cfg     Config
	flights singleflight.Group
}

// NewReader returns a reader.
func NewReader[T any](store Store, cfg Config) *Reader[T] {
	if cfg.Jitter == 0 {
		cfg.Jitter = 0.1
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string) {}
	}
	return &Reader[T]{store: store, cfg: cfg}
}

// found is a decoded entry of the store: a value, or the message with which load answered fault.NotFound.
type found[T any] struct {
	value   T
	missing bool
	message string    // why it is missing
	until   time.Time // fresh
}

func (f *found[T]) result() (T, error) {
	if f.missing {
		return f.value, fault.New(fault.NotFound, "%s", f.message)
	}
	return f.value, nil
}

// Read returns the value of a key that is in the store with these tags, or that load returns. An error of load is
// returned, to all who wait for it, and not stored, but for fault.NotFound. load gets a context that outlives the
// caller's; it must not use what ends with the caller, such as a unit of work.
func (r *Reader[T]) Read(
	ctx context.Context, key string, tags []string, load func(ctx context.Context) (T, error),
) (T, error) {
	data, lease, err := r.store.Get(ctx, key, tags...)
	now, old := r.cfg.Now(), decode[T](data)
	flight := fmt.Sprintf("%d %s%s", len(key), key, lease)
	if old != nil && now.Before(old.until) {
		r.cfg.Observe("hit")
		return old.result()
	}
	fetched := r.fetch(ctx, flight, key, tags, lease, load)
	if old != nil && now.Before(old.until.Add(r.cfg.StaleWhileRevalidate)) {
		r.cfg.Observe("stale")
		return old.result()
	}
	what := "miss"
	if err != nil {
		what = "away"
	}
	var none T
	select {
	case got := <-fetched:
		if got.Err != nil && old != nil && now.Before(old.until.Add(r.cfg.StaleIfError)) {
			r.cfg.Observe("stale")
			return old.result()
		}
		r.cfg.Observe(what)
		if got.Err != nil {
			return none, got.Err
		}
		return got.Val.(*found[T]).result()
	case <-ctx.Done():
		r.cfg.Observe(what)
		return none, fault.Wrap(ctx.Err(), fault.Timeout, "the time is over")
	}
}

// fetch calls the origin, unless a call for the same flight is under way, and stores what it returns.
func (r *Reader[T]) fetch(
	ctx context.Context, flight, key string, tags []string, lease Lease, load func(ctx context.Context) (T, error),
) <-chan singleflight.Result {
	return r.flights.DoChan(flight, func() (_ any, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
		defer cancel()
		defer func() {
			if cause := recover(); cause != nil { // it would end the process
				err = fmt.Errorf("reading the origin of a cache panicked: %v", cause)
			}
		}()
		value, err := load(ctx)
		got := &found[T]{value: value}
		ttl := r.cfg.TTL
		if fault.Is(err, fault.NotFound) && r.cfg.Missing > 0 {
			got.missing, got.message, ttl, err = true, fault.Public(err), r.cfg.Missing, nil
		}
		if err != nil {
			return nil, err
		}
		if r.cfg.Jitter > 0 {
			ttl -= time.Duration(float64(ttl) * min(r.cfg.Jitter, 1) * r.cfg.Random())
		}
		got.until = r.cfg.Now().Add(ttl)
		if data, err := encode(got); err == nil {
			later := max(r.cfg.StaleWhileRevalidate, r.cfg.StaleIfError)
			_ = r.store.Set(ctx, key, data, ttl+later, lease, tags...) // a store that is away stores nothing
		}
		return got, nil
	})
}

// version is the first byte of an entry. One of another version is missing.
const version = 1

// encode returns an entry as bytes: the version, whether there is a value, until when it is fresh in nanoseconds since
// 1970, and the value or the message.
func encode[T any](f *found[T]) ([]byte, error) {
	data := append(make([]byte, 0, 256), version, 0)
	data = binary.BigEndian.AppendUint64(data, uint64(f.until.UnixNano()))
	if f.missing {
		data[1] = 1
		return append(data, f.message...), nil
	}
	value, err := json.Marshal(f.value)
	return append(data, value...), err
}

// decode returns nil for what is no entry.
func decode[T any](data []byte) *found[T] {
	if len(data) < 10 || data[0] != version {
		return nil
	}
	f := &found[T]{until: time.Unix(0, int64(binary.BigEndian.Uint64(data[2:])))}
	if data[1] == 1 {
		f.missing, f.message = true, string(data[10:])
		return f
	}
	if json.Unmarshal(data[10:], &f.value) != nil {
		return nil
	}
	return f
}
