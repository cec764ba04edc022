package openapi_test

import (
	"flag"
	"os"
	"os/exec"
	"testing"
)

var shots = flag.String("shots", "", "folder for pictures of the page /docs")

// The page /docs is used in a browser, wide and as a phone: a person signs in, finds an operation and sends it. The
// page asks no other server for anything, and fits the screen.
func TestDocs(t *testing.T) {
	t.Parallel()
	npx, err := exec.LookPath("npx")
	if err != nil {
		t.Skip("this needs Node.js 20 or later: install nodejs")
	}
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("this needs a browser: install chromium")
	}
	with := func(args ...string) *exec.Cmd {
		args = append([]string{"--yes", "--package", "playwright-core@1.65.1", "--"}, args...)
		return exec.CommandContext(t.Context(), npx, args...)
	}
	if out, err := with("playwright-core", "--version").CombinedOutput(); err != nil {
		t.Skipf("npx cannot install the driver of the browser: %v\n%s", err, out)
	}
	s := start(t)
	run := with("node", "testdata/docs.mjs")
	run.Env = append(os.Environ(), "SHOP="+s.url, "ADMIN_EMAIL="+adminEmail, "ADMIN_PASSWORD="+adminPassword,
		"CHROMIUM="+browser, "SHOTS="+*shots)
	if out, err := run.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
