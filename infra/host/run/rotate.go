package run

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/host/knative"
)

// usageError is an error in the arguments.
type usageError struct{ error }

// command carries out what the arguments ask for in place of hosting a function.
func command(ctx context.Context, args []string, lookup config.Lookup, log io.Writer) error {
	if args[0] != "rotate-keys" {
		return usageError{fmt.Errorf("unknown argument %q: want rotate-keys, or none", args[0])}
	}
	var cfg knative.RotateConfig
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.SetOutput(log)
	f.StringVar(&cfg.Secret, "secret", "", "the `name` of the Secret with the keys")
	f.DurationVar(&cfg.Lead, "in", time.Hour, "after this time the new key signs")
	f.DurationVar(&cfg.Keep, "keep", time.Hour,
		"how long a key is kept after its last token; the longest life of an access token at least")
	f.StringVar(&cfg.Account, "account", "", "the `directory` of the service account; without it the one of the pod")
	if err := f.Parse(args[1:]); err != nil {
		return usageError{err}
	}
	host, _ := lookup("KUBERNETES_SERVICE_HOST")
	port, _ := lookup("KUBERNETES_SERVICE_PORT")
	switch {
	case f.NArg() > 0 || cfg.Secret == "":
		return usageError{fmt.Errorf("rotate-keys needs --secret NAME, and takes no other arguments: got %q", args[1:])}
	case cfg.Lead < 0 || cfg.Keep < 0:
		return usageError{fmt.Errorf("--in and --keep must not be negative")}
	case host == "" || port == "":
		return usageError{fmt.Errorf("no API server: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")}
	}
	cfg.Server = "https://" + net.JoinHostPort(host, port)
	from, err := knative.RotateKeys(ctx, cfg)
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	slog.New(slog.NewJSONHandler(log, nil)).Info("the newest key signs from then on", "secret", cfg.Secret, "from", from)
	return nil
}
