// Package users knows who may use the shop: it registers people, signs them in and
// out, and publishes the keys that everybody else checks their tokens with.
//
// Hears: nothing.
//
// Says: users.registered, users.changed, users.deleted. Each write of a user is one
// event, so the sequence of a user's events has no gaps.
//
// Owns, one collection each:
//
//   - users: name, address and roles by the user's id. A deleted user leaves an entry
//     without personal data, which numbers the last event and keeps the id taken.
//   - emails: whose address it is, by the hash of the normalised address. That entry is
//     what makes an address unique.
//   - credentials: the password as an argon2id PHC string, and the ids of the open sessions.
//   - sessions: one entry per family of refresh tokens, holding hashes only.
//   - appointments: which configured first admin has been created already.
//
// Delivery: there is nothing to receive. A request that comes twice under one
// Idempotency-Key is carried out once, as everywhere; without a key a second registration is
// refused because the address is taken, and a second sign-in opens a second session.
//
// An access token is valid until it expires, also after its session or its user is gone;
// it is short-lived for that reason. A refresh token works once. Showing a used one again
// means that two parties hold it, so the whole session ends.
package users
