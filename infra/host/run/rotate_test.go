package run

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/config"
)

// The arguments of the image's program are checked before anything is called.
func TestCommand(t *testing.T) {
	pod := config.Map(map[string]string{"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"})
	for name, c := range map[string]struct {
		args   []string
		lookup config.Lookup
		want   string
		usage  bool
	}{
		"another one":     {[]string{"orders"}, pod, `unknown argument "orders"`, true},
		"no Secret":       {[]string{"rotate-keys"}, pod, "--secret NAME", true},
		"too many":        {[]string{"rotate-keys", "--secret", "a", "b"}, pod, "no other arguments", true},
		"an unknown flag": {[]string{"rotate-keys", "--file", "a"}, pod, "file", true},
		"a negative time": {[]string{"rotate-keys", "--secret", "a", "--in", "-1h"}, pod, "must not be negative", true},
		"no cluster":      {[]string{"rotate-keys", "--secret", "a"}, config.Map(nil), "KUBERNETES_SERVICE_HOST", true},
		"no account": {
			[]string{"rotate-keys", "--secret", "a", "--account", t.TempDir()}, pod, "no service account", false,
		},
	} {
		err := command(t.Context(), c.args, c.lookup, io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &usageError{}) != c.usage {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
