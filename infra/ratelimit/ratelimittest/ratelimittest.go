// Package ratelimittest is the suite that every rate limiter passes.
package ratelimittest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/ratelimit"
)

// Harness is a limiter under test.
type Harness struct {
	Limiter ratelimit.Limiter

	// Advance moves the clock of the limiter. Nil: it has the real clock, and only what takes no time is tested.
	Advance func(time.Duration)
}

func take(t *testing.T, h Harness, limits ...ratelimit.Limit) ratelimit.Decision {
	t.Helper()
	d, err := h.Limiter.Take(t.Context(), limits)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.States) != len(limits) {
		t.Fatalf("got %d states of %d limits", len(d.States), len(limits))
	}
	return d
}

// allowed returns how many of n requests are allowed.
func allowed(t *testing.T, h Harness, n int, limits ...ratelimit.Limit) (count int) {
	t.Helper()
	for range n {
		if take(t, h, limits...).Allowed() {
			count++
		}
	}
	return count
}

// Run tests a limiter. make returns a new one, without counters.
func Run(t *testing.T, make func(t *testing.T) Harness) {
	day := func(key string, quota int64) ratelimit.Limit {
		return ratelimit.Limit{Key: key, Quota: quota, Window: 24 * time.Hour}
	}

	t.Run("a quota can be used at once, and no more", func(t *testing.T) {
		h := make(t)
		for i, want := range []int64{2, 1, 0} {
			if d := take(t, h, day("a", 3)); !d.Allowed() || d.States[0].Remaining != want || d.States[0].Wait != 0 {
				t.Errorf("request %d: got %+v, want %d left", i, d, want)
			}
		}
		d := take(t, h, day("a", 3))
		if s := d.States[0]; d.Allowed() || s.Remaining != 0 || s.Wait != d.Wait || d.Wait > 8*time.Hour ||
			d.Wait < 7*time.Hour || s.Reset > 24*time.Hour || s.Reset < 23*time.Hour {
			t.Errorf("the request beyond the quota: got %+v", d)
		}
	})
	t.Run("keys are counted apart", func(t *testing.T) {
		h := make(t)
		if a, b := allowed(t, h, 5, day("a", 2)), allowed(t, h, 5, day("b", 3)); a != 2 || b != 3 {
			t.Errorf("got %d and %d, want 2 and 3", a, b)
		}
	})
	t.Run("a request that one limit refuses is counted by none", func(t *testing.T) {
		h := make(t)
		if n := allowed(t, h, 5, day("small", 2), day("large", 10)); n != 2 {
			t.Errorf("got %d, want 2", n)
		}
		d := take(t, h, day("small", 2), day("large", 10))
		if d.Allowed() || d.States[0].Wait == 0 || d.States[1].Wait != 0 || d.States[1].Remaining != 8 {
			t.Errorf("got %+v, want the large one not to refuse and to have 8 left", d)
		}
		if d := take(t, h, day("large", 10)); d.States[0].Remaining != 7 {
			t.Errorf("got %+v, want 7 left", d)
		}
	})
	t.Run("requests at the same time do not exceed a quota", func(t *testing.T) {
		h := make(t)
		var count atomic.Int64
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for range 10 {
					d, err := h.Limiter.Take(t.Context(), []ratelimit.Limit{day("a", 50), day("b", 60)})
					if err != nil {
						t.Error(err)
					}
					if d.Allowed() {
						count.Add(1)
					}
				}
			})
		}
		all.Wait()
		if count.Load() != 50 {
			t.Errorf("got %d, want 50", count.Load())
		}
	})
	t.Run("a quota that does not divide its window is exact", func(t *testing.T) {
		h := make(t)
		for _, quota := range []int64{3, 7, 999} {
			if n := allowed(t, h, int(quota)+3, day(fmt.Sprint(quota), quota)); int64(n) != quota {
				t.Errorf("got %d of %d", n, quota)
			}
		}
	})
	if make(t).Advance == nil {
		return
	}
	t.Run("a quota is regained evenly", func(t *testing.T) {
		h := make(t)
		limit := ratelimit.Limit{Key: "a", Quota: 10, Window: 10 * time.Second}
		var got []int
		for _, after := range []time.Duration{
			0, time.Second, 500 * time.Millisecond, 500 * time.Millisecond, 3 * time.Second, time.Minute,
		} {
			h.Advance(after)
			got = append(got, allowed(t, h, 20, limit))
		}
		if want := []int{10, 1, 0, 1, 3, 10}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	t.Run("a refused request is allowed when it has waited", func(t *testing.T) {
		h := make(t)
		limits := []ratelimit.Limit{{Key: "a", Quota: 2, Window: 10 * time.Second}, {Key: "b", Quota: 3, Window: time.Minute}}
		for range 20 {
			if d := take(t, h, limits...); !d.Allowed() {
				h.Advance(d.Wait - 10*time.Millisecond)
				if d := take(t, h, limits...); d.Allowed() {
					t.Error("allowed too early")
				}
				h.Advance(10 * time.Millisecond)
				if d := take(t, h, limits...); !d.Allowed() {
					t.Errorf("still refused: %+v", d)
				}
			}
		}
	})
}
