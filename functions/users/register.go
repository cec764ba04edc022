package users

import (
	"context"
	"net/http"
	"strings"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// The body holds a password, and a kept answer would be kept beside a quick hash of the request; so
// there is no Idempotency-Key here. A repetition is refused because the address is taken.
var registerUser = function.Operation{
	Method: http.MethodPost, Path: "/api/users", Status: http.StatusCreated, Access: function.Public,
	Summary: "Register", Idempotency: function.Off, MaxBody: smallBody, Errors: []int{http.StatusConflict, http.StatusServiceUnavailable},
	Description: "Anyone may register and is a customer then. A taken address is 409.",
}

type registerInput struct {
	Body struct {
		Name     string `json:"name" doc:"1 to 200 characters."`
		Email    string `json:"email" maxLength:"320" doc:"Unique among all users, in upper or lower case."`
		Password string `json:"password" format:"password" writeOnly:"true" doc:"8 to 128 characters."`
	}
	work work
}

type userOutput struct {
	Location string `header:"Location"`
	Body     User
}

func (u *users) register(ctx context.Context, tx *function.Tx, in *registerInput) (*userOutput, error) {
	a := account{
		Name: strings.TrimSpace(in.Body.Name), Email: normalise(in.Body.Email),
		Roles: []string{auth.RoleCustomer}, CreatedAt: tx.Now(),
	}
	if err := invalid(checkName(a.Name), checkEmail(a.Email), checkPassword(in.Body.Password)); err != nil {
		return nil, err
	}
	if err := u.free(ctx, tx, a.Email); err != nil {
		return nil, err
	}
	password, err := in.work.hash(ctx, u.hasher, in.Body.Password)
	if err != nil {
		return nil, err
	}
	id, err := u.admit(ctx, tx, a, credentials{Password: password})
	if err != nil {
		return nil, err
	}
	return &userOutput{Location: "/api/users/" + id, Body: a.shown(id)}, nil
}

// free answers fault.Conflict when the address is somebody's, or kept for the configured admin: whoever
// registered that one would bar the admin from the shop.
func (u *users) free(ctx context.Context, tx *function.Tx, email string) error {
	_, taken, err := u.emails.Find(ctx, tx, emailKey(email))
	if err != nil {
		return err
	}
	if taken || email == u.admin.email {
		return fault.New(fault.Conflict, "this e-mail address is taken")
	}
	return nil
}

// admit writes a new user down, with all that belongs to one.
func (u *users) admit(ctx context.Context, tx *function.Tx, a account, c credentials) (id string, err error) {
	id = tx.NewID()
	if err := u.emails.Create(ctx, tx, emailKey(a.Email), claim{UserID: id}); err != nil {
		return "", err
	}
	if err := u.accounts.Create(ctx, tx, id, a); err != nil {
		return "", err
	}
	if err := u.credentials.Create(ctx, tx, credentialsID(id), c); err != nil {
		return "", err
	}
	if a.admin() {
		if err := u.enlist(ctx, tx, id); err != nil {
			return "", err
		}
	}
	tx.Emit(events.UserRegistered.New(id, events.RegisteredUser{UserID: id, Name: a.Name, Email: a.Email, Roles: a.Roles}))
	return id, nil
}
