package users

import (
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

// clockSkew is how far the clock of a function that checks tokens may be behind; it takes them for that much longer.
const clockSkew = 5 * time.Second

// signedOut emits that sessions of a user have ended. What has been issued in them is refused by the functions that
// follow these events; that the user is deleted says the same by itself.
func (u *users) signedOut(tx *function.Tx, user string, sessions ...string) {
	if len(sessions) == 0 {
		return
	}
	now := tx.Now()
	// Keyed apart from the user: the event is no version of the account, so it has no sequence, and needs no order.
	tx.Emit(events.UserSignedOut.New(user, events.SignedOutUser{
		UserID: user, SessionIDs: sessions,
		IssuedBefore: now.Truncate(time.Second).Add(time.Second),
		Until:        now.Add(max(u.config.AccessTTL, u.config.StaffTTL) + clockSkew),
	}).Keyed(user + "/sessions"))
}
