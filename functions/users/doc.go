// Package users registers people, signs them in and out, and publishes the keys that their access tokens are checked
// with.
//
// Consumes: nothing but the clock's sweep.
//
// Emits: users.registered, users.changed, users.deleted. Each write of a user is one event, so the sequence of a user's
// events has no gaps. Three more are no version of the user and have no sequence: users.signed-out, when sessions of
// the user have ended; users.address-taken, when another has asked for the user's address, so that the user is told;
// and the kit's users.access-revoked, which names the access tokens that every function refuses from then on. Three are
// for mails: users.email-proof-requested and users.password-reset-requested with a token, encrypted as personal data,
// and users.security-changed.
//
// Owns, one collection each:
//
//   - users: name, address and roles by the user's id. A deleted user leaves an entry without personal data, which
//     numbers the last event and keeps the id taken.
//   - emails: the id of the user who has an address, by the hash of the normalised address. That entry makes an address
//     unique.
//   - credentials: the password as an argon2id PHC string, the second factor, and the ids of the open sessions and of
//     the passkeys.
//   - passkeys: the public keys, by the hash of the credential id. That entry makes a passkey unique.
//   - challenges: hashes of the challenges that passkeys are to sign, each good once. They expire.
//   - proofs: hashes of the tokens that were mailed, to prove an address or to reset a password. They expire.
//   - sessions: one entry per family of refresh tokens, holding hashes only, removed when they have expired.
//   - staff: some of the admins, so that one who leaves finds another.
//   - attempts: how often a password was wrong, for an account, an address, a device; how often a network has
//     registered. They expire.
//
// Delivery: there is nothing to receive. A request that comes twice under one Idempotency-Key is carried out once, as
// everywhere; without a key a second registration finds the address taken, and a second sign-in opens a second session.
//
// A client does not learn who is a user: a taken address is answered like a free one, by the same work, and a wrong
// password like an unknown address. It can still sign in with the password that it registered with: that this fails
// shows that the address was taken. With EBB_ADDRESS_PROOF=required it fails for a free address too, until that is
// proven.
//
// Guessing is slowed down by account, by network and by both; see limits.go. A device that has signed in before shows
// so by a token, and is not kept waiting by what others try. The network is that of function.ClientAddr. A client that
// can choose its address, which only one inside of the platform's network can, gets past the limits by network, and not
// past those by account.
//
// The stored account decides what a request may do here. It is read in the request's unit of work: a token has no power
// over accounts once its account is deleted, its role is lost or its session has ended. Other functions refuse the
// token when they have handled users.access-revoked; see docs/security.md. A change of how a user signs in needs more
// than an access token; see stepup.go. There is always an admin: the last one cannot leave. The admin whom the
// configuration names can always sign in, whatever another admin did to the account. A refresh token works once. If a
// used one is shown again, two parties hold it, so the whole session ends.
package users
