package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ebb-dev/ebb/infra/auth"
)

// keysFile holds the private signing keys, the one that signs first.
const keysFile = "keys.json"

// loadKeys reads the key ring of a data directory, and makes it at the first start.
func loadKeys(dir string) (*auth.KeyRing, error) {
	path := filepath.Join(dir, keysFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		ring, err := auth.GenerateKeyRing()
		if err != nil {
			return nil, err
		}
		return ring, saveKeys(path, ring)
	}
	if err != nil {
		return nil, err
	}
	ring, err := auth.ParseKeyRing(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ring, nil
}

// RotateKeys puts a new signing key before those of a data directory. The older ones go on to
// verify what they have signed. A system that runs takes it up at its next start.
func RotateKeys(dir string) error {
	ring, err := loadKeys(dir)
	if err != nil {
		return err
	}
	if ring, err = ring.Rotate(); err != nil {
		return err
	}
	return saveKeys(filepath.Join(dir, keysFile), ring)
}

func saveKeys(path string, ring *auth.KeyRing) error {
	data, err := ring.Marshal()
	if err != nil {
		return err
	}
	return WriteSecret(path, data)
}

// WriteSecret replaces a file that only its owner may read, whole or not at all.
func WriteSecret(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // made with 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
