package run

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"

	"github.com/ebb-dev/ebb/infra/function"
	hostsettings "github.com/ebb-dev/ebb/infra/host/internal/settings"
	"github.com/ebb-dev/ebb/infra/host/knative"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/mtls"
	"github.com/ebb-dev/ebb/infra/proxy"
)

// brokerName is the last segment of the SPIFFE ID of a broker that delivers events by HTTP.
const brokerName = "broker"

// validateMutual returns every violation of the settings of mutual TLS.
func (s settings) validateMutual() (faults []error) {
	if (s.ClientCert == "") != (s.ClientKey == "") {
		faults = append(faults, errors.New("EBB_TLS_CLIENT_CERT and EBB_TLS_CLIENT_KEY go together: set both or neither"))
	}
	if s.ClientCert != "" && s.CA == "" {
		faults = append(faults, errors.New("EBB_TLS_CLIENT_CERT needs EBB_TLS_CA"))
	}
	if s.CA != "" && s.Cert == "" && s.ClientCert == "" {
		faults = append(faults, errors.New("EBB_TLS_CA needs EBB_TLS_CERT and EBB_TLS_KEY"))
	}
	for variable, ids := range map[string][]string{"EBB_TLS_CALLERS": s.Callers, "EBB_TLS_SENDERS": s.Deliverers} {
		if _, err := mtls.ParsePeers(ids); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", variable, err))
		}
	}
	if _, err := mtls.ParseRoles(s.Machines); err != nil {
		faults = append(faults, fmt.Errorf("EBB_TLS_MACHINES: %w", err))
	}
	return faults
}

// mutual is mutual TLS of the process.
type mutual struct {
	set      settings
	identity *mtls.Identity
	roles    mtls.Roles
}

// mutual returns the mutual TLS of the settings, with the identity if there is one already; nil: none.
func (s settings) mutual(own *mtls.Identity, log *slog.Logger) (*mutual, error) {
	if own == nil && s.CA == "" {
		return nil, nil
	}
	m := &mutual{set: s, identity: own}
	m.roles, _ = mtls.ParseRoles(s.Machines) // Validate has parsed them
	if own != nil {
		return m, nil
	}
	files := mtls.Files{Cert: s.Cert, Key: s.Key, CA: s.CA}
	if s.ClientCert != "" {
		files.Cert, files.Key = s.ClientCert, s.ClientKey
	}
	var err error
	if m.identity, err = mtls.Open(files, log); err != nil {
		return nil, hostsettings.Error("EBB_TLS_CA", "%v", err)
	}
	return m, nil
}

// toSink returns the configuration of connections to the sink.
func (m *mutual) toSink(authorities *x509.CertPool) *tls.Config {
	return m.identity.Client("", authorities)
}

// serve gives the function what it calls others with, and knows machines by.
func (m *mutual) serve(env *function.Env) {
	env.Transport = proxy.NewTLSTransport(func(function string) *tls.Config { return m.identity.Client(function, nil) })
	if len(m.roles) > 0 {
		env.Authenticator = mtls.Machines{Roles: m.roles, Next: env.Authenticator}
	}
}

// host adds to the configuration of a host who may call the function. Strangers call a gateway: it asks for no
// certificate, and shows that of the settings, or else that of an identity which is not from settings.
func (m *mutual) host(cfg *knative.Config, f manifest.Function, declared func() manifest.System) error {
	if f.Gateway {
		if cfg.Certificate == nil && m.set.CA == "" {
			cfg.Certificate = m.identity.Public()
		}
		return nil
	}
	if m.set.CA != "" && m.set.Cert == "" {
		return hostsettings.Error("EBB_TLS_CA", "needs EBB_TLS_CERT and EBB_TLS_KEY: only a gateway may listen without TLS")
	}
	callers, senders := m.set.Callers, m.set.Deliverers
	if len(callers) == 0 {
		for _, d := range declared().Functions {
			if d.Gateway {
				callers = append(callers, m.identity.Sibling(d.Name))
			}
		}
	}
	for id := range m.roles {
		callers = append(callers, id)
	}
	if len(senders) == 0 {
		senders = []string{m.identity.Sibling(brokerName)}
	}
	mayCall, err := mtls.ParsePeers(callers)
	maySend, sendErr := mtls.ParsePeers(senders)
	cfg.Callers, cfg.Deliverers, cfg.Certificate = &mayCall, &maySend, m.identity
	return errors.Join(err, sendErr)
}
