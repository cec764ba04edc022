package run_test

import (
	"testing"

	"github.com/ebb-dev/ebb/infra/host/run"
)

// A function whose tokens come from another issuer needs no keys of its own.
func TestAnotherIssuer(t *testing.T) {
	f := run.New(counter())
	err := f.Start(t.Context(), map[string]string{
		"FUNCTION": "counter", "EBB_OIDC_ISSUER": "https://login.example.com", "EBB_OIDC_AUDIENCE": "counter",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
