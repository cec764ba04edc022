package users

import (
	"context"
	"net/http"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// What these answer are secrets, of which only hashes may be kept: no Idempotency-Key.
var (
	openSession = function.Operation{
		Method: http.MethodPost, Path: "/api/sessions", Status: http.StatusCreated, Access: function.Public,
		Summary: "Sign in", Idempotency: function.Off, MaxBody: smallBody,
		Description: "After some wrong passwords an account, and a client's address, have to wait: 429 with " +
			"Retry-After, whatever the password. A client that sends the device_token of an earlier sign-in to the account " +
			"is not kept waiting by what others try. An account with a second factor needs its code too, or a passkey: " +
			"the password alone is 401, with an error at body.code.",
		Errors: []int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	refreshSession = function.Operation{
		Method: http.MethodPost, Path: "/api/sessions/refresh", Status: http.StatusCreated, Access: function.Public,
		Summary: "Exchange a refresh token", Idempotency: function.Off, MaxBody: smallBody,
		Description: "A refresh token works once, and the answer holds the next one. Showing a used one again ends the " +
			"session.",
		Errors: []int{http.StatusUnauthorized},
	}
	closeSession = function.Operation{
		Method: http.MethodDelete, Path: "/api/sessions/current", Owner: manifest.OwnerOnly, Scope: manifest.NoKey,
		Status:  http.StatusNoContent,
		Summary: "Sign out",
		Description: "The refresh token stops working, and the access token has no power over accounts any more; " +
			"functions with a " +
			"database refuse it as soon as they have learnt of it, others take it until it expires.",
	}
)

type loginInput struct {
	Agent string `header:"User-Agent" hidden:"true"`
	Body  struct {
		Code     string            `json:"code,omitempty" maxLength:"64" writeOnly:"true" doc:"Of the second factor, or a recovery code, if the account has one."`
		Email    string            `json:"email"`
		Password string            `json:"password" format:"password" writeOnly:"true"`
		Passkey  *PasskeyAssertion `json:"passkey,omitempty" doc:"In place of code: what the browser gave for the options of POST /api/sessions/passkey/options."`
		Device   string            `json:"device_token,omitempty" maxLength:"256" writeOnly:"true" doc:"The device_token of an earlier sign-in to this account. One that is not good any more is like none."`
	}
	work work
}

type tokensOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         Tokens
}

// Tokens holds the tokens of a session, named as in RFC 6749 section 5.1.
type Tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	TokenType    string `json:"token_type" enum:"Bearer"`
	ExpiresIn    int    `json:"expires_in" doc:"Seconds until the access token expires."`
	DeviceToken  string `json:"device_token,omitempty" doc:"Of a sign-in: to be kept on the device and sent with its next one. It opens nothing; it is good until the password changes."`
}

// wrong returns the same error for an unknown address and a wrong password, so that it does not tell who is a user.
func (u *users) wrong() error {
	if u.config.AddressProof == proofRequired {
		return fault.New(fault.Unauthenticated, "the e-mail address or the password is wrong, or the address is not "+
			"proven yet: see the mail")
	}
	return fault.New(fault.Unauthenticated, "the e-mail address or the password is wrong")
}

func (u *users) login(ctx context.Context, tx *function.Tx, in *loginInput) (*tokensOutput, error) {
	device, err := u.knownDevice(ctx, tx, in)
	if err != nil {
		return nil, err
	}
	if device != "" {
		ctx = withCaller(ctx, caller{key: device, known: true})
	}
	tries := guesses(ctx, normalise(in.Body.Email), device)
	if err := u.allowed(ctx, tx, tries...); err != nil {
		return nil, err
	}
	id, right, err := u.identify(ctx, tx, in)
	if err != nil {
		return nil, err
	}
	if !right {
		if err := u.count(ctx, tx, tries...); err != nil {
			return nil, err
		}
		u.logRefusal(ctx, id, "password")
		return nil, function.CommitThen(u.wrong())
	}
	a, err := u.accounts.Get(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(id))
	if err != nil {
		return nil, err
	}
	if u.config.AddressProof == proofRequired && u.unproven(a) {
		if err := u.count(ctx, tx, tries...); err != nil { // as a wrong one is
			return nil, err
		}
		if err := u.offerProof(ctx, tx, id, a.Email); err != nil {
			return nil, err
		}
		return nil, function.CommitThen(u.wrong())
	}
	if c.secondFactor() {
		if err := u.demandFactor(ctx, tx, id, &c, in); err != nil {
			u.logRefusal(ctx, id, "second factor")
			return nil, err
		}
	}
	if outdated(c.Password) {
		if c.Password, err = in.work.hash(ctx, u.hasher, in.Body.Password); err != nil {
			return nil, err
		}
	}
	return u.enter(ctx, tx, id, a, c, entry{agent: in.Agent, device: device, secondFactor: c.secondFactor()})
}

// logRefusal logs that a sign-in was refused for the lack of something, for those who watch the system: whose account
// it was, empty for an address that no user has, and never the address or what was tried. A handler that runs again
// logs it again.
func (u *users) logRefusal(ctx context.Context, id, lack string) {
	u.log.InfoContext(ctx, "a sign-in was refused", "user", id, "lacks", lack)
}

// demandFactor returns nil if a sign-in with the right password shows the second factor of the account too: a code,
// which demandFactor marks as used in c, or a passkey.
func (u *users) demandFactor(ctx context.Context, tx *function.Tx, id string, c *credentials, in *loginInput) error {
	if in.Body.Passkey != nil {
		user, err := u.checkPasskey(ctx, tx, *in.Body.Passkey, challenge{Ceremony: ceremonySignIn})
		if err == nil && user != id {
			err = function.CommitThen(badPasskey(fault.Unauthenticated, "body.passkey"))
		}
		return err
	}
	if in.Body.Code == "" {
		return codeWanted(*c)
	}
	ok, err := u.checkCode(ctx, tx, id, c, in.Body.Code)
	if err != nil {
		return err
	}
	if !ok {
		return function.CommitThen(wrongCode(fault.Unauthenticated))
	}
	return nil
}

// entry describes the sign-in of a user who has proven to be the user.
type entry struct {
	agent        string
	device       string // the id of a known device; empty: a new one
	secondFactor bool   // the user has shown a second factor
}

// enter opens a session for a user. It saves the credentials.
func (u *users) enter(
	ctx context.Context, tx *function.Tx, id string, a account, c credentials, e entry,
) (out *tokensOutput, err error) {
	if a.admin() {
		if err := u.enlist(ctx, tx, id); err != nil {
			return nil, err
		}
	}
	if c.Sessions, err = u.makeRoom(ctx, tx, id, c.Sessions); err != nil {
		return nil, err
	}
	session, s, token, err := u.open(ctx, tx, id, e.agent, e.secondFactor)
	if err != nil {
		return nil, err
	}
	c.Sessions = append(c.Sessions, session)
	if c.DeviceKey == "" {
		c.DeviceKey = newSecret()
	}
	if e.device == "" {
		e.device = tx.NewID()
	}
	if err := u.credentials.Put(ctx, tx, credentialsID(id), c); err != nil {
		return nil, err
	}
	out, err = u.tokens(id, a, session, s, token)
	if err == nil {
		u.log.InfoContext(ctx, "a user signed in", "user", id, "session", session, "second_factor", e.secondFactor,
			"staff", a.staff())
		out.Body.DeviceToken = deviceToken(c.DeviceKey, e.device)
	}
	return out, err
}

// knownDevice returns the id of the device that signs in, if it has signed in to this account before; empty otherwise.
func (u *users) knownDevice(ctx context.Context, tx *function.Tx, in *loginInput) (string, error) {
	if in.Body.Device == "" {
		return "", nil
	}
	id, err := u.userOf(ctx, tx, in.Body.Email)
	if err != nil || id == "" {
		return "", err
	}
	c, _, err := u.credentials.Find(ctx, tx, credentialsID(id))
	return deviceOf(c.DeviceKey, in.Body.Device), err
}

// identify returns the id of the user whose credentials these are, and whether they are right. Every refusal costs
// exactly one hash.
func (u *users) identify(ctx context.Context, tx *function.Tx, in *loginInput) (id string, right bool, err error) {
	email := normalise(in.Body.Email)
	if u.admin.is(email, in.Body.Password) {
		id, err := u.recoverAdmin(ctx, tx, in)
		return id, err == nil, err
	}
	id, err = u.userOf(ctx, tx, in.Body.Email)
	if err != nil {
		return "", false, err
	}
	stored := u.hasher.decoy
	if id != "" {
		c, err := u.credentials.Get(ctx, tx, credentialsID(id))
		if err != nil {
			return "", false, err
		}
		stored = c.Password
	}
	password := in.Body.Password
	if tooLong(password) {
		password = ""
	}
	right, err = in.work.matches(ctx, u.hasher, password, stored)
	return id, id != "" && right, err
}

// makeRoom forgets the sessions that are over, and the oldest ones beyond the limit.
func (u *users) makeRoom(ctx context.Context, tx *function.Tx, user string, ids []string) ([]string, error) {
	known, err := u.sessions.GetMany(ctx, tx, ids...)
	if err != nil {
		return nil, err
	}
	var open, ended []string
	for i, id := range ids {
		s, ok := known[id]
		over := !ok || !tx.Now().Before(s.ExpiresAt)
		if !over && len(ids)-i < maxSessions {
			open = append(open, id)
			continue
		}
		if !over {
			ended = append(ended, id)
		}
		if err := u.sessions.Delete(ctx, tx, id); err != nil {
			return nil, err
		}
	}
	u.signedOut(tx, user, ended...)
	return open, nil
}

func (u *users) open(
	ctx context.Context, tx *function.Tx, user, agent string, secondFactor bool,
) (id string, s session, token string, err error) {
	id = tx.NewID()
	token = newToken(id)
	s = session{
		UserID: user, Current: auth.HashToken(token), Agent: agentOf(agent), SecondFactor: secondFactor,
		CreatedAt: tx.Now(), ExpiresAt: tx.Now().Add(u.config.RefreshTTL),
	}
	return id, s, token, u.sessions.Create(ctx, tx, id, s)
}

func (u *users) tokens(user string, a account, id string, s session, refresh string) (*tokensOutput, error) {
	ttl := u.config.AccessTTL
	if a.staff() {
		ttl = min(ttl, u.config.StaffTTL)
	}
	access, _, err := u.issuer.Issue(auth.Grant{Subject: user, Roles: u.rolesOf(a, s), Session: id, TTL: ttl})
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "issue an access token")
	}
	return &tokensOutput{CacheControl: "no-store", Body: Tokens{
		AccessToken: access, RefreshToken: refresh, TokenType: "Bearer", ExpiresIn: int(ttl.Seconds()),
	}}, nil
}
