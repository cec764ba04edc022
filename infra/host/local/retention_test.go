package local

import (
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/telemetry"
)

// The log's retention is that of the configuration.
func TestLogRetention(t *testing.T) {
	watch, err := telemetry.Start(t.Context(), telemetry.Config{Service: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []time.Duration{0, 36 * time.Hour, -1} {
		if got := (&Config{LogRetention: want, Telemetry: watch}).broker().Retention; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
