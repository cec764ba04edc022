package cli

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ebb-dev/ebb/infra/internal/tlsconfig"
	"github.com/ebb-dev/ebb/infra/mtls"
)

// The flag and the variable of TLS by the development authority.
const (
	tlsVariable = "EBB_TLS"
	tlsUsage    = "speak TLS with a certificate of the development authority in the data directory (EBB_TLS=true)"
)

// authorityDir returns the folder of the development authority of a data directory.
func authorityDir(data string) string { return filepath.Join(data, "authority") }

// identityOf returns the identity of a process of this machine, for the addresses and names that clients know it by.
func identityOf(data, name string, hosts []string) (*mtls.Identity, error) {
	authority, err := mtls.OpenAuthority(authorityDir(data))
	if err != nil {
		return nil, err
	}
	names := []string{"localhost", "127.0.0.1", "::1"}
	for _, host := range hosts {
		ip := net.ParseIP(host)
		if host != "" && host != "*" && (ip == nil || !ip.IsUnspecified() && !ip.IsLoopback()) {
			names = append(names, host)
		}
	}
	return authority.Identity(name, names, slog.Default())
}

// serveTLS has a server speak TLS, and returns what serves a listener. Failed handshakes are logged for debugging only.
func serveTLS(server *http.Server, c *tls.Config) func(net.Listener) error {
	server.TLSConfig = c
	server.ErrorLog = slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)
	return func(l net.Listener) error { return server.ServeTLS(l, "", "") }
}

// trustAuthority has the client trust the development authority of the data directory, if there is one, for a system on
// this machine.
func (c *client) trustAuthority(data string) error {
	u, err := url.Parse(c.url)
	if err != nil || u.Scheme != "https" || !isLoopback(u.Hostname()) {
		return nil
	}
	pem, err := os.ReadFile(filepath.Join(authorityDir(data), "ca.crt"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	trusted, _ := tlsconfig.Config(pem)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = trusted
	c.http.Transport = transport
	return nil
}
