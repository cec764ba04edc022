package users

import (
	"context"
	"net/http"
	"strings"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function"
)

// The body holds a password, and a kept answer would be kept beside a quick hash of the request; so
// there is no Idempotency-Key here. A repetition finds the address taken.
var registerUser = function.Operation{
	Method: http.MethodPost, Path: "/api/users", Status: http.StatusCreated, Access: function.Public,
	Summary: "Register", Idempotency: function.Off, MaxBody: smallBody,
	Errors: []int{http.StatusTooManyRequests, http.StatusServiceUnavailable},
	Description: "Anyone may register and is a customer then. A taken address is answered like a free one, so that " +
		"nobody learns who is a user: the id is nobody's then, and the owner of the address gets a mail. A client that " +
		"registers many has to wait: 429 with Retry-After.",
}

type registerInput struct {
	Body struct {
		Name     string `json:"name" doc:"1 to 200 characters."`
		Email    string `json:"email" maxLength:"320" doc:"Unique among all users, in upper or lower case."`
		Password string `json:"password" format:"password" writeOnly:"true" doc:"15 to 128 characters, unless the system asks for fewer; not a common one."`
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
	weak := u.config.checkPassword("body.password", in.Body.Password, u.config.PasswordMin, a)
	if err := invalid(checkName(a.Name), checkEmail(a.Email), weak); err != nil {
		return nil, err
	}
	tries := fromNetwork(ctx, registrations)
	if err := u.allowed(ctx, tx, tries...); err != nil {
		return nil, err
	}
	owner, taken, err := u.ownerOf(ctx, tx, in.Body.Email, "")
	if err != nil {
		return nil, err
	}
	password, err := in.work.hash(ctx, u.hasher, in.Body.Password) // of a taken address too: it takes as long
	if err != nil {
		return nil, err
	}
	if err := u.count(ctx, tx, tries...); err != nil {
		return nil, err
	}
	if taken {
		id := tx.NewID()
		return &userOutput{Location: "/api/users/" + id, Body: a.shown(id)}, u.tellOwner(ctx, tx, id, owner, a.Email)
	}
	id, err := u.admit(ctx, tx, a, credentials{Password: password})
	if err != nil {
		return nil, err
	}
	return &userOutput{Location: "/api/users/" + id, Body: a.shown(id)}, u.offerProof(ctx, tx, id, a.Email)
}

// ownerOf reports whether a user other than the one asking has the address, and which. The configured admin's is taken
// also when they have no account: a user who had it would lose it to them.
func (u *users) ownerOf(
	ctx context.Context, tx *function.Tx, email, asking string,
) (owner string, taken bool, err error) {
	ids, err := u.usersOf(ctx, tx, email)
	for _, id := range ids {
		if id != asking {
			return id, true, err
		}
	}
	return "", normalise(email) == u.admin.email, err
}

// usersOf returns the users who have the address, the one who spells it like this first. More
// than one have it only from before this function knew spellings, see claimKeys.
func (u *users) usersOf(ctx context.Context, tx *function.Tx, email string) (ids []string, err error) {
	keys := claimKeys(email)
	known, err := u.emails.GetMany(ctx, tx, keys...)
	for _, key := range keys {
		if c, ok := known[key]; ok {
			ids = append(ids, c.UserID)
		}
	}
	return ids, err
}

// userOf returns the user who has the address; "" if there is none.
func (u *users) userOf(ctx context.Context, tx *function.Tx, email string) (id string, err error) {
	ids, err := u.usersOf(ctx, tx, email)
	if err != nil || len(ids) == 0 {
		return "", err
	}
	return ids[0], nil
}

// tellOwner has a mail sent to the owner of an address that another has asked for: one a day, since any client can ask.
// It counts for the one who asks as offerProof does, who is told nothing.
func (u *users) tellOwner(ctx context.Context, tx *function.Tx, asking, owner, email string) error {
	if _, err := u.askedProof(ctx, tx, asking); err != nil {
		return err
	}
	may, err := u.mayTry(ctx, tx, mails.of(email))
	if err != nil || !may || owner == "" {
		return err
	}
	// Keyed apart from the user: the event is no version of the account.
	tx.Emit(events.UserAddressTaken.New(owner, events.TakenAddress{UserID: owner}).Keyed(owner + "/address"))
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
