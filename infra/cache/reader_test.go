package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/cache"
	"github.com/ebb-dev/ebb/infra/cache/memory"
	"github.com/ebb-dev/ebb/infra/fault"
)

// origin counts its calls. The test says what it returns.
type origin struct {
	calls atomic.Int64
	err   error
}

func (o *origin) load(context.Context) (string, error) {
	return fmt.Sprint("v", o.calls.Add(1)), o.err
}

var tags = []string{"x"}

// read checks one read, which is done when all goroutines wait.
func read(t *testing.T, r *cache.Reader[string], o *origin, want string) {
	t.Helper()
	got, err := r.Read(t.Context(), "k", tags, o.load)
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	synctest.Wait()
}

// A value is read once while it is fresh, is stale for a while, and is then read again.
func TestFreshAndStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, s := &origin{}, memory.New(0, time.Now)
		var seen []string
		r := cache.NewReader[string](s, cache.Config{
			TTL: time.Minute, StaleWhileRevalidate: time.Minute, StaleIfError: time.Hour, Jitter: -1,
			Observe: func(what string) { seen = append(seen, what) },
		})
		read(t, r, o, "v1")
		time.Sleep(time.Minute - time.Nanosecond)
		read(t, r, o, "v1")
		time.Sleep(time.Nanosecond)
		read(t, r, o, "v1") // v2 is read meanwhile
		read(t, r, o, "v2")
		time.Sleep(2 * time.Minute)
		read(t, r, o, "v3")
		o.err = fault.New(fault.Unavailable, "away")
		time.Sleep(10 * time.Minute)
		read(t, r, o, "v3")
		time.Sleep(time.Hour)
		read(t, r, o, "away")
		if got := fmt.Sprint(seen); got != "[miss hit stale hit miss stale miss]" {
			t.Error(got)
		}
	})
}

// A value that is missing without a reason is missing, and no zero value.
func TestMissingWithoutReason(t *testing.T) {
	o := &origin{err: fault.New(fault.NotFound, "")}
	r := cache.NewReader[string](memory.New(0, time.Now), cache.Config{TTL: time.Hour, Missing: time.Minute})
	for range 2 {
		if got, err := r.Read(t.Context(), "k", tags, o.load); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// An origin without a value is not asked again for a while, and an error is not stored.
func TestMissingValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{err: fault.New(fault.NotFound, "there is none")}
		r := cache.NewReader[string](memory.New(0, time.Now), cache.Config{
			TTL: time.Hour, Missing: time.Minute, Jitter: -1,
		})
		for range 3 {
			read(t, r, o, "there is none")
		}
		if _, err := r.Read(t.Context(), "k", tags, o.load); !fault.Is(err, fault.NotFound) || o.calls.Load() != 1 {
			t.Errorf("got %v after %d calls", err, o.calls.Load())
		}
		time.Sleep(time.Minute)
		o.err = errors.New("a fault")
		read(t, r, o, "a fault")
		o.err = nil
		read(t, r, o, "v3")
	})
}

// Values that were stored at the same time expire one after the other, and none is fresh for longer than it may be.
func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := 0.0
		r := cache.NewReader[string](memory.New(0, time.Now), cache.Config{
			TTL: 100 * time.Second, Random: func() float64 { random += 0.09; return random },
		})
		o := &origin{}
		for i := range 10 {
			_, _ = r.Read(t.Context(), fmt.Sprint(i), tags, o.load)
		}
		time.Sleep(90 * time.Second)
		for second := range 11 {
			before := o.calls.Load()
			for i := range 10 {
				_, _ = r.Read(t.Context(), fmt.Sprint(i), tags, o.load)
			}
			if n := o.calls.Load() - before; n > 2 {
				t.Errorf("%d values expire in second %d", n, 90+second)
			}
			time.Sleep(time.Second)
		}
		if n := o.calls.Load(); n < 20 {
			t.Errorf("%d calls of the origin: not all values have expired", n)
		}
	})
}

// Those who ask at the same time share one call, which goes on when the first of them has gone away. A reader that
// begins after an invalidation does not get what was read before it.
func TestOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, s := &origin{}, memory.New(0, time.Now)
		release := make(chan struct{})
		load := func(ctx context.Context) (string, error) {
			v, err := o.load(ctx)
			select {
			case <-release:
			case <-ctx.Done():
				err = ctx.Err()
			}
			return v, err
		}
		r := cache.NewReader[string](s, cache.Config{TTL: time.Hour})
		results := make([]string, 20)
		var all sync.WaitGroup
		ask := func(ctx context.Context, i int) {
			all.Go(func() {
				v, err := r.Read(ctx, "k", tags, load)
				results[i] = v
				if (err != nil) != (i == 0) {
					t.Errorf("reader %d: got %v", i, err)
				}
			})
			synctest.Wait()
		}
		ctx, leave := context.WithCancel(t.Context())
		ask(ctx, 0)
		for i := 1; i < 10; i++ {
			ask(t.Context(), i)
		}
		leave()
		synctest.Wait()
		_ = s.Invalidate(t.Context(), "x")
		for i := 10; i < 20; i++ {
			ask(t.Context(), i)
		}
		close(release)
		all.Wait()
		for i, got := range results[1:] {
			if want := map[bool]string{true: "v1", false: "v2"}[i+1 < 10]; got != want {
				t.Errorf("reader %d: got %q, want %q", i+1, got, want)
			}
		}
		read(t, r, o, "v2")
	})
}

// broken is a store that is away, or that has what nobody can read.
type broken struct {
	cache.Store
	data []byte
	err  error
}

func (b broken) Get(context.Context, string, ...string) ([]byte, cache.Lease, error) {
	return b.data, "", b.err
}

// A store that is away, and an entry of another version, cost no answer: the origin is asked. A panic of the origin is
// an error.
func TestStoreAway(t *testing.T) {
	for _, s := range []broken{
		{err: errors.New("away")}, {data: []byte{9}}, {data: []byte("\x02\x00\x7f234567\"other\"")},
		{data: []byte("\x01\x00\x7f234567{no JSON")},
	} {
		s.Store = memory.New(0, time.Now)
		r, o := cache.NewReader[string](s, cache.Config{TTL: time.Hour}), &origin{}
		for i := range 2 {
			if got, err := r.Read(t.Context(), "k", tags, o.load); err != nil || got != fmt.Sprint("v", i+1) {
				t.Errorf("%q: got %q, %v", s.data, got, err)
			}
		}
		if _, err := r.Read(t.Context(), "k", tags, func(context.Context) (string, error) { panic("a fault") }); err == nil {
			t.Error("a panic is no error")
		}
	}
}
