// Package cachetest is the suite that every cache passes.
package cachetest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/cache"
)

// Harness is a cache under test.
type Harness struct {
	Store cache.Store

	// Advance moves the clock of the cache. Nil: it has the real clock, and only what takes a moment is tested.
	Advance func(time.Duration)
}

func (h Harness) get(t *testing.T, key string, tags ...string) (string, cache.Lease) {
	t.Helper()
	value, lease, err := h.Store.Get(t.Context(), key, tags...)
	if err != nil {
		t.Fatal(err)
	}
	return string(value), lease
}

func (h Harness) set(t *testing.T, key, value string, ttl time.Duration, lease cache.Lease, tags ...string) {
	t.Helper()
	if err := h.Store.Set(t.Context(), key, []byte(value), ttl, lease, tags...); err != nil {
		t.Fatal(err)
	}
}

// fill stores a value as a reader does who has found none.
func (h Harness) fill(t *testing.T, key, value string, tags ...string) {
	t.Helper()
	_, lease := h.get(t, key, tags...)
	h.set(t, key, value, time.Hour, lease, tags...)
}

func (h Harness) invalidate(t *testing.T, tags ...string) {
	t.Helper()
	if err := h.Store.Invalidate(t.Context(), tags...); err != nil {
		t.Fatal(err)
	}
}

func (h Harness) suspend(t *testing.T, d time.Duration, tags ...string) {
	t.Helper()
	if err := h.Store.Suspend(t.Context(), d, tags...); err != nil {
		t.Fatal(err)
	}
}

func (h Harness) want(t *testing.T, want, key string, tags ...string) {
	t.Helper()
	if got, _ := h.get(t, key, tags...); got != want {
		t.Errorf("%s with the tags %v: got %q, want %q", key, tags, got, want)
	}
}

// Run tests a cache. make returns an empty one.
func Run(t *testing.T, make func(t *testing.T) Harness) {
	t.Run("what was stored is found, with its tags only", func(t *testing.T) {
		h := make(t)
		h.want(t, "", "a", "x", "y")
		h.fill(t, "a", "1", "x", "y")
		h.want(t, "1", "a", "x", "y")
		h.want(t, "", "a", "x")
		h.want(t, "", "a", "y", "x")
		h.want(t, "", "a", "x", "z")
		h.want(t, "", "b", "x", "y")
		h.want(t, "", "x", "x", "y") // a tag is no key
		h.fill(t, "b", "2")
		h.want(t, "2", "b")
	})
	t.Run("names may be of any length and have any bytes", func(t *testing.T) {
		h := make(t)
		long := string(bytes.Repeat([]byte("k"), 10_000))
		names := []string{long, long + "a", "#", "", "a\x00b", "ä\xff", "{a}", "a:b"}
		for i, name := range names {
			h.fill(t, name, fmt.Sprint(i), name)
		}
		for i, name := range names {
			h.want(t, fmt.Sprint(i), name, name)
		}
		h.invalidate(t, long)
		h.want(t, "", long, long)
		h.want(t, "1", long+"a", long+"a")
	})
	t.Run("a value may have any bytes, up to the limit", func(t *testing.T) {
		h := make(t)
		for _, value := range []string{"\x00\xff\r\n", string(bytes.Repeat([]byte{0, 200}, cache.MaxValue/2))} {
			h.fill(t, "a", value, "x")
			h.want(t, value, "a", "x")
		}
		h.fill(t, "b", string(bytes.Repeat([]byte{1}, cache.MaxValue+1)), "x")
		h.want(t, "", "b", "x")
	})
	t.Run("a value replaces another", func(t *testing.T) {
		h := make(t)
		h.fill(t, "a", "1", "x")
		_, lease := h.get(t, "a", "x")
		h.set(t, "a", "2", time.Hour, lease, "x")
		h.want(t, "2", "a", "x")
	})
	t.Run("an invalidation removes all that have one of the tags", func(t *testing.T) {
		h := make(t)
		h.fill(t, "a", "1", "x", "y")
		h.fill(t, "b", "2", "y")
		h.fill(t, "c", "3", "z")
		h.fill(t, "d", "4")
		h.invalidate(t)
		h.invalidate(t, "none", "y")
		h.want(t, "", "a", "x", "y")
		h.want(t, "", "b", "y")
		h.want(t, "3", "c", "z")
		h.want(t, "4", "d")
		h.fill(t, "a", "5", "x", "y")
		h.want(t, "5", "a", "x", "y")
		h.want(t, "", "b", "y") // it does not come back with its tag
	})
	t.Run("what was read before an invalidation is not stored after it", func(t *testing.T) {
		h := make(t)
		_, early := h.get(t, "a", "x", "y")
		h.invalidate(t, "y")
		h.set(t, "a", "old", time.Hour, early, "x", "y")
		h.want(t, "", "a", "x", "y")
		_, late := h.get(t, "a", "x", "y") // the tag has a state again
		h.set(t, "a", "old", time.Hour, early, "x", "y")
		h.want(t, "", "a", "x", "y")
		h.set(t, "a", "new", time.Hour, late, "x", "y")
		h.set(t, "a", "old", time.Hour, early, "x", "y")
		h.want(t, "new", "a", "x", "y")
		h.set(t, "a", "none", time.Hour, "", "x", "y")
		h.set(t, "a", "other", time.Hour, late, "x", "z")
		h.set(t, "a", "fewer", time.Hour, late, "x")
		h.want(t, "new", "a", "x", "y")
	})
	t.Run("nothing is stored with a tag that is suspended", func(t *testing.T) {
		h := make(t)
		h.fill(t, "a", "1", "x", "y")
		_, early := h.get(t, "b", "x")
		h.suspend(t, time.Hour)
		h.suspend(t, time.Hour, "none", "y", "x")
		h.want(t, "", "a", "x", "y")
		h.set(t, "b", "old", time.Hour, early, "x")
		h.fill(t, "b", "2", "x")
		h.want(t, "", "b", "x")
		h.fill(t, "c", "3", "z")
		h.want(t, "3", "c", "z")
		_, before := h.get(t, "b", "x")
		h.invalidate(t, "x") // who reads after it must not share what was read before
		_, after := h.get(t, "b", "x")
		if before == "" || before == after {
			t.Errorf("the lease %q became %q", before, after)
		}
		h.fill(t, "b", "4", "x")
		h.want(t, "", "b", "x")
	})
	t.Run("a value without a time, or with too many tags, is not stored", func(t *testing.T) {
		h := make(t)
		for _, ttl := range []time.Duration{0, -time.Second, time.Microsecond} {
			_, lease := h.get(t, "a", "x")
			h.set(t, "a", "1", ttl, lease, "x")
			h.want(t, "", "a", "x")
		}
		tags := []string{}
		for i := range cache.MaxTags + 1 {
			tags = append(tags, fmt.Sprint(i))
		}
		h.fill(t, "a", "1", tags...)
		h.want(t, "", "a", tags...)
		h.fill(t, "a", "1", tags[1:]...)
		h.want(t, "1", "a", tags[1:]...)
	})
	t.Run("a value is gone after its time", func(t *testing.T) {
		h := make(t)
		_, lease := h.get(t, "a", "x")
		h.set(t, "a", "1", 2*time.Millisecond, lease, "x")
		if h.Advance != nil {
			h.Advance(2 * time.Millisecond)
			h.want(t, "", "a", "x")
			return
		}
		for end := time.Now().Add(time.Minute); ; {
			if got, _ := h.get(t, "a", "x"); got == "" {
				break
			} else if time.Now().After(end) {
				t.Fatal("it is still there after a minute")
			}
		}
	})
	t.Run("no reader gets what an invalidation has ended", func(t *testing.T) { concurrent(t, make(t)) })
	if make(t).Advance == nil {
		return
	}
	t.Run("each value has its own time, and all have one", func(t *testing.T) {
		h := make(t)
		for i, ttl := range []time.Duration{30 * time.Second, time.Hour, 1000 * time.Hour} {
			_, lease := h.get(t, fmt.Sprint(i), "x")
			h.set(t, fmt.Sprint(i), "v", ttl, lease, "x")
		}
		h.Advance(45 * time.Second)
		h.want(t, "", "0", "x")
		h.want(t, "v", "1", "x")
		h.Advance(time.Hour)
		h.want(t, "", "1", "x")
		h.want(t, "v", "2", "x")
		h.Advance(cache.MaxTTL)
		h.want(t, "", "2", "x")
	})
	t.Run("what was read while a tag was suspended is not stored later", func(t *testing.T) {
		h := make(t)
		h.suspend(t, time.Minute, "x")
		h.suspend(t, time.Second, "x") // a longer suspension stays
		h.Advance(time.Minute - time.Millisecond)
		h.fill(t, "a", "1", "x")
		h.want(t, "", "a", "x")
		_, within := h.get(t, "a", "x")
		h.Advance(time.Millisecond)
		h.set(t, "a", "old", time.Hour, within, "x")
		h.want(t, "", "a", "x")
		h.set(t, "a", "old", time.Hour, within, "x")
		h.fill(t, "a", "2", "x")
		h.want(t, "2", "a", "x")
		h.suspend(t, time.Second, "x")
		h.suspend(t, time.Minute, "x")
		h.Advance(time.Second)
		h.fill(t, "a", "3", "x")
		h.want(t, "", "a", "x")
	})
	t.Run("a lease ends when nothing is stored", func(t *testing.T) {
		h := make(t)
		_, lease := h.get(t, "a", "x")
		h.Advance(time.Minute)
		h.set(t, "a", "1", time.Hour, lease, "x")
		h.want(t, "", "a", "x")
	})
}

// concurrent has readers fill the cache from an origin that changes. After an invalidation has returned, no reader gets
// a value from before the change.
func concurrent(t *testing.T, h Harness) {
	var mu sync.Mutex
	origin, floor := 0, 0 // what is true, and the least that may be read
	read := func() int { mu.Lock(); defer mu.Unlock(); return origin }
	least := func() int { mu.Lock(); defer mu.Unlock(); return floor }
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				want := least()
				value, lease, err := h.Store.Get(t.Context(), "a", "x")
				if err != nil {
					t.Error(err)
					return
				}
				if value != nil {
					var got int
					if _, err := fmt.Sscan(string(value), &got); err != nil || got < want {
						t.Errorf("got %q, want %d or more: %v", value, want, err)
						return
					}
					continue
				}
				if err := h.Store.Set(t.Context(), "a", fmt.Append(nil, read()), time.Hour, lease, "x"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 200 {
		mu.Lock()
		origin++
		changed := origin
		mu.Unlock()
		h.invalidate(t, "x")
		mu.Lock()
		floor = changed
		mu.Unlock()
	}
	stop()
	readers.Wait()
}
