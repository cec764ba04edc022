package docs

import (
	"path/filepath"
	"testing"
	"time"
)

// The README's tour works as it is printed: the commands succeed, and each answer holds what the comment behind it
// says.
func TestTour(t *testing.T) {
	need(t, "bash", "curl", "sed")
	page, err := Read(filepath.Join(checkout, "README.md"), "README.md", "## A five-minute tour")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t, 3*time.Minute, t.TempDir(), nil)
	promises := 0
	for _, b := range page.Blocks {
		for _, c := range b.Commands() {
			promises += len(c.Wants)
		}
		if err := s.Block(page, b); err != nil {
			t.Fatal(err)
		}
	}
	if promises < 5 {
		t.Errorf("the tour promises %d things only", promises)
	}
}
