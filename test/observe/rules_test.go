package observe_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Prometheus takes the rules that are derived from the functions, and their alerts tell what observe/slo.test.yaml
// says.
func TestRules(t *testing.T) {
	need(t, "promtool", "install prometheus")
	dir := filepath.Join(checkout, "observe")
	for _, args := range [][]string{
		{"check", "rules", "--lint-fatal", "slo.rules.yaml"}, {"test", "rules", "slo.test.yaml"},
	} {
		command := exec.Command("promtool", args...)
		command.Dir = dir
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%.8000s", args, err, out)
		}
	}
}
