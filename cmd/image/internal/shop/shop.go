// Package shop makes a small Go module in a git repository for tests, which is always the same.
package shop

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// Committed is the time of the commit, in git's format.
const Committed = "2026-11-24T10:00:00Z"

const main = `// Command function is a stand-in.
package main

import (
	"fmt"
	"os"

	"github.com/google/licensecheck"
)

func main() {
	fmt.Println(licensecheck.Scan([]byte(os.Args[0])).Percent)
}
`

// Module makes the module example.com/shop with a command, ./cmd/function, that has a dependency, commits it, and
// returns its folder.
func Module(t *testing.T) string {
	t.Helper()
	file, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	tool, dir := filepath.Dir(string(file)), t.TempDir()
	// The dependency is one of this tool's, so that nothing is downloaded.
	mod := regexp.MustCompile(`(?m)^module .*$`).ReplaceAll(read(t, filepath.Join(tool, "go.mod")),
		[]byte("module example.com/shop"))
	Write(t, filepath.Join(dir, "go.mod"), string(mod))
	Write(t, filepath.Join(dir, "go.sum"), string(read(t, filepath.Join(tool, "go.sum"))))
	Write(t, filepath.Join(dir, "LICENSE"), string(read(t, filepath.Join(tool, "..", "..", "LICENSE"))))
	Write(t, filepath.Join(dir, "cmd", "function", "main.go"), main)
	Write(t, filepath.Join(dir, "library", "library.go"), "// Package library is no command.\npackage library\n")
	Git(t, dir, "init", "--quiet")
	Git(t, dir, "add", ".")
	Git(t, dir, "commit", "--quiet", "--message", "shop")
	return dir
}

// Git runs git with a fixed author and time.
func Git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"},
		args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ada",
		"GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada",
		"GIT_COMMITTER_EMAIL=ada@example.com", "GIT_AUTHOR_DATE="+Committed, "GIT_COMMITTER_DATE="+Committed)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// Write writes a file and the folders above it.
func Write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
