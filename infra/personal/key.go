// Package personal encrypts what is personal, for one person at a time, so that destroying a key erases it wherever a
// copy is: in the archive, in a log, in a backup (crypto-shredding).
//
// There are two kinds of keys. Each function that writes personal data has a data key for each person, which it
// destroys when the person is erased. A data key is stored and sent only wrapped under the system's keys
// (EBB_PERSONAL_KEYS), which all functions have and no store. So a store, a log or an archive cannot be read without
// those keys, and with them only what has not been erased. The cipher is AES-256-GCM with random
// nonces.
package personal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Variable is the setting with the system's keys.
const Variable = "EBB_PERSONAL_KEYS"

const keySize = 32

// Keys are the system's keys. The zero Keys have none.
type Keys struct{ all []Key }

// public is the key of a system that has set none. Everyone knows it.
var public = make(Key, keySize)

// Public returns the keys of a system that has set none. What is wrapped under them can be unwrapped by everyone who
// has it, so they keep nothing secret; an erasure destroys data keys as with other keys.
func Public() Keys { return Keys{all: []Key{public}} }

// NewKey returns a new random key of the system, as EBB_PERSONAL_KEYS has it.
func NewKey() string { return encode(newKey()) }

// ParseKeys returns the keys of a setting: one or more keys of 32 bytes in base64url, with commas between. The first
// one wraps; the others unwrap what was wrapped before the first was added.
func ParseKeys(text string) (Keys, error) {
	var keys Keys
	for _, part := range strings.Split(text, ",") {
		key, err := decode(strings.TrimSpace(part))
		if err != nil || len(key) != keySize {
			return Keys{}, fmt.Errorf("%s: want keys of %d bytes in base64url, with commas between", Variable, keySize)
		}
		keys.all = append(keys.all, key)
	}
	return keys, nil
}

// Key is a data key. Its String does not tell it.
type Key []byte

// String hides the key from logs.
func (Key) String() string { return "personal.Key" }

func newKey() Key {
	key := make(Key, keySize)
	_, _ = rand.Read(key) // never fails
	return key
}

// New returns a new data key, and the key wrapped.
func (k Keys) New() (Key, string, error) {
	if len(k.all) == 0 {
		return nil, "", fault.New(fault.Internal, "%s is not set, so personal data cannot be encrypted", Variable)
	}
	key := newKey()
	sealed, err := k.all[0].seal(key, "key")
	return key, k.all[0].id() + "." + encode(sealed), err
}

// Unwrap returns the data key. One that was wrapped under a key that is not among the system's is fault.Unavailable.
// What a system wrapped before it had keys is unwrapped too.
func (k Keys) Unwrap(wrapped string) (Key, error) {
	id, text, _ := strings.Cut(wrapped, ".")
	for _, key := range append(k.all[:len(k.all):len(k.all)], public) {
		if key.id() != id {
			continue
		}
		sealed, err := decode(text)
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "a wrapped key is no base64url")
		}
		opened, err := key.open(sealed, "key")
		return opened, err
	}
	return nil, fault.New(fault.Unavailable, "%s has no key %q, which personal data is encrypted under", Variable, id)
}

// id names a key without telling it.
func (k Key) id() string {
	sum := sha256.Sum256(append([]byte("ebb personal "), k...))
	return hex.EncodeToString(sum[:4])
}

// Seal encrypts values for the use that purpose names.
func (k Key) Seal(values map[string]string, purpose string) (string, error) {
	plain, err := json.Marshal(values)
	if err != nil {
		return "", fault.Wrap(err, fault.Internal, "encode personal data")
	}
	sealed, err := k.seal(plain, purpose)
	return encode(sealed), err
}

// Open returns what Seal has encrypted for the same purpose.
func (k Key) Open(text, purpose string) (values map[string]string, err error) {
	sealed, err := decode(text)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "encrypted personal data is no base64url")
	}
	plain, err := k.open(sealed, purpose)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(plain, &values); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "decode personal data")
	}
	return values, nil
}

func (k Key) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "make a cipher")
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "make a cipher")
	}
	return aead, nil
}

func (k Key) seal(plain []byte, purpose string) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plain, []byte(purpose)), nil
}

func (k Key) open(sealed []byte, purpose string) ([]byte, error) {
	aead, err := k.aead()
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return nil, fault.New(fault.Invalid, "personal data was encrypted under another key, or was changed")
	}
	return plain, nil
}

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func decode(text string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(text) }

// EventPurpose returns the purpose for which the values of an event are sealed, so that they open for no other event.
func EventPurpose(source, id string) string { return "event " + source + " " + id }
