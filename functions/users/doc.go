// Package users knows who may use the shop: it registers people, signs them in and
// out, and publishes the keys that everybody else checks their tokens with.
//
// Hears: nothing.
//
// Says: users.registered, users.changed, users.deleted. Each write of a user is one
// event, so the sequence of a user's events has no gaps. And two that have no sequence:
// users.signed-out, sessions of the user have ended, and what was issued in them is to be refused;
// users.address-taken, somebody has asked for the user's address, and the user is to be told.
//
// Owns, one collection each:
//
//   - users: name, address and roles by the user's id. A deleted user leaves an entry
//     without personal data, which numbers the last event and keeps the id taken.
//   - emails: whose address it is, by the hash of the normalised address. That entry is
//     what makes an address unique.
//   - credentials: the password as an argon2id PHC string, and the ids of the open sessions.
//   - sessions: one entry per family of refresh tokens, holding hashes only.
//   - staff: some of the admins, so that one who leaves finds another.
//   - attempts: how often a password was wrong, for an account, an address, a device; how often a network has registered.
//     They expire, and what is tried later removes them.
//
// Delivery: there is nothing to receive. A request that comes twice under one
// Idempotency-Key is carried out once, as everywhere; without a key a second registration finds
// the address taken, and a second sign-in opens a second session.
//
// A stranger learns nothing of who is a user: a taken address is answered like a free one, by the same work, and a wrong
// password like an unknown address. What a stranger can still do is to sign in with the password they registered with: that it
// fails shows that the address was taken. Only a proof of the address, before an account can be used, would end that.
//
// Guessing is slowed down by account, by network and by both; see limits.go. A device that has signed in before shows so by a token,
// and is not kept waiting by what others try. The network is that of function.ClientAddr. A client that can choose its address,
// which only one inside of the platform's network can, gets past the limits by network, and not past those by account.
//
// What somebody may do here, the stored account says, which is read in the unit of work of each
// request: a token gives no power over accounts after its account is gone, its role is lost or its session has ended.
// Elsewhere an access token is valid until it expires; it is short-lived for that reason, that of staff
// above all. There is always an admin: the last one cannot leave. And the admin whom the configuration names always
// gets in, whatever another admin did to their account. A refresh token works once. Showing a used one again
// means that two parties hold it, so the whole session ends.
package users
