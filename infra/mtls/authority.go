package mtls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// TrustDomain is the trust domain of development authorities.
const TrustDomain = "ebb.local"

// The lives of the certificates of a development authority.
const (
	authorityLife = 365 * 24 * time.Hour
	leafLife      = time.Hour
	renewAfter    = leafLife * 2 / 3
	renewAgain    = time.Minute // after a renewal that failed
	clockSkew     = time.Minute // by which clocks may differ
)

// The files of an authority.
const (
	authorityCert = "ca.crt"
	authorityKey  = "ca.key"
)

// Authority issues certificates for the processes of one developer's machine. Its key lies in a folder that only the
// user may read, so it protects nothing from that user: it is no authority for production. Its certificates are for
// names and addresses of this machine and of private networks only, so that a browser can be told to trust it. It may
// be used concurrently.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
	now  func() time.Time
}

// OpenAuthority returns the authority of a folder, and makes it at the first call. Several processes may call it at
// once: they get the same.
func OpenAuthority(dir string) (*Authority, error) { return openAuthority(dir, time.Now) }

func openAuthority(dir string, now func() time.Time) (*Authority, error) {
	a, err := loadAuthority(dir, now)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeAuthority(dir, now()); err != nil {
			return nil, fmt.Errorf("make a development authority: %w", err)
		}
		a, err = loadAuthority(dir, now)
	}
	if err != nil {
		return nil, fmt.Errorf("development authority: %w", err)
	}
	return a, nil
}

func loadAuthority(dir string, now func() time.Time) (*Authority, error) {
	cert, err := os.ReadFile(filepath.Join(dir, authorityCert))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, authorityKey))
	if err != nil {
		return nil, err
	}
	all, err := parseAuthorities(cert)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, authorityCert), err)
	}
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, fmt.Errorf("%s: there is no PEM", filepath.Join(dir, authorityKey))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, authorityKey), err)
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: the key cannot sign", filepath.Join(dir, authorityKey))
	}
	if end := all[0].NotAfter; now().Add(leafLife).After(end) {
		return nil, fmt.Errorf("the one in %s ends at %s: remove the folder, and start all processes again",
			dir, end.UTC().Format(time.RFC3339))
	}
	return &Authority{cert: all[0], key: signer, pem: cert, now: now}, nil
}

// makeAuthority writes a new authority to a folder that is not there. If another process is faster, its folder stays.
func makeAuthority(dir string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Ebb development authority"},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, PermittedDNSDomainsCritical: true,
		PermittedURIDomains: []string{TrustDomain},
		PermittedDNSDomains: []string{"localhost", "local", "internal", "test"},
		PermittedIPRanges:   privateNetworks(),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), ".authority-*") // has mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	err = errors.Join(
		os.WriteFile(filepath.Join(made, authorityCert), encodePEM("CERTIFICATE", der), 0o600),
		os.WriteFile(filepath.Join(made, authorityKey), encodePEM("PRIVATE KEY", pkcs8), 0o600),
	)
	if err != nil {
		return err
	}
	if err := os.Rename(made, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// privateNetworks returns the networks whose addresses no stranger has.
func privateNetworks() (all []*net.IPNet) {
	for _, text := range []string{
		"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10",
	} {
		_, n, _ := net.ParseCIDR(text) // they are valid
		all = append(all, n)
	}
	return all
}

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // crypto/rand does not fail
	return n
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// PEM returns the authority's certificate, for clients that must trust it.
func (a *Authority) PEM() []byte { return a.pem }

// Identity returns the identity of the process of that name, spiffe://ebb.local/NAME, whose certificate is also for the
// hosts: names and IP addresses. It is in memory only, ends after an hour, and is renewed before that from Start on.
func (a *Authority) Identity(name string, hosts []string, log *slog.Logger) (*Identity, error) {
	k := &issuer{authority: a, name: name, hosts: hosts, log: log}
	i := &Identity{keeper: k}
	if err := k.renew(i); err != nil {
		return nil, err
	}
	return i, nil
}

// issue returns a new certificate and its key as PEM.
func (a *Authority) issue(name string, hosts []string) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := a.now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: TrustDomain, Path: "/" + name}},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", pkcs8), nil
}

// issuer renews a certificate of an authority.
type issuer struct {
	authority *Authority
	name      string
	hosts     []string
	log       *slog.Logger

	end     chan struct{}
	running sync.WaitGroup
}

func (k *issuer) renew(i *Identity) error {
	cert, key, err := k.authority.issue(k.name, k.hosts)
	if err != nil {
		return err
	}
	c, err := newCredentials(cert, key, k.authority.pem, k.authority.now())
	if err != nil {
		return fmt.Errorf("a certificate for %s: %w", k.name, err)
	}
	i.now.Store(c)
	return nil
}

func (k *issuer) start(i *Identity) {
	if k.end != nil {
		return
	}
	k.end = make(chan struct{})
	end := k.end
	k.running.Go(func() {
		wait := renewAfter
		for {
			t := time.NewTimer(wait)
			select {
			case <-end:
				t.Stop()
				return
			case <-t.C:
			}
			wait = renewAfter
			if err := k.renew(i); err != nil {
				wait = renewAgain
				k.log.Error("the certificate is not renewed", "id", i.ID(), "until", i.Until(), "error", err)
			}
		}
	})
}

func (k *issuer) stop() {
	if k.end != nil {
		close(k.end)
		k.running.Wait()
		k.end = nil
	}
}
