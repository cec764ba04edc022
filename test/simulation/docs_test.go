package simulation_test

import (
	"encoding/json"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/test/docs"
)

// The Go code that docs/simulation.md prints is a test that compiles and passes.
func TestExampleOfDocs(t *testing.T) {
	page, err := docs.Read("../../docs/simulation.md", "docs/simulation.md", "")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, b := range page.Blocks {
		if b.Lang == "go" {
			blocks = append(blocks, b.Text)
		}
	}
	if len(blocks) != 1 {
		t.Fatalf("the page has %d blocks of Go, want 1", len(blocks))
	}
	// The overlay puts the block into a package of this module that is not on disk.
	dir := t.TempDir()
	source, overlay := filepath.Join(dir, "loyalty_test.go"), filepath.Join(dir, "overlay.json")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(here, "loyalty", "loyalty_test.go"): source,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{source: []byte(blocks[0]), overlay: replace} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if formatted, err := format.Source([]byte(blocks[0])); err != nil || string(formatted) != blocks[0] {
		t.Errorf("the example is not formatted as gofmt does: %v", err)
	}
	binary := filepath.Join(dir, "loyalty.test")
	// Vet would change into the package's folder.
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet", "off", "-overlay", overlay, "-o", binary,
		"./loyalty")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the example does not compile: %v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), binary, "-test.v")
	run.Dir = dir
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "200 of 200 seeds, 0 failed") {
		t.Fatalf("the example fails: %v\n%s", err, out)
	}
}
