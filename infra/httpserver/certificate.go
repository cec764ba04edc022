package httpserver

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/internal/filewatch"
)

// Certificate is a TLS certificate with its key in two PEM files, which are read again when they change. Start and Stop
// are called by one goroutine at a time, the configuration of TLS is used by any.
type Certificate struct {
	cert, key string
	log       *slog.Logger

	now     atomic.Pointer[tls.Certificate]
	files   [2]string // what was accepted or refused last
	watcher *filewatch.Watcher
}

// OpenCertificate reads the files: the certificate of the server before those of the authorities that issued it, and
// its key. It returns an error if they are no pair, or if the certificate has expired.
func OpenCertificate(cert, key string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, log: log}
	if _, err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// read takes the files if they have changed, and reports whether it did.
func (c *Certificate) read() (changed bool, err error) {
	cert, err := os.ReadFile(c.cert)
	if err != nil {
		return false, err
	}
	key, err := os.ReadFile(c.key)
	if err != nil {
		return false, err
	}
	if files := [2]string{string(cert), string(key)}; files != c.files {
		c.files = files
	} else {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("invalid certificate %s with key %s: %w", c.cert, c.key, err)
	}
	if end := pair.Leaf.NotAfter; time.Now().After(end) {
		return false, fmt.Errorf("invalid certificate %s: it expired at %s", c.cert, end.UTC().Format(time.RFC3339))
	}
	c.now.Store(&pair)
	return true, nil
}

// Start begins to watch the files. New connections get the new certificate, and connections that are open stay. A pair
// that is not valid is logged, and the one before still holds: so it is while only one of the two files has been
// replaced.
func (c *Certificate) Start() {
	if c.watcher != nil {
		return
	}
	var err error
	c.watcher, err = filewatch.Start(func(bool) { c.reload() }, c.cert, c.key)
	if err != nil {
		c.log.Warn("changes of the certificate are not seen without SIGHUP", "file", c.cert, "error", err)
	}
}

func (c *Certificate) reload() {
	changed, err := c.read()
	switch {
	case err != nil:
		c.log.Error("the server keeps its certificate: the new one was refused", "file", c.cert, "error", err)
	case changed:
		leaf := c.now.Load().Leaf
		c.log.Info("the server has a new certificate", "file", c.cert, "names", leaf.DNSNames, "until", leaf.NotAfter)
	}
}

// Stop ends the watching.
func (c *Certificate) Stop() {
	if c.watcher != nil {
		c.watcher.Stop()
		c.watcher = nil
	}
}

// TLS returns the configuration of a server with the certificate: TLS 1.2 or later.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil },
	}
}
