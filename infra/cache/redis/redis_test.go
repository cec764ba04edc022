package redis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/ebb-dev/ebb/infra/cache/cachetest"
	"github.com/ebb-dev/ebb/infra/cache/redis"
	"github.com/ebb-dev/ebb/infra/ratelimit/redis/redistest"
)

func open(t *testing.T, url string) *redis.Store {
	t.Helper()
	s, err := redis.OpenPatient(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func client(t *testing.T, s *redistest.Server) *goredis.Client {
	t.Helper()
	options, err := goredis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := goredis.NewClient(options)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// The fake server has a clock that the suite moves.
func TestFake(t *testing.T) {
	cachetest.Run(t, func(t *testing.T) cachetest.Harness {
		m := miniredis.RunT(t)
		return cachetest.Harness{Store: open(t, "redis://"+m.Addr()), Advance: m.FastForward}
	})
}

func TestServer(t *testing.T) {
	server := redistest.Start(t)
	last := 0
	cachetest.Run(t, func(t *testing.T) cachetest.Harness {
		last++
		return cachetest.Harness{Store: open(t, fmt.Sprintf("%s?name=test-%d", server.URL(), last))}
	})
}

func fill(t *testing.T, s *redis.Store, key, value string, tags ...string) {
	t.Helper()
	_, lease, err := s.Get(t.Context(), key, tags...)
	if err == nil {
		err = s.Set(t.Context(), key, []byte(value), time.Hour, lease, tags...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func value(t *testing.T, s *redis.Store, key string, tags ...string) string {
	t.Helper()
	got, _, err := s.Get(t.Context(), key, tags...)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// Several processes share what is stored and what is invalidated. Systems with different names do not.
func TestShared(t *testing.T) {
	server := redistest.Start(t)
	a, b, other := open(t, server.URL()), open(t, server.URL()), open(t, server.URL()+"?name=other")
	fill(t, a, "k", "1", "x")
	if got := value(t, b, "k", "x"); got != "1" {
		t.Errorf("got %q", got)
	}
	if got := value(t, other, "k", "x"); got != "" {
		t.Errorf("another system got %q", got)
	}
	_, lease, _ := b.Get(t.Context(), "l", "x") // b reads while a invalidates
	if err := a.Invalidate(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	_ = b.Set(t.Context(), "l", []byte("old"), time.Hour, lease, "x")
	if got := value(t, b, "k", "x") + value(t, a, "l", "x"); got != "" {
		t.Errorf("got %q after the invalidation", got)
	}
}

// Every key expires: copies, tags with copies and tags that were only asked for.
func TestEveryKeyExpires(t *testing.T) {
	server := redistest.Start(t)
	s, c := open(t, server.URL()), client(t, server)
	fill(t, s, "k", "1", "x", "y")
	_ = value(t, s, "missing", "x", "z")
	_ = s.Invalidate(t.Context(), "y")
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 3 {
		t.Fatal(keys, err)
	}
	for _, key := range keys {
		left, err := c.PTTL(t.Context(), key).Result()
		if err != nil || left <= 0 || left > time.Hour {
			t.Errorf("%s expires in %s, %v", key, left, err)
		}
	}
}

// A server that is full evicts keys of its own choice, tags too. A copy without its tag does not count, also when the
// tag has a state again.
func TestEvictedTag(t *testing.T) {
	server := redistest.Start(t)
	s, c := open(t, server.URL()), client(t, server)
	fill(t, s, "k", "old", "x")
	if n := c.Del(t.Context(), "{ebb-cache}:t:x").Val(); n != 1 {
		t.Fatalf("%d tags removed", n)
	}
	for range 2 {
		if got := value(t, s, "k", "x"); got != "" {
			t.Errorf("got %q", got)
		}
	}
}

// A full server with an eviction policy stays within its memory, and the cache works on.
func TestFullServer(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru")
	s := open(t, server.URL())
	for i := range 300 {
		fill(t, s, fmt.Sprint(i), strings.Repeat("v", 100_000), "x")
	}
	fill(t, s, "last", "1", "x")
	if got := value(t, s, "last", "x"); got != "1" {
		t.Errorf("got %q", got)
	}
}

// While the server is away each call fails, and after an invalidation that has failed the copy ends with its time. A
// server that did not answer is not asked by Get and Set for a while, and always by Invalidate.
func TestServerAway(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.URL())
	fill(t, s, "k", "1", "x")
	_, lease, _ := s.Get(t.Context(), "l", "x")
	server.Stop()
	for range 2 {
		if got, lease, err := s.Get(t.Context(), "k", "x"); err == nil || got != nil || lease != "" {
			t.Errorf("got %q, %q, %v", got, lease, err)
		}
		if err := s.Set(t.Context(), "l", nil, time.Hour, lease, "x"); err == nil {
			t.Error("Set: no error")
		}
		if err := s.Invalidate(t.Context(), "x"); err == nil {
			t.Error("Invalidate: no error")
		}
	}
	server.Restart(t)
	for s.Invalidate(t.Context(), "x") != nil { // connections of before the restart fail once
		continue
	}
	redis.Ask(s)
	if got := value(t, s, "k", "x"); got != "" {
		t.Errorf("got %q", got)
	}
}

// A caller that has gone away does not make the server count as away.
func TestCancelled(t *testing.T) {
	s := open(t, redistest.Start(t).URL())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Get(ctx, "k", "x"); err == nil {
		t.Error("no error")
	}
	_ = value(t, s, "k", "x")
}

// An error about the URL does not tell the password.
func TestURL(t *testing.T) {
	for _, url := range []string{
		"localhost:6379", "http://:secret@h", "redis://:secret@h:x", "redis://:secret@h/a/b", "redis://:secret@h?name=",
		"redis://:secret@h?name=a:b", "redis://:secret@h?size=1", "redis://:secret@h?name=a&name=b", "redis://h?%zz",
	} {
		if _, err := redis.Open(url); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
