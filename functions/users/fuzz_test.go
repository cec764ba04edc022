package users

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/users/passkeytest"
)

// FuzzPasskey has strangers answer the challenges of passkeys. Whatever they send is refused with an error, or is what
// the device has signed for this challenge: no other answer registers a passkey, nor is accepted for one.
func FuzzPasskey(f *testing.F) {
	const site, origin, user = "shop.example", "https://shop.example", "ada"
	party, err := newRelyingParty(site, []string{origin})
	if err != nil {
		f.Fatal(err)
	}
	challenge, now := newSecret(), time.Unix(1_900_000_000, 0)
	d := passkeytest.New("phone", origin)
	asked, _ := json.Marshal(party.creation(challenge, user, account{Email: "ada@example.com"}, nil))
	made, err := d.Create(asked)
	if err != nil {
		f.Fatal(err)
	}
	var registration PasskeyRegistration
	_ = json.Unmarshal(made, &registration)
	parsed, err := registration.parse()
	if err != nil {
		f.Fatal(err)
	}
	known, err := party.register(parsed, challenge, user, now)
	if err != nil {
		f.Fatal(err)
	}
	asked, _ = json.Marshal(party.request(challenge))
	signed, err := d.Get(asked)
	if err != nil {
		f.Fatal(err)
	}
	var assertion PasskeyAssertion
	_ = json.Unmarshal(signed, &assertion)
	for _, seed := range [][]byte{made, signed, []byte(`{}`), []byte(`{"response":{"authenticatorData":"AAAA"}}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		var r PasskeyRegistration
		if json.Unmarshal(answer, &r) == nil {
			if parsed, err := r.parse(); err == nil {
				if p, err := party.register(parsed, challenge, user, now); err == nil && p.UserID != user {
					t.Errorf("a passkey of %q", p.UserID)
				}
			}
		}
		var a PasskeyAssertion
		if json.Unmarshal(answer, &a) != nil {
			return
		}
		parsed, err := a.parse()
		if err != nil {
			return
		}
		_, err = party.assert(parsed, challenge, known, now)
		if err == nil && a.Response.Signature != assertion.Response.Signature {
			t.Errorf("accepted %s", answer)
		}
	})
}
