// Package passkeytest has a device with passkeys, and the browser before it, for tests.
package passkeytest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// Key is a passkey on a device.
type Key struct {
	ID      []byte
	User    []byte // the user handle
	Site    string
	Count   uint32 // of signatures
	private ed25519.PrivateKey
}

// Device makes passkeys and signs with them, in a browser at an origin. Its keys depend on its name only, so that a run
// can be repeated. The fields may be changed for answers that a server has to refuse. Its methods must not be called
// concurrently.
type Device struct {
	Origin     string
	Site       string // that it signs for; empty: that of the options
	Unverified bool   // it does not verify its user
	Absent     bool   // it does not ask whether a user is there
	Framed     bool   // the page is in a frame of another origin
	Countless  bool   // it does not count signatures, as synced passkeys do not

	Keys []*Key // the latest is used
	name string
}

// New returns a device without passkeys.
func New(name, origin string) *Device { return &Device{name: name, Origin: origin} }

// options are those parts of the options of WebAuthn that a device reads.
type options struct {
	Challenge string `json:"challenge"`
	RPID      string `json:"rpId"`
	RP        struct {
		ID string `json:"id"`
	} `json:"rp"`
	User struct {
		ID string `json:"id"`
	} `json:"user"`
	Exclude []struct {
		ID string `json:"id"`
	} `json:"excludeCredentials"`
}

// text returns data in base64url.
func text(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// Create makes a passkey by the options of a server, and returns what a page sends back: a RegistrationResponseJSON.
func (d *Device) Create(given json.RawMessage) (json.RawMessage, error) {
	var o options
	if err := json.Unmarshal(given, &o); err != nil {
		return nil, err
	}
	user, err := base64.RawURLEncoding.DecodeString(o.User.ID)
	if err != nil {
		return nil, err
	}
	for _, k := range d.Keys {
		for _, e := range o.Exclude {
			if text(k.ID) == e.ID {
				return nil, fmt.Errorf("the device has a passkey of the user already")
			}
		}
	}
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %d", d.name, len(d.Keys)))
	id := sha256.Sum256(seed[:])
	k := &Key{ID: id[:], User: user, Site: o.RP.ID, private: ed25519.NewKeyFromSeed(seed[:])}
	d.Keys = append(d.Keys, k)
	return d.Register(k, o.Challenge)
}

// Register returns the registration of a passkey for a challenge.
func (d *Device) Register(k *Key, challenge string) (json.RawMessage, error) {
	public := k.private.Public().(ed25519.PublicKey)
	// An Octet Key Pair of COSE in CBOR: {1: 1, 3: -8, -1: 6, -2: public}.
	cose := append([]byte{0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20}, public...)
	attested := make([]byte, 16, 100) // an AAGUID of zeros
	attested = binary.BigEndian.AppendUint16(attested, uint16(len(k.ID)))
	attested = append(append(attested, k.ID...), cose...)
	data := append(d.authenticatorData(k, 0x40), attested...)
	// {"fmt": "none", "attStmt": {}, "authData": data}
	object := append([]byte{0xa3, 0x63}, "fmt"...)
	object = append(append(object, 0x64), "none"...)
	object = append(append(object, 0x67), "attStmt"...)
	object = append(append(object, 0xa0, 0x68), "authData"...)
	object = append(binary.BigEndian.AppendUint16(append(object, 0x59), uint16(len(data))), data...)
	return json.Marshal(map[string]any{
		"id": text(k.ID), "rawId": text(k.ID), "type": "public-key", "authenticatorAttachment": "platform",
		"clientExtensionResults": map[string]any{"credProps": map[string]any{"rk": true}},
		"response": map[string]any{
			"clientDataJSON": text(d.clientData("webauthn.create", challenge)), "attestationObject": text(object),
			"transports": []string{"internal", "hybrid"}, "publicKeyAlgorithm": -8,
		},
	})
}

// Get signs a challenge of a server with the latest passkey, and returns what a page sends back: an
// AuthenticationResponseJSON.
func (d *Device) Get(given json.RawMessage) (json.RawMessage, error) {
	var o options
	if err := json.Unmarshal(given, &o); err != nil {
		return nil, err
	}
	if len(d.Keys) == 0 {
		return nil, fmt.Errorf("the device has no passkey")
	}
	return d.Sign(d.Keys[len(d.Keys)-1], o.Challenge)
}

// Sign returns the signature of a passkey for a challenge.
func (d *Device) Sign(k *Key, challenge string) (json.RawMessage, error) {
	if !d.Countless {
		k.Count++
	}
	data, client := d.authenticatorData(k, 0), d.clientData("webauthn.get", challenge)
	sum := sha256.Sum256(client)
	signature := ed25519.Sign(k.private, append(bytes.Clone(data), sum[:]...))
	return json.Marshal(map[string]any{
		"id": text(k.ID), "rawId": text(k.ID), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{
			"clientDataJSON": text(client), "authenticatorData": text(data), "signature": text(signature),
			"userHandle": text(k.User),
		},
	})
}

// Copy returns another device with the same passkeys, which count apart from now on.
func (d *Device) Copy() *Device {
	other := *d
	other.Keys = nil
	for _, k := range d.Keys {
		same := *k
		other.Keys = append(other.Keys, &same)
	}
	return &other
}

func (d *Device) authenticatorData(k *Key, flags byte) []byte {
	site := d.Site
	if site == "" {
		site = k.Site
	}
	if !d.Absent {
		flags |= 0x01
	}
	if !d.Unverified {
		flags |= 0x04
	}
	sum := sha256.Sum256([]byte(site))
	return binary.BigEndian.AppendUint32(append(sum[:], flags), k.Count)
}

func (d *Device) clientData(kind, challenge string) []byte {
	data, _ := json.Marshal(map[string]any{ // it cannot fail
		"type": kind, "challenge": challenge, "origin": d.Origin, "crossOrigin": d.Framed,
	})
	return data
}
