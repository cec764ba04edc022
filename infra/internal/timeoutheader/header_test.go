package timeoutheader_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/internal/timeoutheader"
)

// What is set is read back in whole milliseconds, and never becomes longer than it was.
func TestSet(t *testing.T) {
	h := http.Header{}
	for _, c := range []struct{ left, want time.Duration }{
		{100 * time.Hour, 24 * time.Hour}, {1500 * time.Millisecond, 1500 * time.Millisecond},
		{2 * time.Second, 1500 * time.Millisecond}, {time.Microsecond, time.Millisecond},
	} {
		timeoutheader.Set(h, c.left)
		if got, ok := timeoutheader.Get(h); !ok || got != c.want {
			t.Errorf("set %v: got %v, %v, want %v", c.left, got, ok, c.want)
		}
	}
	h = http.Header{}
	if timeoutheader.Set(h, -time.Second); h.Get("ebb-timeout") != "1" {
		t.Errorf("a time that is over: %v", h)
	}
}

func TestGet(t *testing.T) {
	for _, text := range []string{"", "0", "-1", "1.5", "1s", "+1", "99999999", "999999999999999999999"} {
		if got, ok := timeoutheader.Get(http.Header{timeoutheader.Name: {text}}); ok {
			t.Errorf("%q: got %v", text, got)
		}
	}
	if _, ok := timeoutheader.Get(http.Header{timeoutheader.Name: {"1", "2"}}); ok {
		t.Error("two values are accepted")
	}
}
