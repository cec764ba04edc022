// Package settings makes of settings what every host gives to a function.
package settings

import (
	"fmt"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/auth/keyfile"
	"github.com/ebb-dev/ebb/infra/auth/oidc"
	brokerknative "github.com/ebb-dev/ebb/infra/broker/knative"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

// Ports are the settings of the ports of a function.
type Ports struct {
	Function                 string // its name
	Store                    string // EBB_STORE
	Sink, Overrides, CACerts string // K_SINK, K_CE_OVERRIDES, K_CA_CERTS
	SinkToken                string // file with the identity that the sink is shown; "": none
	Keys, Issuer, Audience   string // EBB_VERIFICATION_KEYS, EBB_ISSUER, EBB_AUDIENCE
	Broker                   string // EBB_BROKER

	TLS    brokerknative.TLS // of connections to the sink; nil: without a client certificate
	Lookup config.Lookup     // looks up EBB_OIDC_*; nil: none is set
}

// Open makes the ports: the store by storeByURL, the publisher of a sink, the authenticator. It opens no connection.
// Its errors are *config.Error.
func (p Ports) Open(env *function.Env, storeByURL func(url string) (store.Opener, error)) error {
	var faults []error
	if p.Store != "" {
		opener, err := storeByURL(p.Store)
		if err != nil {
			faults = append(faults, Error("EBB_STORE", "%v", err))
		}
		env.Store = opener
	}
	if p.Sink != "" {
		overrides, err := brokerknative.Overrides(p.Overrides)
		if err != nil {
			faults = append(faults, Error("K_CE_OVERRIDES", "%v", err))
		}
		publisher, err := brokerknative.New(brokerknative.Config{
			Sink: p.Sink, Overrides: overrides, CACerts: p.CACerts, TokenFile: p.SinkToken, TLS: p.TLS,
			Logger: env.Logger,
		})
		if err != nil {
			faults = append(faults, Error("K_SINK", "%v", err))
		} else {
			env.Publisher = publisher
		}
	}
	if p.Keys != "" {
		cfg := auth.VerifierConfig{Issuer: p.Issuer, Audience: p.Audience}
		verifier, err := keyfile.NewVerifier(p.Keys, cfg)
		if err != nil {
			faults = append(faults, Error("EBB_VERIFICATION_KEYS", "%v", err))
		} else {
			env.Authenticator = verifier
		}
	}
	beside, err := oidc.Beside(env.Authenticator, p.Lookup, env.Now)
	if err != nil {
		faults = append(faults, Error(oidc.IssuerVariable, "%v", err))
	}
	env.Authenticator = apikey.Beside(beside)
	return config.Join(faults...)
}

// Missing reports the settings that the function needs and that are not set.
func (p Ports) Missing(m manifest.Function) error {
	var faults []error
	need := func(variable, value, why string) {
		if value == "" {
			faults = append(faults, Error(variable, "is required but not set; %s %s", p.Function, why))
		}
	}
	if len(m.Collections) > 0 {
		need("EBB_STORE", p.Store, "stores documents")
	}
	if len(m.Emits) > 0 {
		need("K_SINK", p.Sink+p.Broker, "emits events")
	}
	if len(m.Routes) > 0 || m.Gateway {
		another := "" // issuer, whose tokens are enough
		if p.Lookup != nil {
			another, _ = p.Lookup(oidc.IssuerVariable)
		}
		need("EBB_VERIFICATION_KEYS", p.Keys+another, "checks access tokens")
	}
	return config.Join(faults...)
}

// Error returns the violation of one setting.
func Error(variable, format string, args ...any) error {
	return &config.Error{Violations: []config.Violation{{Variable: variable, Problem: fmt.Sprintf(format, args...)}}}
}
