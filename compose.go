package ebb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/auth"
	brokerknative "github.com/ebb-dev/ebb/infra/broker/knative"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/knative"
	"github.com/ebb-dev/ebb/infra/host/memlimit"
	"github.com/ebb-dev/ebb/infra/store/open"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// settings are what the host reads, beside what the capability itself does.
type settings struct {
	Function       string   `envconfig:"FUNCTION" required:"true" desc:"the capability that this process is"`
	Port           int      `envconfig:"PORT" default:"8080" desc:"where to listen"`
	Store          string   `envconfig:"EBB_STORE" desc:"where its documents are: memory:, sqlite:PATH, postgres://USER@HOST/DATABASE, firestore://PROJECT/DATABASE"`
	Sink           string   `envconfig:"K_SINK" desc:"where its events are published"`
	Overrides      string   `envconfig:"K_CE_OVERRIDES" desc:"extensions that its events get"`
	CACerts        string   `envconfig:"K_CA_CERTS" desc:"authorities that the sink's certificate may come from"`
	Keys           string   `envconfig:"EBB_VERIFICATION_KEYS" desc:"public JWK set that access tokens are checked with"`
	Issuer         string   `envconfig:"EBB_ISSUER" default:"ebb" desc:"the iss claim of access tokens"`
	Audience       string   `envconfig:"EBB_AUDIENCE" default:"ebb" desc:"the aud claim of access tokens"`
	SenderIssuer   string   `envconfig:"EBB_SENDER_ISSUER" default:"https://kubernetes.default.svc" desc:"who issues the identities of those who deliver events"`
	SenderAudience string   `envconfig:"EBB_SENDER_AUDIENCE" desc:"what the identity of a sender must be meant for; none: identities are not checked"`
	Senders        []string `envconfig:"EBB_SENDERS" desc:"who may deliver events, with commas between; a * at the end stands for anything"`
	Manifest       string   `envconfig:"EBB_MANIFEST_HASH" desc:"hash of the declaration that the platform was set up with"`
	Service        string   `envconfig:"K_SERVICE" desc:"name of the Knative Service"`
	Revision       string   `envconfig:"K_REVISION" desc:"name of its revision"`
}

// Validate says what is wrong with the values.
func (s settings) Validate() error {
	var faults []error
	if s.Port < 1 || s.Port > 65535 {
		faults = append(faults, fmt.Errorf("PORT is %d, which is no port", s.Port))
	}
	if (s.SenderAudience == "") != (len(s.Senders) == 0) {
		faults = append(faults, errors.New("EBB_SENDER_AUDIENCE and EBB_SENDERS go together: set both or neither"))
	}
	return errors.Join(faults...)
}

// hosted is a host with what was opened around it.
type hosted struct {
	*knative.Host
	watch *telemetry.Telemetry
	port  int
}

// Serve hosts the capability at $PORT until ctx ends, and drains. An error of the configuration is a *config.Error,
// and names every fault. Log lines go to log; nil is standard error.
func Serve(ctx context.Context, lookup config.Lookup, log io.Writer) error {
	h, err := compose(lookup, log)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":"+strconv.Itoa(h.port))
	if err != nil {
		return err
	}
	err = h.Host.Serve(ctx, l)
	return errors.Join(err, h.watch.Shutdown(context.WithoutCancel(ctx)))
}

// compose makes the host of the capability, and opens nothing.
func compose(lookup config.Lookup, log io.Writer) (*hosted, error) {
	set, err := config.Load[settings]("", lookup)
	all := functions.All()
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.Name
	}
	at := slices.Index(names, set.Function)
	if at < 0 && set.Function != "" {
		err = config.Join(err, wrong("FUNCTION", "is %q, but there are only %s", set.Function, strings.Join(names, ", ")))
	}
	memlimit.Set() // before functions are made, which may size what they hold by it
	watch, watchErr := telemetry.Start(context.Background(), telemetry.Config{
		Service: "ebb-" + set.Function, Version: set.Revision, Log: log, Lookup: lookup,
	})
	if err = config.Join(err, watchErr); err != nil {
		return nil, err
	}
	env := function.Env{Lookup: lookup, Telemetry: watch, Logger: watch.Logger(set.Function)}
	given := set.open(&env)
	f, err := all[at].New(env)
	if err == nil {
		err = set.lacking(f.Manifest())
	}
	senders, sendersErr := set.senders()
	if err = config.Join(given, err, sendersErr); err != nil {
		return nil, err
	}
	return &hosted{watch: watch, port: set.Port, Host: knative.New(f, knative.Config{
		Senders: senders, Manifest: set.Manifest, Telemetry: watch, Logger: env.Logger,
	})}, nil
}

// open makes what the settings name for the function.
func (s settings) open(env *function.Env) error {
	var faults []error
	if s.Store != "" {
		opener, err := open.ByURL(s.Store)
		if err != nil {
			faults = append(faults, wrong("EBB_STORE", "%v", err))
		}
		env.Store = opener
	}
	if s.Sink != "" {
		overrides, err := brokerknative.Overrides(s.Overrides)
		if err != nil {
			faults = append(faults, wrong("K_CE_OVERRIDES", "%v", err))
		}
		publisher, err := brokerknative.New(brokerknative.Config{
			Sink: s.Sink, Overrides: overrides, CACerts: s.CACerts, TokenFile: brokerknative.TokenFile, Logger: env.Logger,
		})
		if err != nil {
			faults = append(faults, wrong("K_SINK", "%v", err))
		} else {
			env.Publisher = publisher
		}
	}
	if s.Keys != "" {
		verifier, err := s.verifier()
		if err != nil {
			faults = append(faults, wrong("EBB_VERIFICATION_KEYS", "%v", err))
		}
		env.Tokens = verifier
	}
	return config.Join(faults...)
}

func (s settings) verifier() (*auth.Verifier, error) {
	keys, err := auth.ParseJWKS([]byte(s.Keys))
	if err != nil {
		return nil, err
	}
	return auth.NewVerifier(auth.VerifierConfig{Keys: keys, Issuer: s.Issuer, Audience: s.Audience})
}

// lacking names what the function needs and was not given.
func (s settings) lacking(m function.Manifest) error {
	var faults []error
	need := func(variable, value, why string) {
		if value == "" {
			faults = append(faults, wrong(variable, "is required but not set; %s %s", s.Function, why))
		}
	}
	if len(m.Collections) > 0 {
		need("EBB_STORE", s.Store, "stores documents")
	}
	if len(m.Says) > 0 {
		need("K_SINK", s.Sink, "says events")
	}
	if len(m.Routes) > 0 || m.Front {
		need("EBB_VERIFICATION_KEYS", s.Keys, "checks access tokens")
	}
	return config.Join(faults...)
}

func (s settings) senders() (*knative.Senders, error) {
	if s.SenderAudience == "" {
		return nil, nil
	}
	senders, err := knative.NewSenders(knative.SendersConfig{Issuer: s.SenderIssuer, Audience: s.SenderAudience, Subjects: s.Senders})
	if err != nil {
		return nil, wrong("EBB_SENDERS", "%v", err)
	}
	return senders, nil
}

func wrong(variable, format string, args ...any) error {
	return &config.Error{Faults: []config.Fault{{Variable: variable, Problem: fmt.Sprintf(format, args...)}}}
}
