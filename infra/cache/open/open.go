// Package open makes the cache that a URL names.
package open

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/cache"
	"github.com/ebb-dev/ebb/infra/cache/memory"
	"github.com/ebb-dev/ebb/infra/cache/redis"
)

// sizes of caches in memory, in MiB.
const minSize, maxSize = 1, 64 << 10

// Open returns the cache of a URL: memory: or memory:?size=MIB, or
// redis://[USER:PASSWORD@]HOST:PORT[/DB][?name=PREFIX], rediss:// with TLS, or unix://PATH for a socket. It does not
// connect. The error has no part of the URL, which may have a password.
func Open(url string, now func() time.Time) (cache.Store, error) {
	scheme, rest, ok := strings.Cut(url, ":")
	switch {
	case scheme == "memory" && ok:
		size, err := sizeOf(rest)
		if err != nil {
			return nil, err
		}
		return memory.New(size, now), nil
	case scheme == "redis" || scheme == "rediss" || scheme == "unix":
		s, err := redis.Open(url)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, errors.New("unknown scheme (use memory:, redis://, rediss:// or unix://)")
}

// sizeOf returns the bytes of a cache in memory by what follows its scheme.
func sizeOf(rest string) (int, error) {
	if rest == "" {
		return memory.DefaultSize, nil
	}
	text, ok := strings.CutPrefix(rest, "?size=")
	mib, err := strconv.Atoi(text)
	if !ok || err != nil || mib < minSize || mib > maxSize {
		return 0, fmt.Errorf("invalid size: want memory:?size=MIB with %d to %d MiB", minSize, maxSize)
	}
	return mib << 20, nil
}
