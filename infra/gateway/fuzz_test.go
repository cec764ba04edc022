package gateway

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzForwarded reads the addresses of clients that header fields tell of. It does not panic, gives no more addresses
// than there are elements, and reads what a proxy writes behind a stranger's text as the last one.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{
		"", "1.2.3.4, ::1", "for=1.2.3.4;proto=https", `for="[2001:db8::1]:80", for=_x`, `for="a,b`, `"\`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, read := range map[string]func(http.Header) int{
			"X-Forwarded-For": func(h http.Header) int { return len(forwardedFor(h)) },
			"Forwarded":       func(h http.Header) int { return len(forwardedHops(h)) },
		} {
			if n := read(http.Header{name: {text}}); n > strings.Count(text, ",")+1 {
				t.Errorf("%s: %q has %d addresses", name, text, n)
			}
		}
		all := forwardedHops(http.Header{"Forwarded": {text, "for=203.0.113.9"}})
		if last := all[len(all)-1].String(); last != "203.0.113.9" {
			t.Errorf("behind %q the last is %s", text, last)
		}
	})
}
