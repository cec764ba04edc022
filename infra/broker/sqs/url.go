package sqs

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/brokerurl"
	"github.com/ebb-dev/ebb/infra/broker/sqs/sns"
)

// Opener returns the opener of a broker by its URL: sqs://REGION?name=ebb, or sqs:?name=ebb for AWS_REGION. Further
// parameters are visibility and wait, in seconds, and blobs, see Config. The error of an invalid URL is a predicate
// without any part of the URL.
func Opener(text string) (broker.Opener, error) {
	cfg, blobs, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, opts broker.Options) (broker.Broker, error) {
		cfg := cfg
		cfg.Observer, cfg.Logger = opts.Observer, opts.Logger
		cfg.Name = brokerurl.OfPart(cfg.Name, opts.Part)
		var err error
		if cfg.Blobs, err = sns.OpenBlobs(ctx, blobs); err != nil {
			return nil, err
		}
		return brokerurl.Opened(Open(ctx, cfg))
	}, nil
}

// shortWait is how long after a request the next one comes with wait=0.
const shortWait = 50 * time.Millisecond

// maxName is the most characters of a broker's name. A queue's has 80, of which a trigger needs some.
const maxName = 40

func parseURL(text string) (cfg Config, blobs string, err error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Config{}, "", brokerurl.NotValid()
	case u.User != nil:
		return Config{}, "", brokerurl.Invalid("has a user; credentials come from variables, a profile or a role")
	case u.Opaque != "" || u.Path != "" || u.Fragment != "" || u.Port() != "":
		return Config{}, "", brokerurl.Invalid("has text after its region; want sqs://REGION?name=NAME")
	case strings.IndexFunc(u.Host, notRegion) >= 0:
		return Config{}, "", brokerurl.Invalid("has an invalid region; want such as sqs://eu-central-1")
	}
	cfg = Config{Region: u.Host, Name: "ebb"}
	err = brokerurl.Parameters(u.RawQuery, func(name, value string) (err error) {
		n := 0
		switch name {
		case "name":
			if cfg.Name = value; !brokerurl.IsName(value) {
				return brokerurl.InvalidName()
			}
			if len(value) > maxName {
				return brokerurl.Invalid("has a name of more than %d characters", maxName)
			}
		case "visibility":
			n, err = brokerurl.Number("has an invalid visibility", value, 12*60*60)
			cfg.Visibility = time.Duration(n) * time.Second
		case "wait":
			if value == "0" {
				cfg.Wait = shortWait
				break
			}
			n, err = brokerurl.Number("has an invalid wait", value, 20)
			cfg.Wait = time.Duration(n) * time.Second
		case "blobs":
			blobs, err = value, brokerurl.CheckBlobs(value, "s3")
		default:
			return brokerurl.Invalid("has an unknown parameter (use name, visibility, wait or blobs)")
		}
		return err
	})
	return cfg, blobs, err
}

func notRegion(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
