package pubsub

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/open"
	_ "github.com/ebb-dev/ebb/infra/blob/open/google" // gs:
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/brokerurl"
)

// Opener returns the opener of a broker by its URL: pubsub://PROJECT?name=ebb. Further parameters are visibility, in
// seconds, wait=0 for an emulator, and blobs, see Config. The error of an invalid URL is a predicate without any part
// of the URL.
func Opener(text string) (broker.Opener, error) {
	cfg, blobs, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, opts broker.Options) (broker.Broker, error) {
		cfg := cfg
		if blobs != "" {
			d, err := open.ByURL(ctx, blobs)
			if err != nil {
				return nil, err
			}
			cfg.Blobs = blob.New(d, blob.Rules{})
		}
		cfg.Observer, cfg.Logger = opts.Observer, opts.Logger
		cfg.Name = brokerurl.OfPart(cfg.Name, opts.Part)
		return brokerurl.Opened(Open(ctx, cfg))
	}, nil
}

const (
	// shortWait is how long after a request the next one comes with wait=0.
	shortWait = 50 * time.Millisecond

	// maxName is the most characters of a broker's name. A subscription's has 255, of which a trigger needs some.
	maxName = 100

	// The bounds of a deadline, in seconds.
	minVisibility = 10
	maxVisibility = 600
)

func parseURL(text string) (cfg Config, blobs string, err error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Config{}, "", brokerurl.NotValid()
	case u.User != nil:
		return Config{}, "", brokerurl.Invalid("has a user; credentials are those of the environment")
	case u.Opaque != "" || u.Path != "" || u.Fragment != "" || u.Port() != "":
		return Config{}, "", brokerurl.Invalid("has text after its project; want pubsub://PROJECT?name=NAME")
	case u.Host == "":
		return Config{}, "", brokerurl.Invalid("has no project; want pubsub://PROJECT")
	case strings.IndexFunc(u.Host, notProject) >= 0:
		return Config{}, "", brokerurl.Invalid("has an invalid project; want small letters, digits and -")
	}
	cfg = Config{Project: u.Host, Name: "ebb"}
	err = brokerurl.Parameters(u.RawQuery, func(name, value string) error {
		switch name {
		case "name":
			if cfg.Name = value; !brokerurl.IsName(value) || !isLetter(value[0]) || strings.HasPrefix(value, "goog") {
				return brokerurl.Invalid("has an invalid name: want a letter, then letters, digits, - and _; not goog")
			}
			if len(value) > maxName {
				return brokerurl.Invalid("has a name of more than %d characters", maxName)
			}
		case "visibility":
			n, err := brokerurl.Number("has an invalid visibility", value, maxVisibility)
			if err == nil && n < minVisibility {
				err = brokerurl.Invalid("has an invalid visibility: want a number from %d to %d", minVisibility, maxVisibility)
			}
			cfg.Visibility = time.Duration(n) * time.Second
			return err
		case "wait":
			if value != "0" {
				return brokerurl.Invalid("has an invalid wait: want 0, which is for emulators")
			}
			cfg.Poll = shortWait
		case "blobs":
			blobs = value
			return brokerurl.CheckBlobs(value, "gs")
		default:
			return brokerurl.Invalid("has an unknown parameter (use name, visibility, wait or blobs)")
		}
		return nil
	})
	return cfg, blobs, err
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func notProject(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
