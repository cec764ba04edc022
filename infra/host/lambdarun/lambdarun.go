// Package lambdarun turns settings into a function hosted on AWS Lambda, as package run does on Knative and on plain
// machines. It is a package of its own, so that the package for Lambda has neither Knative's libraries nor drivers that
// nothing on Lambda uses: it is smaller, and starts sooner.
//
//	func main() { lambdarun.Main(functions.System()) }
//
// The settings are those of package run: FUNCTION, EBB_STORE (dynamodb://REGION/TABLE or memory:, and in programs that
// import package postgres below this one postgres://USER@HOST/DATABASE), EBB_BROKER and EBB_DEAD_LETTERS
// (sns:ARN-OF-TOPIC, with ?blobs=s3://BUCKET for large events),
// or K_SINK, K_CE_OVERRIDES and K_CA_CERTS (where events are published by HTTP), EBB_VERIFICATION_KEYS, EBB_ISSUER,
// EBB_AUDIENCE, EBB_DELIVERY, EBB_MANIFEST_HASH and those of the function itself. EBB_LAMBDA_STREAM says that responses
// are streamed: the function URL has the invoke mode RESPONSE_STREAM.
//
// A variable whose value is the ARN of a parameter of the Systems Manager has that parameter's value, which is read
// when the sandbox starts. So secrets are in no configuration of a function.
package lambdarun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	hostsettings "github.com/ebb-dev/ebb/infra/host/internal/settings"
	"github.com/ebb-dev/ebb/infra/host/lambda"
	"github.com/ebb-dev/ebb/infra/host/memlimit"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/dynamodb"
	"github.com/ebb-dev/ebb/infra/store/memory"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// settings are what the host reads, beside what the function itself does.
type settings struct {
	Function  string `envconfig:"FUNCTION" required:"true" desc:"the function that this process hosts"`
	Store     string `envconfig:"EBB_STORE" desc:"where its documents are: dynamodb://REGION/TABLE, postgres://USER@HOST/DATABASE, memory:"`
	Broker    string `envconfig:"EBB_BROKER" desc:"topic that its events are published to: sns:ARN-OF-TOPIC"`
	Dead      string `envconfig:"EBB_DEAD_LETTERS" desc:"topic of events that failed for good: sns:ARN-OF-TOPIC"`
	Sink      string `envconfig:"K_SINK" desc:"where its events are published by HTTP, without EBB_BROKER"`
	Overrides string `envconfig:"K_CE_OVERRIDES" desc:"extensions that its events get"`
	CACerts   string `envconfig:"K_CA_CERTS" desc:"authorities that the sink's certificate may come from"`
	Keys      string `envconfig:"EBB_VERIFICATION_KEYS" desc:"public JWK set that access tokens are checked with"`
	Issuer    string `envconfig:"EBB_ISSUER" default:"ebb" desc:"the iss claim of access tokens"`
	Audience  string `envconfig:"EBB_AUDIENCE" default:"ebb" desc:"the aud claim of access tokens"`
	Manifest  string `envconfig:"EBB_MANIFEST_HASH" desc:"hash of the declaration that the platform was set up with"`
	Stream    bool   `envconfig:"EBB_LAMBDA_STREAM" desc:"whether responses are streamed, for a function URL that does so"`
	Version   string `envconfig:"AWS_LAMBDA_FUNCTION_VERSION" desc:"version of the Lambda function"`
}

// Main hosts the function of the system that $FUNCTION names. It does not return. It ends the process with status 2
// when the settings are not valid, and names every violation.
func Main(sys system.System) {
	secrets, err := parameters(context.Background(), os.Environ())
	var h *lambda.Host
	if err == nil {
		h, err = newHost(sys, config.Map(secrets), config.Environment, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "function:", err)
		os.Exit(2)
	}
	h.Serve()
}

// New returns the host of the function that FUNCTION names. It opens nothing. An error is a *config.Error and names
// every violation. Log lines go to log; nil is standard error.
func New(sys system.System, lookup config.Lookup, log io.Writer) (*lambda.Host, error) {
	return newHost(sys, nil, lookup, log)
}

// newHost is New with settings that stand in parameters of the Systems Manager and take precedence.
func newHost(
	sys system.System, parameters, environment config.Lookup, log io.Writer,
) (*lambda.Host, error) {
	lookup := config.Overlay(parameters, environment)
	set, err := config.Load[settings]("", lookup)
	definition, known := sys.Lookup(set.Function)
	if !known && set.Function != "" {
		err = config.Join(err, hostsettings.Error("FUNCTION", "is %q, but the functions are %s",
			set.Function, strings.Join(sys.Names(), ", ")))
	}
	memlimit.Set() // before functions are made, which may size what they hold by it
	watch, watchErr := telemetry.Start(context.Background(), telemetry.Config{
		Service: sys.Name + "-" + set.Function, Version: set.Version, Log: log, Lookup: lookup,
	})
	if err = config.Join(err, watchErr); err != nil {
		return nil, err
	}
	env := function.Env{Lookup: lookup, Telemetry: watch, Logger: watch.Logger(set.Function), System: sys.Declared()}
	ports := set.ports()
	env.Settings = func() config.Report {
		return config.ReportOf(variablesOf(env.System(), set.Function),
			config.Origin{Name: config.FromParameter, Lookup: parameters, Secret: true},
			config.Origin{Name: config.FromEnvironment, Lookup: environment})
	}
	ports.Lookup = lookup
	opened := ports.Open(&env, storeByURL)
	topics, err := set.topics()
	opened = config.Join(opened, err)
	if topics.events != nil {
		env.Publisher = publisher{topics.events}
	}
	f, err := definition.New(env)
	var delivery broker.Trigger
	if err == nil {
		declared := f.Instance().Declaration()
		delivery, err = declared.Tuned(lookup)
		err = config.Join(ports.Missing(declared.Function), err)
	}
	if err = config.Join(opened, err); err != nil {
		return nil, err
	}
	return lambda.New(f.Instance(), lambda.Config{
		Manifest: set.Manifest, Delivery: &delivery, Decode: topics.decode(), DeadLetter: topics.deadLetter(),
		Stream: set.Stream, Telemetry: watch, Logger: env.Logger,
	}), nil
}

// variablesOf returns the settings of the host and of the function.
func variablesOf(declared manifest.System, function string) []config.Variable {
	all := config.Variables[settings]("")
	for _, d := range declared.Functions {
		if d.Name != function {
			continue
		}
		for _, v := range manifest.Variables(d.Settings) {
			v.Reload = false // the environment of a function on Lambda does not change while it runs
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b config.Variable) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// ports returns the settings of the function's ports.
func (s settings) ports() hostsettings.Ports {
	return hostsettings.Ports{
		Function: s.Function, Store: s.Store, Sink: s.Sink, Overrides: s.Overrides, CACerts: s.CACerts,
		Keys: s.Keys, Issuer: s.Issuer, Audience: s.Audience, Broker: s.Broker,
	}
}

// openPostgres opens a PostgreSQL database; nil: the program lacks it.
var openPostgres func(url string) (store.Opener, error)

// AddPostgres sets what opens a PostgreSQL database. Package postgres calls it before main begins.
func AddPostgres(open func(url string) (store.Opener, error)) { openPostgres = open }

// storeByURL returns the opener of the database with this URL. It opens nothing itself.
func storeByURL(url string) (store.Opener, error) {
	switch {
	case strings.HasPrefix(url, "dynamodb:"):
		return dynamodb.ByURL(url)
	case strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"):
		if openPostgres == nil {
			return nil, errors.New("is of PostgreSQL, which this program lacks: it imports no package " +
				"infra/host/lambdarun/postgres")
		}
		return openPostgres(url)
	case url == "memory:":
		return memory.Opener(), nil
	}
	return nil, errors.New("has an unknown scheme (use dynamodb://REGION/TABLE, postgres://USER@HOST/DATABASE or memory:)")
}
