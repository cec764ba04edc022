package mtls

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/ebb-dev/ebb/infra/internal/filewatch"
)

// Files are PEM files in cert-manager's layout, where they are called tls.crt, tls.key and ca.crt. All are required.
type Files struct {
	Cert string // the certificate before those of its issuers
	Key  string // its key
	CA   string // the authorities whose certificates are accepted; those of an old and a new one while it is replaced
}

// Open reads an Identity from files. From Start on they are read again when they change: a set that is not valid is
// logged, and the one before still holds. So it is while only some of the files have been replaced.
func Open(f Files, log *slog.Logger) (*Identity, error) {
	k := &fileKeeper{files: f, log: log}
	i := &Identity{keeper: k}
	if _, err := k.read(i); err != nil {
		return nil, err
	}
	return i, nil
}

// fileKeeper reads the files again when they change.
type fileKeeper struct {
	files   Files
	log     *slog.Logger
	last    [3]string // what was accepted or refused last
	watcher *filewatch.Watcher
}

// read takes the files if they have changed, and reports whether it did.
func (k *fileKeeper) read(i *Identity) (changed bool, err error) {
	var now [3]string
	for n, path := range []string{k.files.Cert, k.files.Key, k.files.CA} {
		content, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		now[n] = string(content)
	}
	if now == k.last {
		return false, nil
	}
	k.last = now
	c, err := newCredentials([]byte(now[0]), []byte(now[1]), []byte(now[2]), time.Now())
	if err != nil {
		return false, fmt.Errorf("invalid identity %s with key %s and authorities %s: %w",
			k.files.Cert, k.files.Key, k.files.CA, err)
	}
	i.now.Store(c)
	return true, nil
}

func (k *fileKeeper) start(i *Identity) {
	if k.watcher != nil {
		return
	}
	var err error
	k.watcher, err = filewatch.Start(func(bool) { k.reload(i) }, k.files.Cert, k.files.Key, k.files.CA)
	if err != nil {
		k.log.Warn("changes of the identity are not seen without SIGHUP", "file", k.files.Cert, "error", err)
	}
}

func (k *fileKeeper) reload(i *Identity) {
	changed, err := k.read(i)
	switch {
	case err != nil:
		k.log.Error("the process keeps its identity: the new one was refused", "file", k.files.Cert, "error", err)
	case changed:
		k.log.Info("the process has a new certificate", "file", k.files.Cert, "id", i.ID(), "until", i.Until())
	}
}

func (k *fileKeeper) stop() {
	if k.watcher != nil {
		k.watcher.Stop()
		k.watcher = nil
	}
}
