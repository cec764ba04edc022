package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

// checkout is the kit that the products are built on.
const checkout = "../.."

// The tutorials work as they are printed: their code compiles and passes its tests, and their commands print what the
// comments behind them say.
func TestTutorials(t *testing.T) {
	need(t, "bash", "curl", "sed", "make")
	ebb, err := shop.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first-function", "first-saga", "what-can-go-wrong", "deploying"} {
		t.Run(name, func(t *testing.T) {
			pages := []Page{read(t, "docs/"+name+".md", "")}
			if name == "first-function" { // of which that page shows a test
				pages = append(pages, read(t, "docs/testing.md", "## Your function under faults"))
			}
			tutorial(t, pages, ebb)
		})
	}
}

// read reads a page of the checkout, or what is below a heading.
func read(t *testing.T, name, heading string) Page {
	t.Helper()
	page, err := Read(filepath.Join(checkout, name), name, heading)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the page needs %s: install it", tool)
		}
	}
}

// tutorial does what the pages say, one after the other.
func tutorial(t *testing.T, pages []Page, ebb string) {
	// Long, because the first program compiles the kit where the build cache is cold.
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	kit, err := filepath.Abs(checkout)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := shop.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	// The packages of the kit are compiled with the same flags for all products, so the build cache has them.
	s, err := NewSession(ctx, t.TempDir(), "GOFLAGS=-trimpath", "EBB_ADDR="+addr, "MAKEFLAGS=", "MAKELEVEL=")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.Replace = strings.NewReplacer(
		"127.0.0.1:8080", addr,
		"ebb new product helpdesk --module", ebb+" new product helpdesk --kit "+kit+" --module",
	)
	for _, page := range pages {
		for _, b := range page.Blocks {
			// A subtest for each block, so that one that is skipped is seen and counted.
			done := t.Run(fmt.Sprintf("%s line %d", filepath.Base(page.Name), b.Line), func(t *testing.T) {
				if strings.Contains(b.Text, "make terraform") {
					needTerraform(t)
				}
				if err := s.Block(page, b); err != nil {
					t.Fatal(err)
				}
			})
			if !done {
				return // what follows builds on it
			}
		}
	}
}

// needTerraform skips a test where Terraform's plans cannot be made.
func needTerraform(t *testing.T) {
	t.Helper()
	need(t, "terraform")
	if _, err := os.Stat(filepath.Join(checkout, "bin/terraform")); err != nil {
		t.Skip("the page needs Terraform's provider: run make tools")
	}
}
