package console

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// Config is what a product says about its console.
type Config struct {
	Title string // of the product, as the pages show it
}

// settings are what an environment says.
type settings struct {
	API     string `envconfig:"EBB_CONSOLE_API" default:"http://gateway.default.svc.cluster.local" desc:"where the console finds the gateway, unless the host knows it"`
	Gateway string `envconfig:"EBB_CONSOLE_GATEWAY" default:"gateway" desc:"the name of the gateway among the functions"`
}

// Validate reports an address that is none.
func (s settings) Validate() error {
	u, err := url.Parse(s.API)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("EBB_CONSOLE_API must be an address such as http://gateway.default.svc.cluster.local")
	}
	return nil
}

// base is where the console is.
const base = "/console"

// New declares the console.
func (c Config) New(env function.Env) (*function.Function, error) {
	f := function.New("console", env)
	set, err := function.Configure[settings](f)
	if err != nil {
		return nil, err
	}
	env = f.Env()
	var instances func(r *http.Request) []discovery.Instance
	if env.Discovery != nil {
		instances = func(r *http.Request) []discovery.Instance {
			found, _ := env.Discovery.Instances(r.Context(), set.Gateway) // without one, the setting counts
			return found
		}
	}
	pages := &console{
		title: c.Title, system: env.System, authenticator: env.Authenticator, log: env.Logger, now: env.Now,
		logs: env.Logs, api: api{base: set.API, instances: instances},
	}
	function.Handler(f, pages.handler(), nil)
	return f, nil
}

// pages is the handler of all pages.
type pages struct{ http.Handler }

// Routes returns what the gateway sends to the console.
func (pages) Routes() []manifest.Route {
	all := []manifest.Route{{
		Method: http.MethodGet, Path: livePath, Access: manifest.AccessPublic, Summary: "Events as they come",
	}}
	for _, path := range []string{base, base + "/{page...}"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			all = append(all, manifest.Route{
				Method: method, Path: path, Access: manifest.AccessPublic, MaxBody: maxForm, Summary: "The console",
			})
		}
	}
	return all
}
