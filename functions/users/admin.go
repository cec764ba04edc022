package users

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"slices"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function"
)

// configuredAdmin holds the admin that the configuration names. No other admin can lock this one out: signing in
// with the configured address and password makes the account if there is none, gives it the role, and makes the
// configured password the only one.
type configuredAdmin struct {
	email    string // normalised; empty: none is configured
	password [sha256.Size]byte
}

func newConfiguredAdmin(email, password string) configuredAdmin {
	return configuredAdmin{email: normalise(email), password: sha256.Sum256([]byte(typed(password)))}
}

// is compares in the same time whatever differs. Only digests are compared, so no length shows.
func (f configuredAdmin) is(email, password string) bool {
	given := sha256.Sum256([]byte(typed(password)))
	return f.email != "" && email == f.email && subtle.ConstantTimeCompare(given[:], f.password[:]) == 1
}

// recoverAdmin returns the id of the configured admin, who showed the configured password. Whatever of the account is
// not as configured is made so; the sessions that another password opened end.
func (u *users) recoverAdmin(ctx context.Context, tx *function.Tx, in *loginInput) (id string, err error) {
	id, err = u.userOf(ctx, tx, u.admin.email)
	if err != nil {
		return "", err
	}
	if id == "" {
		password, err := in.work.hash(ctx, u.hasher, in.Body.Password)
		if err != nil {
			return "", err
		}
		return u.admit(ctx, tx, account{
			Name: "Admin", Email: u.admin.email, Proven: u.admin.email, CreatedAt: tx.Now(),
			Roles: []string{auth.RoleAdmin, auth.RoleCustomer},
		}, credentials{Password: password})
	}
	c, err := u.credentials.Get(ctx, tx, credentialsID(id))
	if err != nil {
		return "", err
	}
	same, err := in.work.matches(ctx, u.hasher, in.Body.Password, c.Password)
	if err == nil && !same {
		err = u.resetPassword(ctx, tx, id, c, in)
	}
	if err != nil {
		return "", err
	}
	return id, u.restoreRole(ctx, tx, id)
}

func (u *users) resetPassword(ctx context.Context, tx *function.Tx, id string, c credentials, in *loginInput) error {
	if err := u.revokeKeys(ctx, tx, id); err != nil {
		return err
	}
	if err := u.forgetProofs(ctx, tx, id); err != nil { // another person who reads the mail may have asked for one
		return err
	}
	u.tellRecovery(tx, id, c)
	c.Factor = nil // the person who set another password may have added it, and the passkeys
	if err := u.passkeys.forget(ctx, tx, &c); err != nil {
		return err
	}
	return u.setPassword(ctx, tx, id, c, in.Body.Password, &in.work, "")
}

// tellRecovery has mails sent about what a recovery changes: it may be of a person who knows the configuration, and is
// not the admin.
func (u *users) tellRecovery(tx *function.Tx, id string, before credentials) {
	tellUser(tx, id, events.PasswordChanged, "")
	if before.app() {
		tellUser(tx, id, events.SecondFactorRemoved, "")
	}
	if len(before.Passkeys) > 0 {
		tellUser(tx, id, events.PasskeyRemoved, "")
	}
}

func (u *users) restoreRole(ctx context.Context, tx *function.Tx, id string) error {
	a, err := u.accounts.Get(ctx, tx, id)
	if err != nil || a.admin() {
		return err
	}
	a.Roles = append(slices.Clone(a.Roles), auth.RoleAdmin)
	slices.Sort(a.Roles)
	return u.save(ctx, tx, id, a)
}

// save writes a changed account and emits the change: each version of a user is one event.
func (u *users) save(ctx context.Context, tx *function.Tx, id string, a account) error {
	if err := u.accounts.Put(ctx, tx, id, a); err != nil {
		return err
	}
	tx.Emit(events.UserChanged.New(id, events.ChangedUser{UserID: id, Name: a.Name, Email: a.Email, Roles: a.Roles}))
	return nil
}
