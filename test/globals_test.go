package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// globals are assignments to the global state of libraries, and the functions of those that we import which do that.
var globals = regexp.MustCompile(`\b(otel|redis|slog|log|huma|propagation|http)\.` +
	`(Set[A-Z]\w*|New(Error|ErrorWithContext) =|Default\w* =|DefaultTransport\.\w+ =|DefaultServeMux\.)`)

// Packages of the kit change no library's global state: a program that imports them for one thing keeps its own
// settings. What there is once per process the main functions set, in infra/internal/processwide.
func TestNoGlobalState(t *testing.T) {
	list, err := exec.Command("git", "-C", "..", "ls-files", "-co", "--exclude-standard", "infra/*.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	set := 0
	for name := range strings.FieldsSeq(string(list)) {
		if strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/testdata/") {
			continue
		}
		source, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		if err != nil {
			continue // deleted and not committed yet
		}
		for _, call := range globals.FindAllString(string(source), -1) {
			if set++; name != "infra/internal/processwide/processwide.go" {
				t.Errorf("%s changes what others may use: %s", name, call)
			}
		}
	}
	if set == 0 {
		t.Error("found nothing, not even what infra/internal/processwide sets")
	}
}
