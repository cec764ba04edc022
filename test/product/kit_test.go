package product_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Without the shop, which shop.txt lists, the tree builds, and the functions that any product takes pass their tests:
// what the README tells a team to do that keeps those only.
func TestKitWithoutShop(t *testing.T) {
	dir := t.TempDir()
	copyTree(t, root(t), dir)
	run(t, dir, "git", "init", "--quiet")
	run(t, dir, "git", "add", "--all") // as in a clone, git still lists what is deleted
	list, err := os.ReadFile("shop.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range strings.Fields(string(list)) {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) == 0 {
			t.Errorf("shop.txt lists %s, which does not exist: %v", pattern, err)
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(t, dir, "go", "build", "./...")
	run(t, dir, "go", "vet", "./...")
	run(t, dir, "go", "run", "./cmd/ebb", "generate")
	run(t, dir, "go", "test", "./functions/...", "./events/...", "./test", ".")
	for _, document := range []string{"api/openapi.json", "api/asyncapi.json", "terraform/manifest.json"} {
		for _, word := range []string{"/api/orders", "/api/products", "dev.ebb.orders.", "dev.ebb.payments."} {
			if strings.Contains(read(t, dir, document), word) {
				t.Errorf("%s still has %s", document, word)
			}
		}
	}
}

// copyTree copies the files that git knows or would add.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	list, err := exec.Command("git", "-C", from, "ls-files", "-co", "--exclude-standard", "-z").Output()
	if err != nil {
		t.Fatalf("ask git for the files: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(from, name))
		if os.IsNotExist(err) || err == nil && !info.Mode().IsRegular() {
			continue // deleted and not committed yet; or a link, of Terraform's environments
		}
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}
