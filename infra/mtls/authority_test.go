package mtls

import (
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Processes that start at once get the same authority, and only its user may read it.
func TestAuthorityIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "authority")
	var all [8]*Authority
	var running sync.WaitGroup
	for n := range all {
		running.Go(func() {
			a, err := OpenAuthority(dir)
			if err != nil {
				t.Error(err)
			}
			all[n] = a
		})
	}
	running.Wait()
	for _, a := range all {
		if a == nil || !a.cert.Equal(all[0].cert) {
			t.Fatal("there are two authorities")
		}
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, authorityKey): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v %v", path, info.Mode(), err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// An authority that is about to end says what to do.
func TestAuthorityEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authority")
	if _, err := OpenAuthority(dir); err != nil {
		t.Fatal(err)
	}
	_, err := openAuthority(dir, func() time.Time { return time.Now().Add(authorityLife) })
	if err == nil || !strings.Contains(err.Error(), "remove the folder") {
		t.Errorf("got %v", err)
	}
}

// A certificate is renewed before it ends, for as long as the process runs.
func TestRenewal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authority")
	synctest.Test(t, func(t *testing.T) {
		a, err := OpenAuthority(dir)
		if err != nil {
			t.Fatal(err)
		}
		i, err := a.Identity("orders", nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		i.Start()
		first := i.now.Load().cert.Leaf.SerialNumber
		for range 100 {
			time.Sleep(leafLife / 4)
			synctest.Wait()
			if left := time.Until(i.Until()); left < leafLife-renewAfter {
				t.Fatalf("the certificate ends in %v", left)
			}
		}
		if i.now.Load().cert.Leaf.SerialNumber.Cmp(first) == 0 {
			t.Error("the certificate was not renewed")
		}
		i.Stop()
		end := i.Until()
		time.Sleep(2 * leafLife)
		if !i.Until().Equal(end) {
			t.Error("it is renewed after Stop")
		}
	})
}

// What the authority could sign for others does not count: it is for this machine and private networks.
func TestAuthorityIsForPrivateNames(t *testing.T) {
	a, err := OpenAuthority(filepath.Join(t.TempDir(), "authority"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for host, works := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "10.0.0.7": true, "shop.local": true, "example.com": false, "8.8.8.8": false,
	} {
		cert, key, err := a.issue("gateway", []string{host})
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); (err == nil) != works {
			t.Errorf("%s: got %v", host, err)
		}
		if _, err := a.Identity("gateway", []string{host}, slog.New(slog.DiscardHandler)); (err == nil) != works {
			t.Errorf("identity for %s: got %v", host, err)
		}
	}
}

// Siblings differ in the last segment of their IDs.
func TestSibling(t *testing.T) {
	for own, want := range map[string]string{
		"spiffe://example.org/orders":               "spiffe://example.org/gateway",
		"spiffe://cluster.local/ns/shop/sa/orders":  "spiffe://cluster.local/ns/shop/sa/gateway",
		"spiffe://example.org":                      "spiffe://example.org/gateway",
		"spiffe://example.org/region/eu/shop/users": "spiffe://example.org/region/eu/shop/gateway",
	} {
		if got := sibling(mustID(t, own), "gateway"); got != want {
			t.Errorf("%s: got %s", own, got)
		}
	}
}

func mustID(t *testing.T, text string) spiffeid.ID {
	t.Helper()
	id, err := spiffeid.FromString(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
