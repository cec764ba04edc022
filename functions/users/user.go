package users

import (
	"crypto/sha256"
	"encoding/base64"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
)

// User is a user in the API.
type User struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Email     string    `json:"email"`
	Proven    bool      `json:"email_proven,omitempty" doc:"The user has proven to read the mail of the address."`
	Roles     []string  `json:"roles"`
	CreatedAt time.Time `json:"created_at"`
}

// account is a stored user. A deleted one has no field but Deleted.
type account struct {
	Name      string    `json:"name,omitempty"`
	Email     string    `json:"email,omitempty"` // normalised
	Roles     []string  `json:"roles,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	// An address that the user asked for, and another has, or which is not proven yet; only the user sees it.
	Wanted  string `json:"wanted,omitempty"`
	Proven  string `json:"proven,omitempty"` // the address whose mail the user has proven to read, maybe one of before
	Deleted bool   `json:"deleted"`
}

func (a account) shown(id string) User {
	return User{ID: id, Name: a.Name, Email: a.Email, Proven: a.proven(), Roles: a.Roles, CreatedAt: a.CreatedAt}
}

// admin reports whether the account is that of an admin.
func (a account) admin() bool { return !a.Deleted && slices.Contains(a.Roles, auth.RoleAdmin) }

// staff reports whether the account has a role beyond that of a customer.
func (a account) staff() bool {
	return slices.ContainsFunc(a.Roles, func(role string) bool { return role != auth.RoleCustomer })
}

// shownTo returns the user for the actor: a user who asked for another's address is not told that it is.
func (a account) shownTo(by actor, id string) User {
	u := a.shown(id)
	if !by.admin && a.Wanted != "" {
		u.Email, u.Proven = a.Wanted, false
	}
	return u
}

func (a account) equal(b account) bool {
	return a.Name == b.Name && a.Email == b.Email && a.Wanted == b.Wanted && a.Proven == b.Proven &&
		slices.Equal(a.Roles, b.Roles)
}

// claim is the entry that assigns an address to a user.
type claim struct {
	UserID string `json:"user_id"`
}

func noSuchUser() error { return fault.New(fault.NotFound, "there is no such user") }

const (
	maxID    = 128
	maxName  = 200
	maxEmail = 254
)

// normalise returns the same form for all spellings of one address: lower case, composed characters (NFC, RFC 6532
// section 3.1), and the domain in Unicode, which users type, for one in Punycode (RFC 5891). Strictly the part before
// the @ may be told apart by case; no mail provider of today does, and people mistype it.
func normalise(email string) string {
	email = norm.NFC.String(strings.ToLower(strings.TrimSpace(email)))
	at := strings.LastIndexByte(email, '@')
	if domain, err := idna.Lookup.ToUnicode(email[at+1:]); err == nil && at >= 0 {
		email = email[:at+1] + domain
	}
	return email
}

// claimKeys returns the ids that the claim of an address may have, the likeliest first. Versions of this function that
// knew no spellings but those in case have stored the one that was typed. It is first, because with those versions two
// users could have one address in two spellings, and each of them signs in with their own.
func claimKeys(typed string) []string {
	now := normalise(typed)
	apart := norm.NFD.String(now)
	spellings := []string{strings.ToLower(strings.TrimSpace(typed)), now, apart}
	if at := strings.LastIndexByte(now, '@'); at >= 0 {
		if domain, err := idna.Lookup.ToASCII(now[at+1:]); err == nil {
			spellings = append(spellings, now[:at+1]+domain, apart[:strings.LastIndexByte(apart, '@')+1]+domain)
		}
	}
	var keys []string
	for _, s := range spellings {
		if key := emailKey(s); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// emailKey returns the id of an address's claim: a hash, since an id must suit every store and a
// store may show ids where it does not show documents.
func emailKey(normalised string) string {
	sum := sha256.Sum256([]byte(normalised))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func checkEmail(normalised string) []fault.Detail {
	a, err := mail.ParseAddress(normalised)
	local, domain, _ := strings.Cut(normalised, "@")
	switch {
	case err != nil, a.Address != normalised, local == "", domain == "",
		strings.ContainsAny(normalised, " \t\"()<>[],:;\\"),
		strings.ContainsFunc(normalised, unicode.IsControl):
		return []fault.Detail{{Location: "body.email", Message: "is not an e-mail address"}}
	case len(normalised) > maxEmail:
		return []fault.Detail{{Location: "body.email", Message: "is longer than 254 bytes"}}
	}
	return nil
}

func checkName(name string) []fault.Detail {
	n := utf8.RuneCountInString(name)
	switch {
	case n == 0 || n > maxName:
		return []fault.Detail{{Location: "body.name", Message: "must have 1 to 200 characters besides the blanks around it"}}
	case strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name):
		return []fault.Detail{{Location: "body.name", Message: "must not have control characters"}}
	}
	return nil
}

// invalid returns one error with all details of the checks; nil when there are none.
func invalid(checks ...[]fault.Detail) error {
	if details := slices.Concat(checks...); len(details) > 0 {
		return fault.New(fault.Invalid, "the user is not acceptable like this").With(details...)
	}
	return nil
}
