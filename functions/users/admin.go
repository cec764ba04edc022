package users

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function"
)

// firstAdmin is who the configuration names. They come to be when they sign in for the first
// time, and once only: an admin who was deleted does not come back through an old setting.
type firstAdmin struct {
	email    string // normalised; empty: nobody is named
	password [sha256.Size]byte
}

func newFirstAdmin(email, password string) firstAdmin {
	return firstAdmin{email: normalise(email), password: sha256.Sum256([]byte(password))}
}

// is compares in the same time whatever differs. Only digests are compared, so no length shows.
func (f firstAdmin) is(email, password string) bool {
	given := sha256.Sum256([]byte(password))
	return f.email != "" && email == f.email && subtle.ConstantTimeCompare(given[:], f.password[:]) == 1
}

// appointment remembers that the first admin of one address has come to be.
type appointment struct {
	At time.Time `json:"at"`
}

// appoint creates the first admin if these are the credentials that the configuration names, and
// nobody came to be by them before.
func (u *users) appoint(ctx context.Context, tx *function.Tx, email string, in *loginInput) (id string, ok bool, err error) {
	if !u.admin.is(email, in.Body.Password) {
		return "", false, nil
	}
	if _, before, err := u.appointments.Find(ctx, tx, emailKey(email)); err != nil || before {
		return "", false, err
	}
	password, err := in.work.hash(ctx, u.hasher, in.Body.Password)
	if err != nil {
		return "", false, err
	}
	if err := u.appointments.Create(ctx, tx, emailKey(email), appointment{At: tx.Now()}); err != nil {
		return "", false, err
	}
	id, err = u.admit(ctx, tx, account{
		Name: "Admin", Email: email, Roles: []string{auth.RoleAdmin, auth.RoleCustomer}, CreatedAt: tx.Now(),
	}, credentials{Password: password})
	return id, err == nil, err
}
