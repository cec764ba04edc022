package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/personal"
)

// keysFile is the file of the private signing keys. The first key signs.
const keysFile = "keys.json"

// loadKeys returns the key ring of a data directory, and creates it at the first start.
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

// RotateKeys adds a new signing key to those of a data directory, which begins to sign after the lead, and returns when
// that is. A running system learns of it. Tokens signed with the older keys stay valid; keys are left out that have not
// signed for longer than keep.
func RotateKeys(dir string, now time.Time, lead, keep time.Duration) (time.Time, error) {
	ring, err := loadKeys(dir)
	if err != nil {
		return time.Time{}, err
	}
	if ring, err = ring.Schedule(now, lead, keep); err != nil {
		return time.Time{}, err
	}
	return ring.Next(), saveKeys(filepath.Join(dir, keysFile), ring)
}

func saveKeys(path string, ring *auth.KeyRing) error {
	data, err := ring.Marshal()
	if err != nil {
		return err
	}
	return WriteSecret(path, data)
}

// WriteSecret replaces a file atomically. Only the file's owner may read it.
func WriteSecret(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // has mode 0600
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

// personalFile has the keys that those of persons are wrapped under. Without it what is encrypted cannot be read.
const personalFile = "personal.key"

// loadPersonalKeys returns the value of personal.Variable for a data directory, and makes a key at the first start.
func loadPersonalKeys(dir string) (string, error) {
	path := filepath.Join(dir, personalFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := personal.NewKey()
		return key, WriteSecret(path, []byte(key))
	}
	return strings.TrimSpace(string(data)), err
}
