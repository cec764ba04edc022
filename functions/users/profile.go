package users

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

var (
	getUser = function.Operation{
		Method: http.MethodGet, Path: "/api/users/{id}", Owner: manifest.OwnerHidden, Scope: manifest.NoKey,
		Summary: "Show a user", Person: "id",
		Description: "Oneself, or anyone for an admin. Somebody else's is 404.", Errors: []int{http.StatusForbidden},
	}
	changeUser = function.Operation{
		Method: http.MethodPatch, Path: "/api/users/{id}", Owner: manifest.OwnerHidden, Scope: manifest.NoKey,
		Summary: "Change a user",
		Description: "What is left out stays. A new password ends the user's other sessions. Only an admin changes " +
			"roles. The last admin keeps theirs: 409. An address that is another user's is answered like a free one: its " +
			"owner gets a mail, and the user signs in with the address until now. Only an admin is told: 409.",
		Idempotency: function.Off, MaxBody: smallBody, // the body may hold a password; see registerUser
		Errors: []int{http.StatusForbidden, http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}
	deleteUser = function.Operation{
		Method: http.MethodDelete, Path: "/api/users/{id}", Owner: manifest.OwnerHidden, Scope: manifest.NoKey,
		Status: http.StatusNoContent, Summary: "Delete a user",
		Description: "Personal data, the claim to the address and all sessions are gone at once; others erase what " +
			"they keep when they hear of it. The last admin stays: 409.",
		Errors: []int{http.StatusForbidden, http.StatusConflict},
	}
	listUsers = function.Operation{
		Method: http.MethodGet, Path: "/api/users", Access: function.Only(auth.RoleAdmin), Summary: "List users",
		Scope:       manifest.NoKey,
		Description: "In the order in which they registered.",
	}
)

type oneUser struct {
	ID string `path:"id" maxLength:"128" doc:"The user's id."`
}

// find returns a user whom the actor may see and change, and the actor.
func (u *users) find(ctx context.Context, tx *function.Tx, id string) (account, actor, error) {
	by, err := u.actor(ctx, tx)
	if err == nil {
		err = by.mayTouch(id)
	}
	if err != nil {
		return account{}, by, err
	}
	if by.id == id {
		return by.account, by, nil
	}
	a, ok, err := u.accounts.Find(ctx, tx, id)
	if err == nil && (!ok || a.Deleted) {
		err = noSuchUser()
	}
	return a, by, err
}

func (u *users) get(ctx context.Context, tx *function.Tx, in *oneUser) (*userOutput, error) {
	a, by, err := u.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	return &userOutput{Body: a.shownTo(by, in.ID)}, nil
}

type changeInput struct {
	ID     string `path:"id" maxLength:"128" doc:"The user's id."`
	StepUp string `header:"Ebb-Step-Up" maxLength:"256" doc:"A step-up token of the caller, instead of current_password."`
	Body   struct {
		Name            *string  `json:"name,omitempty" doc:"1 to 200 characters."`
		Email           *string  `json:"email,omitempty" maxLength:"320"`
		Password        *string  `json:"password,omitempty" format:"password" writeOnly:"true" doc:"15 to 128 characters, 8 beside a second factor, unless the system asks for fewer; not a common one."`
		CurrentPassword *string  `json:"current_password,omitempty" format:"password" writeOnly:"true" doc:"The caller's own. It, or Ebb-Step-Up, is required for another address or password."`
		Roles           []string `json:"roles,omitempty" minItems:"1" maxItems:"8" uniqueItems:"true" enum:"customer,viewer,operator,admin"`
	}
	work work
}

func (u *users) change(ctx context.Context, tx *function.Tx, in *changeInput) (*userOutput, error) {
	before, by, err := u.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(in.ID))
	if err != nil {
		return nil, err
	}
	after, err := in.applied(before, by, c.shortest(u.config), u.config)
	if err != nil {
		return nil, err
	}
	if in.Body.Password != nil || after.Email != before.Email {
		if err := u.demandRecent(ctx, tx, by, in.recent()); err != nil {
			return nil, err
		}
	}
	if in.Body.Password != nil {
		if err := u.changePassword(ctx, tx, in, c); err != nil {
			return nil, err
		}
	}
	switch {
	case after.admin() && !before.admin():
		err = u.enlist(ctx, tx, in.ID)
	case before.admin() && !after.admin():
		err = u.delist(ctx, tx, by, in.ID)
	}
	if err != nil {
		return nil, err
	}
	if in.Body.Email != nil {
		if after, err = u.move(ctx, tx, by, in.ID, before, after); err != nil {
			return nil, err
		}
	}
	// Each version of a user is one event: a write without one would be a gap for the consumers.
	if !after.equal(before) {
		if err := u.save(ctx, tx, in.ID, after); err != nil {
			return nil, err
		}
		u.revokeRoles(tx, in.ID, before.Roles, after.Roles)
		if err := u.narrowKeys(ctx, tx, in.ID, before.Roles, after.Roles); err != nil {
			return nil, err
		}
	}
	return &userOutput{Body: after.shownTo(by, in.ID)}, nil
}

func (in *changeInput) recent() recent {
	r := recent{stepUp: in.StepUp, work: &in.work}
	if in.Body.CurrentPassword != nil {
		r.password = *in.Body.CurrentPassword
	}
	return r
}

// applied returns the account with what the request changes.
func (in *changeInput) applied(a account, by actor, shortest int, c Config) (account, error) {
	var checks [][]fault.Detail
	if in.Body.Name != nil {
		a.Name = strings.TrimSpace(*in.Body.Name)
		checks = append(checks, checkName(a.Name))
	}
	if in.Body.Email != nil {
		a.Email = normalise(*in.Body.Email)
		checks = append(checks, checkEmail(a.Email))
	}
	if in.Body.Password != nil {
		checks = append(checks, c.checkPassword("body.password", *in.Body.Password, shortest, a))
	}
	if len(in.Body.Roles) > 0 {
		if err := by.demand(); err != nil {
			return account{}, err
		}
		a.Roles = slices.Sorted(slices.Values(in.Body.Roles))
	}
	return a, invalid(checks...)
}

// changePassword sets a new password. A token that was mailed before to reset the password is void.
func (u *users) changePassword(ctx context.Context, tx *function.Tx, in *changeInput, c credentials) error {
	if tx.Principal().Subject != in.ID { // an admin: a stranger who knew the password until now may have made keys
		if err := u.revokeKeys(ctx, tx, in.ID); err != nil {
			return err
		}
	}
	if err := u.proofs.Delete(ctx, tx, proofID(ofReset, in.ID)); err != nil {
		return err
	}
	tellUser(tx, in.ID, events.PasswordChanged, "")
	return u.setPassword(ctx, tx, in.ID, c, *in.Body.Password, &in.work, sessionOfCaller(tx, in.ID))
}

// setPassword saves the credentials of a user with a new password. It ends the sessions of the user, but for one to
// keep. The caller revokes whatever else the old password may have opened.
func (u *users) setPassword(
	ctx context.Context, tx *function.Tx, user string, c credentials, password string, w *work, keep string,
) (err error) {
	if c.Password, err = w.hash(ctx, u.hasher, password); err != nil {
		return err
	}
	c.DeviceKey = "" // a device may have signed in with the old password
	if err := u.endSessions(ctx, tx, user, &c, keep); err != nil {
		return err
	}
	return u.credentials.Put(ctx, tx, credentialsID(user), c)
}

// endSessions ends the sessions of a user, but for one to keep, and emits that they have ended. The caller saves c.
func (u *users) endSessions(ctx context.Context, tx *function.Tx, user string, c *credentials, keep string) error {
	var kept, ended []string
	for _, s := range c.Sessions {
		if s == keep {
			kept = append(kept, s)
			continue
		}
		if err := u.sessions.Delete(ctx, tx, s); err != nil {
			return err
		}
		ended = append(ended, s)
	}
	c.Sessions = kept
	u.signedOut(tx, user, ended...)
	return nil
}

// move hands the user another address and lets go of the old one. If the address is another user's, only an admin is
// told, who may see all addresses: the user sees the address as their own, its owner gets a mail, and nothing else
// changes. Where addresses have to be proven, a free one is answered like that too, and changes nothing before it is.
func (u *users) move(
	ctx context.Context, tx *function.Tx, by actor, id string, before, after account,
) (account, error) {
	if after.Email == before.Email {
		after.Wanted = ""
		return after, nil
	}
	if !by.admin {
		try := moves.of(id)
		if err := u.allowed(ctx, tx, try); err != nil {
			return after, err
		}
		if err := u.count(ctx, tx, try); err != nil {
			return after, err
		}
	}
	owner, taken, err := u.ownerOf(ctx, tx, after.Email, id)
	switch {
	case err != nil:
		return after, err
	case taken && by.admin:
		return after, fault.New(fault.Conflict, "this e-mail address is taken")
	case taken:
		after.Email, after.Wanted = before.Email, after.Email
		return after, u.tellOwner(ctx, tx, id, owner, after.Wanted)
	case u.config.AddressProof == proofRequired && !by.admin:
		after.Email, after.Wanted = before.Email, after.Email
		return after, u.offerProof(ctx, tx, id, after.Wanted)
	}
	after.Wanted = ""
	if err := u.moveClaim(ctx, tx, id, before.Email, after.Email); err != nil {
		return after, err
	}
	return after, u.offerProof(ctx, tx, id, after.Email)
}

// moveClaim gives the user the claim to a free address in place of the old one, whose reader is told.
func (u *users) moveClaim(ctx context.Context, tx *function.Tx, id, from, to string) error {
	if err := u.emails.Create(ctx, tx, emailKey(to), claim{UserID: id}); err != nil {
		return err
	}
	if err := u.emails.Delete(ctx, tx, emailKey(from)); err != nil {
		return err
	}
	tellUser(tx, id, events.EmailChanged, from)
	return nil
}

func (u *users) remove(ctx context.Context, tx *function.Tx, in *oneUser) (*struct{}, error) {
	a, by, err := u.find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	if a.admin() {
		if err := u.delist(ctx, tx, by, in.ID); err != nil {
			return nil, err
		}
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(in.ID))
	if err != nil {
		return nil, err
	}
	for _, s := range c.Sessions {
		if err := u.sessions.Delete(ctx, tx, s); err != nil {
			return nil, err
		}
	}
	if err := u.forgetProofs(ctx, tx, in.ID); err != nil {
		return nil, err
	}
	if err := u.passkeys.forget(ctx, tx, &c); err != nil {
		return nil, err
	}
	if err := u.credentials.Delete(ctx, tx, credentialsID(in.ID)); err != nil {
		return nil, err
	}
	if err := u.emails.Delete(ctx, tx, emailKey(a.Email)); err != nil {
		return nil, err
	}
	if err := u.eraseKeys(ctx, tx, in.ID); err != nil {
		return nil, err
	}
	if err := u.accounts.Replace(ctx, tx, in.ID, account{Deleted: true}); err != nil {
		return nil, err
	}
	tx.Emit(events.UserDeleted.New(in.ID, events.DeletedUser{UserID: in.ID}))
	tx.Emit(event.PersonErased.New(in.ID, event.ErasedPerson{PersonID: in.ID}).Keyed(in.ID + "/erased"))
	u.revokeAll(tx, in.ID)
	return nil, nil
}

type listInput struct{ function.Paging }

func (u *users) list(ctx context.Context, tx *function.Tx, in *listInput) (*function.Page[User], error) {
	by, err := u.actor(ctx, tx)
	if err == nil {
		err = by.demand()
	}
	if err != nil {
		return nil, err
	}
	page, err := u.accounts.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "deleted", Op: store.Equal, Value: false}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	return function.PageOf(page, func(item store.Item[account]) User { return item.Value.shown(item.ID) }), nil
}
