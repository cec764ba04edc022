package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/system"
)

type bellSettings struct {
	Every time.Duration `envconfig:"EBB_BELL_EVERY" default:"10m" reload:"true" desc:"how often it rings"`
	Key   string        `envconfig:"EBB_BELL_KEY" secret:"true"`
}

// bell is a product with one function that has settings.
func bell() system.System {
	return system.System{Name: "ebb", Functions: []system.Definition{{Name: "bell",
		New: func(env function.Env) (*function.Function, error) {
			f := function.New("bell", env)
			_, err := function.Configure[bellSettings](f)
			return f, err
		}}}}
}

// The settings of a function are shown with their origin; what is wrong in the file is named with its line.
func TestConfigCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.yaml")
	run := func(text string, vars map[string]string, args ...string) (int, string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, out, errs := process(t.TempDir(), vars)
		code := Run(t.Context(), bell(), p, append([]string{"config"}, args...))
		return code, out.String() + errs.String()
	}
	const good = "EBB_LOG_LEVEL: debug\nfunctions:\n  bell:\n    EBB_BELL_KEY: topsecret\n"
	code, got := run(good, map[string]string{"EBB_BELL_EVERY": "1m"}, "bell", "--config", path)
	for _, want := range []string{
		"EBB_BELL_EVERY 1m environment", "EBB_BELL_KEY *** shop.yaml:4", "EBB_LOG_LEVEL debug shop.yaml:1",
		"EBB_ISSUER ebb default",
	} {
		if code != 0 || !strings.Contains(strings.Join(strings.Fields(got), " "), want) {
			t.Errorf("%d, no %q in %s", code, want, got)
		}
	}
	code, got = run(good, map[string]string{"EBB_CONFIG": path}, "bell", "-o", "json")
	if code != 0 || !strings.Contains(got, `{"variable":"EBB_BELL_EVERY","value":"10m","origin":"default","reload":true`) {
		t.Errorf("%d, %s", code, got)
	}
	if strings.Contains(got, "topsecret") {
		t.Errorf("the secret is shown: %s", got)
	}
	for text, want := range map[string]string{
		"\nEBB_BELL_EVRY: 1m\n": `shop.yaml:2: EBB_BELL_EVRY: unknown field (did you mean "EBB_BELL_EVERY"?)`,
		"EBB_BELL_EVERY: 1\n":   "shop.yaml:1: EBB_BELL_EVERY: want a duration",
	} {
		if code, got := run(text, nil, "bell", "--config", path); code != 2 || !strings.Contains(got, want) {
			t.Errorf("%d, %s", code, got)
		}
	}
	if code, got := run("", nil, "bel"); code != 2 || !strings.Contains(got, `did you mean "bell"?`) {
		t.Errorf("%d, %s", code, got)
	}
}

// The settings of a function in a running system are those that it tells; a change that waits is marked.
func TestConfigOfARunningSystem(t *testing.T) {
	f := newFake(t)
	f.mux = http.NewServeMux()
	f.answer("POST /api/sessions", 201, `{"access_token":"sesame"}`)
	f.answer("GET /openapi.json", 200, `{"paths":{"/api/settings/orders":{"get":{"operationId":"a"}},
		"/api/settings/gateway":{"get":{"operationId":"b"}}}}`)
	f.answer("GET /api/settings/orders", 200, `{"refused":"shop.yaml:3: x","items":[
		{"variable":"EBB_STORE","value":"memory:","origin":"shop.yaml:1","reload":false,"pending":true},
		{"variable":"EBB_LOG_LEVEL","value":"info","origin":"default","reload":true,"description":"how much"}]}`)
	f.steps(t, map[string]step{
		"the table": {
			[]string{"config", "orders", "--url", f.URL}, 0, "shop.yaml:1 (has changed; restart needed)",
			"not taken over, and the settings from before stay: shop.yaml:3: x", "GET /api/settings/orders Bearer sesame",
		},
		"as JSON": {
			[]string{"config", "orders", "--url", f.URL, "-o", "json"}, 0,
			`{"variable":"EBB_STORE","value":"memory:","origin":"shop.yaml:1","reload":false,"pending":true}`, "",
			"GET /api/settings/orders",
		},
		"another":     {[]string{"config", "order", "--url", f.URL}, 2, "", `did you mean "orders"?`, ""},
		"with a file": {[]string{"config", "orders", "--url", f.URL, "--config", "x"}, 2, "", "--config is for", ""},
	})
}

// The schema has every setting, with its type, for all functions and for each.
func TestConfigSchema(t *testing.T) {
	declared, err := bell().Declare()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]struct {
			Type       any
			WriteOnly  bool
			Properties map[string]struct{ Properties map[string]struct{ Type any } }
		}
		AdditionalProperties *bool
	}
	if err := json.Unmarshal(configSchema(bell(), declared), &schema); err != nil {
		t.Fatal(err)
	}
	own := schema.Properties["functions"].Properties["bell"].Properties
	all := schema.Properties
	if own["EBB_BELL_EVERY"].Type != "string" || own["EBB_STORE"].Type == nil || !all["EBB_BELL_KEY"].WriteOnly ||
		all["EBB_SENDERS"].Type != "array" || schema.AdditionalProperties == nil || *schema.AdditionalProperties {
		t.Errorf("got %+v", schema)
	}
}
