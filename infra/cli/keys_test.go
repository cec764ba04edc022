package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// A rotation by schedule adds a key that signs later, once, to a file that stays the user's own, or from standard input
// to standard output.
func TestKeysRotate(t *testing.T) {
	dir := t.TempDir()
	_, private, _ := ebb(t.Context(), dir, nil, "keys", "generate")
	path := filepath.Join(dir, "private.json")
	if err := os.WriteFile(path, []byte(private.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var first *auth.KeyRing
	for range 2 {
		code, out, errs := ebb(t.Context(), dir, nil, "keys", "rotate", "--file", path, "--in", "24h")
		if code != 0 || !strings.Contains(out.String(), "The newest key signs from") {
			t.Fatalf("got %d %s %s", code, out, errs)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ring, err := auth.ParseKeyRing(text)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(ring.Public().Keys); n != 2 || time.Until(ring.Next()) < 23*time.Hour {
			t.Errorf("there are %d keys, the next signs at %v", n, ring.Next())
		}
		if first == nil {
			first = ring
		} else if first.String() != ring.String() {
			t.Error("the second call changed the keys")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v %v", info.Mode(), err)
	}
	p, out, errs := process(dir, nil)
	p.In = strings.NewReader(private.String())
	if code := Run(t.Context(), empty(), p, []string{"keys", "rotate", "--file", "-"}); code != 0 {
		t.Fatal(errs)
	}
	if ring, err := auth.ParseKeyRing([]byte(out.String())); err != nil || len(ring.Public().Keys) != 2 {
		t.Errorf("got %v %v", ring, err)
	}
	for _, args := range [][]string{{"--file", filepath.Join(dir, "none.json")}, {"--in", "-1s"}} {
		if code, _, errs := ebb(t.Context(), dir, nil, append([]string{"keys", "rotate"}, args...)...); code == 0 ||
			strings.Contains(errs.String(), `"d"`) {
			t.Errorf("%v: got %d %s", args, code, errs)
		}
	}
}
