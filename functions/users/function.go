package users

import (
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/keyfile"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/rpc"
	"github.com/ebb-dev/ebb/infra/store"
)

// Config holds the settings of users.
type Config struct {
	SigningKeys    string        `envconfig:"EBB_SIGNING_KEYS" required:"true" secret:"true" desc:"private JWK set that access tokens are signed with, the signing key first, or file:PATH of one that may be replaced"`
	Issuer         string        `envconfig:"EBB_ISSUER" default:"ebb" desc:"the iss claim of access tokens"`
	Audience       string        `envconfig:"EBB_AUDIENCE" default:"ebb" desc:"the aud claim of access tokens"`
	AccessTTL      time.Duration `envconfig:"EBB_ACCESS_TTL" default:"15m" desc:"how long an access token is valid"`
	StaffTTL       time.Duration `envconfig:"EBB_STAFF_ACCESS_TTL" default:"5m" desc:"how long an access token of a user with a role beyond customer is valid, if that is shorter"`
	RefreshTTL     time.Duration `envconfig:"EBB_REFRESH_TTL" default:"720h" desc:"how long a session lasts without a refresh"`
	PasswordMin    int           `envconfig:"EBB_PASSWORD_MIN" default:"15" desc:"the least number of characters of a new password that is the only factor, 8 to 64; with a second factor it is 8"`
	AddressProof   string        `envconfig:"EBB_ADDRESS_PROOF" default:"offered" desc:"off: addresses are not proven; offered: each new address gets a mail to prove it; required: nobody signs in before"`
	StaffFactor    string        `envconfig:"EBB_STAFF_SECOND_FACTOR" default:"optional" desc:"required: a role beyond customer counts only in sessions that were opened with a second factor"`
	PasskeySite    string        `envconfig:"EBB_PASSKEY_RP_ID" desc:"the domain that passkeys belong to, such as shop.example; those of before are lost when it changes. Empty: no passkeys"`
	PasskeyOrigins []string      `envconfig:"EBB_PASSKEY_ORIGINS" desc:"the origins of the pages that use passkeys, with commas between: https://HOST, at the domain or below it"`
	AdminEmail     string        `envconfig:"EBB_ADMIN_EMAIL" desc:"address of the admin who can always sign in, and is made, or made an admin again, by doing so"`
	AdminPassword  string        `envconfig:"EBB_ADMIN_PASSWORD" secret:"true" desc:"password of that admin"`
}

// Validate reports every violation of a rule that concerns one or more values.
func (c Config) Validate() error {
	var faults []error
	if c.AccessTTL < time.Second {
		faults = append(faults, errors.New("EBB_ACCESS_TTL must be at least 1s"))
	}
	if c.StaffTTL < time.Second {
		faults = append(faults, errors.New("EBB_STAFF_ACCESS_TTL must be at least 1s"))
	}
	if c.RefreshTTL <= c.AccessTTL {
		faults = append(faults, errors.New("EBB_REFRESH_TTL must be longer than EBB_ACCESS_TTL"))
	}
	if (c.AdminEmail == "") != (c.AdminPassword == "") {
		faults = append(faults, errors.New("EBB_ADMIN_EMAIL and EBB_ADMIN_PASSWORD go together: set both or neither"))
	}
	if c.AdminEmail != "" && len(checkEmail(normalise(c.AdminEmail))) > 0 {
		faults = append(faults, errors.New("EBB_ADMIN_EMAIL is not an e-mail address"))
	}
	if !slices.Contains([]string{proofOff, proofOffered, proofRequired}, c.AddressProof) {
		faults = append(faults, fmt.Errorf("invalid EBB_ADDRESS_PROOF %q: want off, offered or required", c.AddressProof))
	}
	if c.StaffFactor != staffOptional && c.StaffFactor != staffRequired {
		faults = append(faults, fmt.Errorf("invalid EBB_STAFF_SECOND_FACTOR %q: want optional or required", c.StaffFactor))
	}
	if c.PasswordMin < minPassword || c.PasswordMin > 64 {
		faults = append(faults, fmt.Errorf("EBB_PASSWORD_MIN must be %d to 64", minPassword))
	}
	if err := checkRelyingParty(c.PasskeySite, c.PasskeyOrigins); err != nil {
		faults = append(faults, err)
	}
	if n := utf8.RuneCountInString(c.AdminPassword); n > 0 && (n < minPassword || n > maxPassword) {
		faults = append(faults, errors.New("EBB_ADMIN_PASSWORD must have 8 to 128 characters"))
	}
	return errors.Join(faults...)
}

// smallBody, in bytes, is enough for any request here, at six bytes of JSON for each character.
const smallBody = 16 << 10

//go:embed usersv1/users.binpb
var schema []byte

type users struct {
	config Config
	admin  configuredAdmin
	issuer *auth.Issuer
	rings  *keyfile.Keys[*auth.KeyRing]
	hasher *hasher

	accounts    *store.Collection[account]
	emails      *store.Collection[claim]
	credentials *store.Collection[credentials]
	sessions    *store.Collection[session]
	staff       *store.Collection[staff]
	attempts    *store.Collection[attempts]
	apiKeys     apiKeys
	passkeys    passkeys
	log         *slog.Logger
	proofs      *store.Collection[proof]
}

// New declares the users function.
func New(env function.Env) (*function.Function, error) {
	f := function.New("users", env)
	config, err := function.Configure[Config](f)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	u := &users{
		config: config,
		admin:  newConfiguredAdmin(config.AdminEmail, config.AdminPassword),
		hasher: newHasher(),
		log:    f.Env().Logger,

		accounts:    function.Collection[account](f, "users", store.Entity, store.On("deleted")),
		emails:      function.Collection[claim](f, "emails"),
		credentials: function.Collection[credentials](f, "credentials"),
		sessions:    function.Collection[session](f, "sessions", store.SingleUse, store.Expire("expires_at")),
		staff:       function.Collection[staff](f, "staff"),
		attempts:    function.Collection[attempts](f, "attempts", store.Expire("expires")),
		proofs:      function.Collection[proof](f, "proofs", store.Expire("expires_at")),
	}
	if config.SigningKeys != "" { // empty only where the function is declared and never run
		if u.rings, err = keyfile.Open(config.SigningKeys, auth.ParseKeyRing, env.Now); err != nil {
			return nil, fmt.Errorf("users: EBB_SIGNING_KEYS: %w", err)
		}
		u.issuer = auth.NewRotatingIssuer(u.rings.Now, config.Issuer, config.Audience, env.Now)
	}
	function.Emits(f, events.UserRegistered, events.UserChanged, events.UserDeleted, events.UserSignedOut,
		events.UserAddressTaken, events.UserEmailProofRequested, events.UserPasswordResetRequested,
		events.UserSecurityChanged, event.AccessRevoked, event.PersonErased)
	function.Serve(f, registerUser, u.register)
	function.Serve(f, openSession, u.login)
	function.Serve(f, refreshSession, u.refresh)
	function.Serve(f, closeSession, u.logout)
	function.Serve(f, listSessions, u.listSessions)
	function.Serve(f, endSession, u.endSession)
	function.Serve(f, endSessions, u.endOthers)
	function.Serve(f, stepUp, u.stepUp)
	function.Serve(f, proveAddress, u.prove)
	function.Serve(f, mailProof, u.mailProof)
	function.Serve(f, askReset, u.askReset)
	function.Serve(f, resetPassword, u.reset)
	function.Serve(f, beginFactor, u.beginFactor)
	function.Serve(f, confirmFactor, u.confirmFactor)
	function.Serve(f, showFactor, u.showFactor)
	function.Serve(f, removeFactor, u.removeFactor)
	function.Serve(f, getUser, u.get)
	function.Serve(f, changeUser, u.change)
	function.Serve(f, deleteUser, u.remove)
	function.Serve(f, listUsers, u.list)
	function.Serve(f, showKeys, u.keys)
	u.serveAPIKeys(f)
	if err := u.servePasskeys(f); err != nil {
		return nil, fmt.Errorf("users: EBB_PASSKEY_RP_ID: %w", err)
	}
	rpc.Serve(f, "ebb.users.v1.UserService", schema)
	return f, nil
}
