package users

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function"
)

// A passkey is a key pair of WebAuthn (level 3): the user's device has the private key, and signs a challenge of this
// function with it once it has verified the user, by a finger, a face or a PIN. It is discoverable: the device finds it
// by the name of this site alone, so that a user signs in without an address.

// passkey is a stored passkey. Its id is the hash of the credential's id, so that no two users have the same passkey.
type passkey struct {
	UserID       string    `json:"user_id"`
	Name         string    `json:"name"`
	CredentialID []byte    `json:"credential_id"`
	PublicKey    []byte    `json:"public_key"` // COSE
	Transports   []string  `json:"transports,omitempty"`
	Count        uint32    `json:"count,omitempty"`    // the device's last count of its signatures; 0: it does not count
	Syncable     bool      `json:"syncable,omitempty"` // the device may copy it to others; never changes
	Synced       bool      `json:"synced,omitempty"`   // the device has copied it
	CreatedAt    time.Time `json:"created_at"`
	UsedAt       time.Time `json:"used_at,omitzero"` // the hour of the last use
}

// maxPasskeys is how many passkeys a user has at most. A deletion of the user removes them all in one commit.
const maxPasskeys = 10

// passkeyID returns the id of the passkey with a credential id. That is up to 1,023 bytes that a device has chosen.
func passkeyID(credential []byte) string { return auth.HashToken(string(credential)) }

// challenge is a challenge that waits for the signature of a passkey. It is removed when it is used, also by a
// signature that is refused. Its id is the hash of the challenge.
type challenge struct {
	Ceremony  string    `json:"ceremony"`
	UserID    string    `json:"user_id,omitempty"` // the user who may use it; empty for a sign-in
	Session   string    `json:"session,omitempty"` // in which session
	ExpiresAt time.Time `json:"expires_at"`
}

// The ceremonies. A challenge of one is good for no other.
const (
	ceremonyRegister = "register"
	ceremonySignIn   = "sign-in"
	ceremonyStepUp   = "step-up"
)

// challengeToCaller returns a challenge that only the caller may use, in the session of the request.
func challengeToCaller(tx *function.Tx, ceremony string) challenge {
	who := tx.Principal()
	return challenge{Ceremony: ceremony, UserID: who.Subject, Session: who.Session}
}

// challengeTTL is how long a challenge is good, and how long a browser waits for its user.
const challengeTTL = 5 * time.Minute

// relyingParty checks what browsers answer to challenges.
type relyingParty struct{ *webauthn.WebAuthn }

// newRelyingParty returns a relying party for a site and its origins. It returns nil without a site: no passkeys.
func newRelyingParty(id string, origins []string) (*relyingParty, error) {
	if id == "" {
		return nil, nil
	}
	w, err := webauthn.New(&webauthn.Config{RPID: id, RPDisplayName: id, RPOrigins: origins})
	if err != nil {
		return nil, err
	}
	return &relyingParty{w}, nil
}

// checkRelyingParty reports a site, or an origin, with which no browser makes passkeys.
func checkRelyingParty(id string, origins []string) error {
	if id == "" && len(origins) == 0 {
		return nil
	}
	if id == "" || len(origins) == 0 {
		return errors.New("EBB_PASSKEY_RP_ID and EBB_PASSKEY_ORIGINS go together: set both or neither")
	}
	if net.ParseIP(id) != nil || id != strings.ToLower(id) || protocol.ValidateRPID(id) != nil {
		return fmt.Errorf("invalid EBB_PASSKEY_RP_ID %q: want a domain such as shop.example", id)
	}
	var faults []error
	for _, origin := range origins {
		u, err := url.Parse(origin)
		switch {
		case err != nil || u.Host == "" || origin != u.Scheme+"://"+u.Host,
			u.Scheme != "https" && !(u.Scheme == "http" && u.Hostname() == "localhost"):
			faults = append(faults, fmt.Errorf("invalid origin %q in EBB_PASSKEY_ORIGINS: want https://HOST or "+
				"https://HOST:PORT, or http for localhost", origin))
		case u.Hostname() != id && !strings.HasSuffix(u.Hostname(), "."+id):
			faults = append(faults, fmt.Errorf("invalid origin %q in EBB_PASSKEY_ORIGINS: its host is not %s, nor below it",
				origin, id))
		}
	}
	return errors.Join(faults...)
}

// owner implements webauthn.User.
type owner struct {
	id   string
	keys []webauthn.Credential
}

func (o owner) WebAuthnID() []byte                         { return []byte(o.id) }
func (o owner) WebAuthnName() string                       { return "" }
func (o owner) WebAuthnDisplayName() string                { return "" }
func (o owner) WebAuthnCredentials() []webauthn.Credential { return o.keys }

// algorithms returns the signature algorithms that a new passkey may have: the ones that WebAuthn recommends.
func algorithms() []protocol.CredentialParameter { return webauthn.CredentialParametersRecommendedL3() }

// session returns the data that the library compares a browser's answer with. In each ceremony the device has to verify
// the user.
func (r *relyingParty) session(challenge, user string) webauthn.SessionData {
	return webauthn.SessionData{
		Challenge: challenge, RelyingPartyID: r.Config.RPID, UserID: []byte(user),
		UserVerification: protocol.VerificationRequired, CredParams: algorithms(),
	}
}

// register checks that a registration answers the challenge to the user, and returns the new passkey.
func (r *relyingParty) register(
	in *protocol.ParsedCredentialCreationData, challenge, user string, now time.Time,
) (passkey, error) {
	// No attestation was asked for: a statement about the make of the device is not evaluated.
	in.Response.AttestationObject.Format = string(protocol.AttestationFormatNone)
	in.Response.AttestationObject.AttStatement, in.Response.AttestationObject.SubStatements = nil, nil
	c, err := r.CreateCredential(owner{id: user}, r.session(challenge, user), in)
	if err != nil {
		return passkey{}, err
	}
	p := passkey{
		UserID: user, CredentialID: c.ID, PublicKey: c.PublicKey, Count: c.Authenticator.SignCount,
		Syncable: c.Flags.BackupEligible, Synced: c.Flags.BackupState, CreatedAt: now,
	}
	for _, t := range c.Transport[:min(len(c.Transport), maxTransports)] {
		if slices.Contains(transports, string(t)) {
			p.Transports = append(p.Transports, string(t))
		}
	}
	return p, nil
}

// transports are the ways to a device that are stored; browsers use them to find it.
var transports = []string{"ble", "hybrid", "internal", "nfc", "smart-card", "usb"}

const maxTransports = 8

// errCopied reports that the device's count of signatures is not above the last one: there is a copy of the passkey.
var errCopied = errors.New("the passkey's counter of signatures has not grown")

// assert checks that the passkey has signed the challenge, and returns it with the new count and time of use. The error
// is errCopied if a copy of the passkey has signed.
func (r *relyingParty) assert(
	in *protocol.ParsedCredentialAssertionData, challenge string, p passkey, now time.Time,
) (passkey, error) {
	of := owner{id: p.UserID, keys: []webauthn.Credential{{
		ID: p.CredentialID, PublicKey: p.PublicKey, AttestationFormat: string(protocol.AttestationFormatNone),
		Flags:         webauthn.CredentialFlags{UserPresent: true, UserVerified: true, BackupEligible: p.Syncable},
		Authenticator: webauthn.Authenticator{SignCount: p.Count},
	}}}
	find := func(_, _ []byte) (webauthn.User, error) { return of, nil } // the library compares this user's handle
	_, c, err := r.ValidatePasskeyLogin(find, r.session(challenge, ""), in)
	if err != nil {
		return p, err
	}
	if c.Authenticator.CloneWarning {
		return p, errCopied
	}
	p.Count, p.Synced, p.UsedAt = c.Authenticator.SignCount, c.Flags.BackupState, now.Truncate(time.Hour)
	return p, nil
}

// PasskeyRegistration is a browser's answer to the options for a new passkey: a RegistrationResponseJSON of WebAuthn,
// as PublicKeyCredential.toJSON returns it.
type PasskeyRegistration struct {
	_        struct{} `additionalProperties:"true"`
	ID       string   `json:"id" minLength:"1" maxLength:"1400"`
	RawID    string   `json:"rawId" minLength:"1" maxLength:"1400"`
	Type     string   `json:"type" enum:"public-key"`
	Response struct {
		_                 struct{} `additionalProperties:"true"`
		ClientDataJSON    string   `json:"clientDataJSON" maxLength:"8000"`
		AttestationObject string   `json:"attestationObject" maxLength:"12000"`
		Transports        []string `json:"transports,omitempty" maxItems:"16"`
	} `json:"response"`
}

// PasskeyAssertion is a browser's answer to the options for the use of a passkey: an AuthenticationResponseJSON of
// WebAuthn, as PublicKeyCredential.toJSON returns it.
type PasskeyAssertion struct {
	_        struct{} `additionalProperties:"true"`
	ID       string   `json:"id" minLength:"1" maxLength:"1400"`
	RawID    string   `json:"rawId" minLength:"1" maxLength:"1400"`
	Type     string   `json:"type" enum:"public-key"`
	Response struct {
		_                 struct{} `additionalProperties:"true"`
		ClientDataJSON    string   `json:"clientDataJSON" maxLength:"8000"`
		AuthenticatorData string   `json:"authenticatorData" maxLength:"8000"`
		Signature         string   `json:"signature" maxLength:"4000"`
		UserHandle        string   `json:"userHandle,omitempty" maxLength:"100"`
	} `json:"response"`
}

// parse decodes the registration. The options request no extensions, and parse reads no results of any.
func (in PasskeyRegistration) parse() (*protocol.ParsedCredentialCreationData, error) {
	raw, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	return protocol.ParseCredentialCreationResponseBytes(raw)
}

func (in PasskeyAssertion) parse() (*protocol.ParsedCredentialAssertionData, error) {
	raw, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	return protocol.ParseCredentialRequestResponseBytes(raw)
}

// PasskeyCreation holds the options with which a browser makes a passkey: PublicKeyCredentialCreationOptionsJSON of
// WebAuthn, for PublicKeyCredential.parseCreationOptionsFromJSON.
type PasskeyCreation struct {
	RP struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"rp"`
	User struct {
		ID          string `json:"id" doc:"The user's id, in base64url."`
		Name        string `json:"name"`
		DisplayName string `json:"displayName"`
	} `json:"user"`
	Challenge  string             `json:"challenge"`
	Algorithms []PasskeyAlgorithm `json:"pubKeyCredParams"`
	Timeout    int64              `json:"timeout" doc:"Milliseconds."`
	Exclude    []PasskeyName      `json:"excludeCredentials" doc:"The user's other passkeys: a device that has one makes no second one."`
	Selection  struct {
		ResidentKey      string `json:"residentKey" enum:"required"`
		RequireResident  bool   `json:"requireResidentKey"`
		UserVerification string `json:"userVerification" enum:"required"`
	} `json:"authenticatorSelection"`
	Attestation string `json:"attestation" enum:"none"`
}

// PasskeyAlgorithm is a kind of signature that a passkey may make.
type PasskeyAlgorithm struct {
	Type      string `json:"type" enum:"public-key"`
	Algorithm int64  `json:"alg" doc:"As COSE numbers it."`
}

// PasskeyName names a passkey for browsers.
type PasskeyName struct {
	Type       string   `json:"type" enum:"public-key"`
	ID         string   `json:"id"`
	Transports []string `json:"transports,omitempty"`
}

// PasskeyRequest holds the options with which a browser has a passkey sign: PublicKeyCredentialRequestOptionsJSON of
// WebAuthn, for PublicKeyCredential.parseRequestOptionsFromJSON. It names no passkeys: the browser offers the ones that
// it finds.
type PasskeyRequest struct {
	Challenge        string `json:"challenge"`
	Timeout          int64  `json:"timeout" doc:"Milliseconds."`
	RPID             string `json:"rpId"`
	UserVerification string `json:"userVerification" enum:"required"`
}

const publicKey = "public-key"

// creation returns the options for a new passkey of a user who has others.
func (r *relyingParty) creation(challenge, user string, a account, others []passkey) PasskeyCreation {
	var c PasskeyCreation
	c.RP.ID, c.RP.Name = r.Config.RPID, r.Config.RPDisplayName
	c.User.ID, c.User.Name, c.User.DisplayName = base64.RawURLEncoding.EncodeToString([]byte(user)), a.Email, a.Name
	c.Challenge, c.Timeout, c.Attestation = challenge, challengeTTL.Milliseconds(), "none"
	for _, p := range algorithms() {
		c.Algorithms = append(c.Algorithms, PasskeyAlgorithm{Type: publicKey, Algorithm: int64(p.Algorithm)})
	}
	c.Exclude = []PasskeyName{}
	for _, p := range others {
		c.Exclude = append(c.Exclude, PasskeyName{
			Type: publicKey, ID: base64.RawURLEncoding.EncodeToString(p.CredentialID), Transports: p.Transports,
		})
	}
	c.Selection.ResidentKey, c.Selection.RequireResident, c.Selection.UserVerification = "required", true, "required"
	return c
}

// request returns the options for the use of a passkey.
func (r *relyingParty) request(challenge string) PasskeyRequest {
	return PasskeyRequest{
		Challenge: challenge, Timeout: challengeTTL.Milliseconds(), RPID: r.Config.RPID, UserVerification: "required",
	}
}

// good reports whether the challenge has not expired, and was stored for the same ceremony, user and session as want.
func (c challenge) good(want challenge, now time.Time) bool {
	want.ExpiresAt = c.ExpiresAt
	return c == want && now.Before(c.ExpiresAt)
}

// withRecovery returns the factor with new recovery codes, and the codes, if no recovery codes are left; otherwise the
// factor alone. f may be nil.
func (f *secondFactor) withRecovery() (after *secondFactor, codes []string) {
	if f != nil && len(f.Recovery) > 0 {
		return f, nil
	}
	after = &secondFactor{}
	if f != nil {
		*after = *f
	}
	codes, after.Recovery = newRecoveryCodes()
	return after, codes
}

// why returns the library's reason for the refusal of an answer, without the data that it quotes.
func why(err error) string {
	var p *protocol.Error
	if errors.As(err, &p) {
		return p.Details
	}
	return err.Error()
}
