package rabbitmq

import (
	"context"
	"net/url"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/brokerurl"
)

// Opener returns the opener of a broker by its URL: amqp://USER:PASSWORD@HOST:5672/VHOST, or amqps://. Its parameters
// are name (ebb), shards (1) and prefetch (1000), see Config, and of the client cacertfile, certfile, keyfile and
// server_name_indication. The error of an invalid URL is a predicate without any part of the URL.
func Opener(text string) (broker.Opener, error) {
	cfg, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, opts broker.Options) (broker.Broker, error) {
		cfg := cfg
		cfg.Observer, cfg.Logger = opts.Observer, opts.Logger
		cfg.Name = brokerurl.OfPart(cfg.Name, opts.Part)
		return brokerurl.Opened(Open(ctx, cfg))
	}, nil
}

// validName reports whether a broker may have the name.
func validName(name string) bool { return brokerurl.IsName(name) && len(name) <= 100 }

func parseURL(text string) (Config, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Config{}, brokerurl.NotValid()
	case u.Hostname() == "":
		return Config{}, brokerurl.Invalid("has no host; want amqp://USER@HOST:5672/VHOST")
	case u.Fragment != "":
		return Config{}, brokerurl.Invalid("has a #; escape special characters of the password with %%")
	}
	cfg, of := Config{Name: "ebb"}, url.Values{} // of: the client's
	err = brokerurl.Parameters(u.RawQuery, func(name, value string) (err error) {
		switch name {
		case "name":
			if cfg.Name = value; !validName(value) {
				return brokerurl.InvalidName()
			}
		case "shards":
			cfg.Shards, err = brokerurl.Number("has invalid shards", value, 64)
		case "prefetch":
			cfg.Prefetch, err = brokerurl.Number("has an invalid prefetch", value, 10_000)
		case "cacertfile", "certfile", "keyfile", "server_name_indication":
			of.Set(name, value)
		default:
			return brokerurl.Invalid("has an unknown parameter (use name, shards, prefetch, cacertfile, certfile, keyfile " +
				"or server_name_indication)")
		}
		return err
	})
	if err != nil {
		return Config{}, err
	}
	u.RawQuery = of.Encode()
	cfg.URL = u.String()
	if _, err := amqp.ParseURI(cfg.URL); err != nil {
		return Config{}, brokerurl.Invalid("is not a valid AMQP URL; want amqp://USER@HOST:5672/VHOST")
	}
	return cfg, nil
}
