package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// startBroker runs ebb broker until the test ends, and returns its address.
func startBroker(t *testing.T, vars map[string]string, args ...string) string {
	t.Helper()
	ctx, interrupt := context.WithCancel(context.WithoutCancel(t.Context()))
	p, out, errs := process(t.TempDir(), vars)
	ended := make(chan int, 1)
	go func() { ended <- Run(ctx, empty(), p, append([]string{"broker", "--addr", "127.0.0.1:0"}, args...)) }()
	t.Cleanup(func() {
		interrupt()
		select {
		case code := <-ended:
			if code != exitOK {
				t.Errorf("ebb broker ends with %d: %s", code, errs)
			}
		case <-time.After(drainLimit):
			t.Error("ebb broker does not end")
		}
	})
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if found := regexp.MustCompile(`at (http://\S+),`).FindStringSubmatch(out.String()); found != nil {
			return found[1]
		}
	}
	t.Fatalf("ebb broker does not start: %s%s", out, errs)
	return ""
}

// The stand-alone broker conforms, in memory and on disk.
func TestTheBrokerConforms(t *testing.T) {
	for name, args := range map[string][]string{"in memory": {"--memory"}, "on disk": {"--data", t.TempDir()}} {
		url := startBroker(t, nil, args...)
		code, out, errs := ebb(t.Context(), "", nil, "conformance", url, "--only", "^(ingress|reply|dead)-", "--json")
		var report struct{ Cases, Held int }
		if err := json.Unmarshal([]byte(out.String()), &report); err != nil || code != exitOK || report.Cases == 0 ||
			report.Held != report.Cases {
			t.Errorf("%s: %d, %v, %s%s", name, code, err, out, errs)
		}
		code, out, errs = ebb(t.Context(), "", nil, "conformance", url, "--only", "^ingress-binary$", "-o", "yaml")
		if code != exitOK || !strings.Contains(out.String(), "\nheld: 1\n") {
			t.Errorf("%s: in YAML: %d, %s%s", name, code, out, errs)
		}
	}
}

// With a token the broker refuses requests without it, and the suite sends it.
func TestBrokerRequiresItsToken(t *testing.T) {
	vars := map[string]string{brokerToken: "sesame-sesame-sesame"}
	url := startBroker(t, vars)
	if code, out, _ := ebb(t.Context(), "", nil, "conformance", url, "--only", "ingress-binary"); code != exitFailed ||
		!strings.Contains(out.String(), "401") {
		t.Errorf("without: %d, %s", code, out)
	}
	if code, out, errs := ebb(t.Context(), "", vars, "conformance", url, "--only", "ingress-binary",
		"--verbose"); code != exitOK ||
		!strings.Contains(errs.String(), "ok    ingress-binary") {
		t.Errorf("with: %d, %s%s", code, out, errs)
	}
}

// The command exits with 1 for a broker that does not conform, and prints an error when no broker answers.
func TestConformanceFails(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if code, out, _ := ebb(t.Context(), "", nil, "conformance", s.URL, "--only", "ingress-methods"); code != exitFailed ||
		!strings.Contains(out.String(), "1 failed") {
		t.Errorf("got %d, %s", code, out)
	}
	s.Close()
	if code, _, errs := ebb(t.Context(), "", nil, "conformance", s.URL); code != exitFailed ||
		!strings.Contains(errs.String(), "no broker answers") {
		t.Errorf("got %d, %s", code, errs)
	}
}

// Both commands refuse invalid arguments, and a broker without a token off loopback.
func TestBrokerAndConformanceRefuse(t *testing.T) {
	for name, test := range map[string]struct {
		vars map[string]string
		args []string
		code int
		want string
	}{
		"every address":    {nil, []string{"broker", "--addr", ":8081"}, 2, brokerToken},
		"another address":  {nil, []string{"broker", "--addr", "192.0.2.1:8081"}, 2, brokerToken},
		"a short token":    {map[string]string{brokerToken: "short"}, []string{"broker"}, 2, "16 characters"},
		"no port":          {nil, []string{"broker", "--addr", "127.0.0.1"}, 2, "HOST:PORT"},
		"both":             {nil, []string{"broker", "--memory", "--data", "x"}, 2, "exclude"},
		"a tiny limit":     {nil, []string{"broker", "--limit", "1"}, 2, "--limit"},
		"a word":           {nil, []string{"broker", "now"}, 2, `"now"`},
		"no URL":           {nil, []string{"conformance"}, 2, "one URL"},
		"no HTTP":          {nil, []string{"conformance", "amqp://x"}, 2, "http://host"},
		"a bad expression": {nil, []string{"conformance", "http://x", "--only", "("}, 2, "--only"},
		"no such case":     {nil, []string{"conformance", "http://x", "--only", "^xyzzy$"}, 2, "no case"},
		"no such feature":  {nil, []string{"conformance", "http://x", "--without", "wings"}, 2, `"wings"`},
		"no such driver": {nil, []string{"conformance", "http://x", "--triggers", "magic"}, 2,
			"subscriptions or knative"},
		"no kubeconfig": {map[string]string{"KUBECONFIG": "/nowhere/config"},
			[]string{"conformance", "http://x", "--triggers", "knative"}, 2, "/nowhere/config"},
		"the list":       {nil, []string{"conformance", "--list"}, 0, "cesql-left-to-right"},
		"its header":     {nil, []string{"conformance", "--list", "--only", "^batch"}, 0, "NEEDS"},
		"a list in YAML": {nil, []string{"conformance", "--list", "--only", "^batch", "-o", "yaml"}, 0, "needs:\n  - batch"},
		"a list in JSON": {nil, []string{"conformance", "--list", "--only", "^batch", "--json"}, 0, `"needs":["batch"]`},
		"a format":       {nil, []string{"conformance", "--list", "-o", "xml"}, 2, "table, wide, json, yaml"},
	} {
		code, out, errs := ebb(t.Context(), "", test.vars, test.args...)
		if both := out.String() + errs.String(); code != test.code || !strings.Contains(both, test.want) {
			t.Errorf("%s: got %d, %q; want %d, %q", name, code, both, test.code, test.want)
		}
	}
}
