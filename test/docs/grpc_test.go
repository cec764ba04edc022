package docs

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The examples of docs/grpc.md work as they are printed; those of grpcurl where it is installed.
func TestGRPC(t *testing.T) {
	need(t, "bash", "curl", "sed")
	page, err := Read(filepath.Join(checkout, "docs", "grpc.md"), "docs/grpc.md", "")
	if err != nil {
		t.Fatal(err)
	}
	s, p := serve(t, 5*time.Minute, t.TempDir(), nil)
	run := func(t *testing.T, tool string) {
		for _, b := range page.Blocks {
			if b.Lang != "sh" || !strings.HasPrefix(b.Text, tool+" ") {
				continue
			}
			if err := s.Block(page, b); err != nil {
				t.Fatal(fmt.Errorf("%w\nthe process printed:\n%s", err, p.Output()))
			}
		}
	}
	run(t, "curl")
	t.Run("grpcurl", func(t *testing.T) {
		if _, err := exec.LookPath("grpcurl"); err != nil {
			t.Skip("grpcurl is not installed: go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4")
		}
		run(t, "grpcurl")
	})
}
