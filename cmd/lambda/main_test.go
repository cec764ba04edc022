package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/auth/authtest"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/host/lambdarun"
	"github.com/ebb-dev/ebb/infra/personal"
)

// variables are those that every function has on Lambda.
func variables(t *testing.T, name string) map[string]string {
	t.Helper()
	private, public := authtest.Keys(t)
	return map[string]string{
		"FUNCTION": name, "EBB_STORE": "memory:", "K_SINK": "http://broker.example/shop/default",
		"EBB_VERIFICATION_KEYS": public, "EBB_SIGNING_KEYS": private, "EBB_LOG_LEVEL": "error",
		personal.Variable: personal.NewKey(),
	}
}

// Every function can be hosted and answers a request of an HTTP API.
func TestEveryFunction(t *testing.T) {
	for _, d := range functions.System().Functions {
		t.Run(d.Name, func(t *testing.T) {
			h, err := lambdarun.New(functions.System(), config.Map(variables(t, d.Name)), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			const request = `{"version":"2.0","rawPath":"/nothing/here","requestContext":{"http":{"method":"GET"}}}`
			out, err := h.Invoke(t.Context(), json.RawMessage(request))
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(out)
			if err != nil || !strings.Contains(string(text), `"statusCode":404`) ||
				!strings.Contains(string(text), "application/problem+json") {
				t.Errorf("got %s, %v", text, err)
			}
			if err := h.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Settings that cannot be used are named, all at once and without secrets.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		change map[string]string
		want   []string
	}{
		"nothing named":       {map[string]string{"FUNCTION": ""}, []string{"FUNCTION is set but empty"}},
		"a name that is none": {map[string]string{"FUNCTION": "ordres"}, []string{`FUNCTION is "ordres"`}},
		"several missing": {
			map[string]string{"K_SINK": "", "EBB_STORE": "", "EBB_VERIFICATION_KEYS": ""},
			[]string{"K_SINK is required", "EBB_STORE is required", "EBB_VERIFICATION_KEYS is required"},
		},
		"a store of elsewhere": {
			map[string]string{"EBB_STORE": "sqlite:hunter2.db"}, []string{"EBB_STORE has an unknown scheme"},
		},
		"a database that the package lacks": {
			map[string]string{"EBB_STORE": "postgres://u:hunter2@h/d"},
			[]string{"EBB_STORE is of PostgreSQL, which this program lacks"},
		},
		"a table with a typo": {
			map[string]string{"EBB_STORE": "dynamodb:hunter2"}, []string{"EBB_STORE invalid address of a DynamoDB table"},
		},
		"a topic with a typo": {
			map[string]string{"EBB_BROKER": "sns:hunter2", "EBB_DEAD_LETTERS": "sqs:hunter2"},
			[]string{"EBB_BROKER has no ARN of a topic", "EBB_DEAD_LETTERS has an unknown scheme"},
		},
		"keys that are none":  {map[string]string{"EBB_VERIFICATION_KEYS": "hunter2"}, []string{"EBB_VERIFICATION_KEYS"}},
		"a sink that is none": {map[string]string{"K_SINK": "broker"}, []string{"K_SINK"}},
	} {
		t.Run(name, func(t *testing.T) {
			vars := variables(t, "users")
			for k, v := range c.change {
				vars[k] = v
			}
			_, err := lambdarun.New(functions.System(), config.Map(vars), io.Discard)
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
		})
	}
}
