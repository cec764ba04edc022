package open_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/cache/open"
)

// A URL names a driver with its size or its server, and an error has no part of it.
func TestOpen(t *testing.T) {
	for _, url := range []string{"memory:", "memory:?size=1", "redis://h", "rediss://u:p@h:1/2?name=a", "unix:///s"} {
		s, err := open.Open(url, time.Now)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		_ = s.Close()
	}
	for _, url := range []string{
		"", "memory", "memory://", "memory:?size=0", "memory:?size=1e9", "memory:1", "http://:secret@h", "redis:secret",
		"redis://:secret@h?size=1", "secret", "memory:?size=secret",
	} {
		if s, err := open.Open(url, time.Now); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, %v", url, s, err)
		}
	}
}
