package docs

import (
	"path/filepath"
	"testing"
	"time"
)

// The example of docs/timemachine.md works as it is printed.
func TestTimeMachine(t *testing.T) {
	need(t, "bash", "curl", "sed")
	page, err := Read(filepath.Join(checkout, "docs", "timemachine.md"), "docs/timemachine.md",
		"## An order, step by step")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t, 3*time.Minute, t.TempDir(), nil)
	for _, b := range page.Blocks {
		if err := s.Block(page, b); err != nil {
			t.Fatal(err)
		}
	}
}
