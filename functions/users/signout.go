package users

import (
	"slices"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
)

// clockSkew is how far the clocks of two functions may be apart. A function whose clock is behind accepts a token for
// that much longer.
const clockSkew = 5 * time.Second

// lastToken returns the time after which no access token that was issued until now is valid.
func (u *users) lastToken(now time.Time) time.Time {
	return now.Add(max(u.config.AccessTTL, u.config.StaffTTL) + clockSkew)
}

// wholeSecond returns t rounded up to a second: iat is a whole second, rounded down.
func wholeSecond(t time.Time) time.Time { return t.Truncate(time.Second).Add(time.Second) }

// signedOut emits that sessions of a user have ended, and that their access tokens are revoked.
func (u *users) signedOut(tx *function.Tx, user string, sessions ...string) {
	if len(sessions) == 0 {
		return
	}
	before, until := wholeSecond(tx.Now()), u.lastToken(tx.Now())
	// Keyed apart from the user: the event is no version of the account, so it has no sequence, and needs no order.
	tx.Emit(events.UserSignedOut.New(user, events.SignedOutUser{
		UserID: user, SessionIDs: sessions, IssuedBefore: before, Until: until,
	}).Keyed(user + "/sessions"))
	u.revoke(tx, event.RevokedAccess{Subject: user, Sessions: sessions, IssuedBefore: before, Until: until})
}

// revokeAll emits that all access tokens of a user are revoked, who gets no others.
func (u *users) revokeAll(tx *function.Tx, user string) {
	until := u.lastToken(tx.Now())
	u.revoke(tx, event.RevokedAccess{Subject: user, IssuedBefore: until, Until: until})
}

// lostRoles returns the roles of before that are not in after.
func lostRoles(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(before), func(role string) bool { return slices.Contains(after, role) })
}

// revokeRoles emits which roles the access tokens of a user do not give any more.
func (u *users) revokeRoles(tx *function.Tx, user string, before, after []string) {
	lost := lostRoles(before, after)
	if len(lost) == 0 {
		return
	}
	// A token that another instance issued just now, whose clock is ahead, has a later iat than this instance's.
	u.revoke(tx, event.RevokedAccess{
		Subject: user, Roles: lost, IssuedBefore: wholeSecond(tx.Now().Add(clockSkew)), Until: u.lastToken(tx.Now()),
	})
}

// revoke emits a revocation. Revocations of a user need no order and are no versions of the account.
func (u *users) revoke(tx *function.Tx, r event.RevokedAccess) {
	tx.Emit(event.AccessRevoked.New(r.Subject, r).Keyed(r.Subject + "/access"))
}
