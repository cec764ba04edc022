package openapi_test

import (
	"encoding/json"
	"strings"

	"github.com/ebb-dev/ebb/functions/users/passkeytest"
)

// petra is a customer who signs in with a passkey.
type petra struct {
	id, passkey string
	device      *passkeytest.Device
}

// given is an answer with options for a passkey.
type given struct {
	Options json.RawMessage `json:"public_key"`
}

// withPasskey registers a customer, who proves the address and adds a passkey.
func (s *shop) withPasskey(name string) (p petra) {
	s.Helper()
	id, access := s.register(name)
	proof := object{"token": s.mailed(strings.ToLower(name)+"@example.com", "Confirm", id)}
	s.want(204, "POST", "/api/email-proofs", access, proof, nil)
	p = petra{id: id, device: passkeytest.New(name+"'s phone", s.Origin)}
	var o given
	s.want(201, "POST", "/api/passkeys/options", access, object{"current_password": "a password for " + name}, &o)
	made, err := p.device.Create(o.Options)
	if err != nil {
		s.Fatal(err)
	}
	var added struct{ ID string }
	s.want(201, "POST", "/api/passkeys", access, object{"name": "Phone", "credential": made}, &added)
	p.passkey = added.ID
	return p
}

// signed returns what a device signs for a sign-in.
func (s *shop) signed(d *passkeytest.Device) json.RawMessage {
	s.Helper()
	var o given
	s.want(201, "POST", "/api/sessions/passkey/options", "", nil, &o)
	return s.sign(d, o)
}

func (s *shop) sign(d *passkeytest.Device, o given) json.RawMessage {
	s.Helper()
	signed, err := d.Get(o.Options)
	if err != nil {
		s.Fatal(err)
	}
	return signed
}

// signInWith returns an access token by a passkey.
func (s *shop) signInWith(d *passkeytest.Device) string {
	s.Helper()
	var t tokens
	s.want(201, "POST", "/api/sessions/passkey", "", object{"credential": s.signed(d)}, &t)
	return t.Access
}

// passkeys signs in with a passkey, names it anew and removes it.
func (s *shop) passkeys() {
	s.Helper()
	p := s.withPasskey("Petra")
	access, at := s.signInWith(p.device), "/api/users/"+p.id+"/passkeys"
	s.want(200, "GET", at, access, nil, nil)
	s.want(200, "PATCH", at+"/"+p.passkey, access, object{"name": "Old phone"}, nil)
	s.want(404, "PATCH", at+"/unknown", access, object{"name": "Old phone"}, nil)
	for range 120 {
		s.call("POST", "/api/sessions/passkey/options", "", nil, nil, "X-Forwarded-For", "198.51.100.9")
	}
	s.want(429, "POST", "/api/sessions/passkey/options", "", nil, nil, "X-Forwarded-For", "198.51.100.9")
	_, guesser := s.register("Percy")
	s.within("passwords cannot be guessed by the options", func() bool {
		return s.call("POST", "/api/passkeys/options", guesser, object{"current_password": "a wrong one"}, nil) == 429
	})
	var o given
	s.want(201, "POST", "/api/sessions/current/step-up/options", access, nil, &o)
	var proved struct {
		Token string `json:"step_up_token"`
	}
	s.want(201, "POST", "/api/sessions/current/step-up", access, object{"passkey": s.sign(p.device, o)}, &proved)
	s.want(204, "DELETE", at+"/"+p.passkey, access, nil, nil, "Ebb-Step-Up", proved.Token)
	s.want(401, "POST", "/api/sessions/passkey", "", object{"credential": s.signed(p.device)}, nil)
	if answer, body := s.send("POST", "/api/sessions/passkey", "",
		[]byte(`{"credential":"`+strings.Repeat("x", 1<<20)+`"}`)); answer.StatusCode != 413 {
		s.Errorf("got %d %s", answer.StatusCode, body)
	}
}
