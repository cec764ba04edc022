package redis_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/ebb-dev/ebb/infra/ratelimit"
	"github.com/ebb-dev/ebb/infra/ratelimit/memory"
	"github.com/ebb-dev/ebb/infra/ratelimit/ratelimittest"
	"github.com/ebb-dev/ebb/infra/ratelimit/redis"
	"github.com/ebb-dev/ebb/infra/ratelimit/redis/redistest"
)

func open(t *testing.T, url string) *redis.Limiter {
	t.Helper()
	l, err := redis.OpenPatient(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

var start = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

// fake returns a fake server with a clock of its own, and what moves the clock.
func fake(t *testing.T) (*miniredis.Miniredis, func(time.Duration)) {
	t.Helper()
	m, now := miniredis.RunT(t), start
	m.SetTime(now)
	return m, func(d time.Duration) {
		now = now.Add(d)
		m.SetTime(now)
		m.FastForward(d)
	}
}

// The fake server has a clock that the suite moves.
func TestFake(t *testing.T) {
	ratelimittest.Run(t, func(t *testing.T) ratelimittest.Harness {
		m, advance := fake(t)
		return ratelimittest.Harness{Limiter: open(t, "redis://"+m.Addr()), Advance: advance}
	})
}

func TestServer(t *testing.T) {
	ratelimittest.Run(t, func(t *testing.T) ratelimittest.Harness {
		return ratelimittest.Harness{Limiter: open(t, redistest.Start(t).URL())}
	})
}

// The script and the limiter in memory decide the same.
func TestSameAsMemory(t *testing.T) {
	m, advance := fake(t)
	l, now := open(t, "redis://"+m.Addr()), start
	other := memory.New(func() time.Time { return now })
	limits := []ratelimit.Limit{
		{Key: "a", Quota: 7, Window: 3 * time.Second}, {Key: "b", Quota: 100, Window: time.Minute},
		{Key: "c", Quota: 3, Window: time.Second},
	}
	for i := range 500 {
		of := limits[i%3:]
		got, err := l.Take(t.Context(), of)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := other.Take(t.Context(), of)
		for n, a := range got.States { // the fractions differ
			b := want.States[n]
			near := func(a, b time.Duration) bool { return (a - b).Abs() < 10*time.Microsecond }
			if a.Remaining != b.Remaining || (a.Wait == 0) != (b.Wait == 0) || !near(a.Wait, b.Wait) || !near(a.Reset, b.Reset) {
				t.Fatalf("request %d: got %+v, in memory %+v", i, got, want)
			}
		}
		d := time.Duration(i*7919%523) * time.Millisecond
		now = now.Add(d)
		advance(d)
	}
}

// Every counter expires when it has its whole quota, also after a refusal.
func TestEveryCounterExpires(t *testing.T) {
	s := redistest.Start(t)
	l := open(t, s.URL())
	options, err := goredis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := goredis.NewClient(options)
	defer client.Close()
	limits := []ratelimit.Limit{
		{Key: "a", Quota: 10, Window: time.Second}, {Key: "b", Quota: 2, Window: time.Hour},
		{Key: "c", Quota: 1_000_000, Window: time.Second}, // regained within a millisecond
	}
	for range 5 {
		if _, err := l.Take(t.Context(), limits); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatal(keys, err)
	}
	for _, key := range keys {
		left, err := client.PTTL(t.Context(), key).Result()
		if err != nil || left == -1 || left > time.Hour {
			t.Errorf("%s expires in %s, %v", key, left, err)
		}
	}
}

// While the server is away Take fails, and counts again when it is back.
func TestServerAway(t *testing.T) {
	s := redistest.Start(t)
	l, limits := open(t, s.URL()), []ratelimit.Limit{{Key: "a", Quota: 10, Window: time.Hour}}
	if _, err := l.Take(t.Context(), limits); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if d, err := l.Take(t.Context(), limits); err == nil {
		t.Errorf("without a server: got %+v", d)
	}
	s.Restart(t)
	for {
		if d, err := l.Take(t.Context(), limits); err == nil {
			if d.States[0].Remaining != 9 {
				t.Errorf("got %+v", d)
			}
			return
		}
	}
}

// A caller that has gone away does not wait.
func TestCancelled(t *testing.T) {
	l := open(t, redistest.Start(t).URL())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Take(ctx, []ratelimit.Limit{{Key: "a", Quota: 1, Window: time.Second}}); err == nil {
		t.Error("no error")
	}
}

// An error about the URL does not tell the password.
func TestURL(t *testing.T) {
	for _, url := range []string{"localhost:6379", "http://:secret@h", "redis://:secret@h:x", "redis://:secret@h/a/b"} {
		if _, err := redis.Open(url); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
