package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The console reads the latest lines of some correlations from all files of the log. A line that only names one, a line
// that is cut off, and one that is too long are left out.
func TestCorrelatedLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), logName)
	logs := correlatedLogs(path)
	if got, err := logs(t.Context(), "a"); err != nil || len(got) != 0 {
		t.Errorf("without a log: got %v, %v", got, err)
	}
	line := func(n int, correlation string) string {
		return fmt.Sprintf(`{"time":"2026-01-02T15:04:05.%09dZ","level":"WARN","msg":"line %d","function":"orders","n":%d,`+
			`"correlation_id":%q}`+"\n", n, n, n, correlation)
	}
	var old, now strings.Builder
	for i := range 300 {
		old.WriteString(line(i, "a"))
	}
	now.WriteString(line(300, "b") + `{"msg":"about \"a\"","of":"a","correlation_id":"c"}` + "\n")
	now.WriteString(`{"msg":"` + strings.Repeat("x", 200_000) + `","correlation_id":"a"}` + "\n")
	now.WriteString(line(301, "a") + `{"msg":"cut","correlation_id":"a"`)
	for name, text := range map[string]string{oldLog(path, 1): old.String(), path: now.String()} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := logs(t.Context(), "a", "b")
	if err != nil || len(got) != maxCorrelated {
		t.Fatalf("got %d lines, %v", len(got), err)
	}
	if first, last := got[0], got[len(got)-1]; first.Message != "line 102" || last.Message != "line 301" ||
		last.Function != "orders" || last.Attributes != "n=301" || last.Level.String() != "WARN" ||
		got[len(got)-2].Message != "line 300" {
		t.Errorf("got %+v … %+v", first, last)
	}
}
