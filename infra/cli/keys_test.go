package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/auth"
)

// users accepts the keys that generate prints. The keys that public derives from them verify their signatures and hold
// nothing private.
func TestKeys(t *testing.T) {
	code, private, errs := ebb(t.Context(), t.TempDir(), nil, "keys", "generate")
	if code != 0 {
		t.Fatal(errs)
	}
	ring, err := auth.ParseKeyRing([]byte(private.String()))
	if err != nil {
		t.Fatal(err)
	}
	p, out, errs := process(t.TempDir(), nil)
	p.In = strings.NewReader(private.String())
	if code := Run(t.Context(), empty(), p, []string{"keys", "public"}); code != 0 {
		t.Fatal(errs)
	}
	want, err := json.Marshal(ring.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(out.String()); got != string(want) {
		t.Errorf("got %s, want %s", got, want)
	}
	p.In = strings.NewReader(out.String())
	if code := Run(t.Context(), empty(), p, []string{"keys", "public"}); code != 2 {
		t.Errorf("a public set is taken for a private one: %d %s", code, errs)
	}
}
