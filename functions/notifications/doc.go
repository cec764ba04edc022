// Package notifications writes to customers: when they sign up, when somebody else asks for their address, and when an
// order has ended.
//
// Hears users.registered, users.changed, users.deleted, users.address-taken, orders.confirmed and orders.cancelled.
// Says notifications.sent and notifications.failed, with ids and the template's name and never the text.
//
// Owns the replica of names and e-mail addresses that it writes to. The latest word about a user holds, in whatever
// order it comes; a deleted user's address is erased and only the fact remains.
//
// Mail leaves over SMTP when EBB_SMTP_URL is set, and is logged otherwise. It leaves inside the
// unit of work, because only then does a failure reach the broker's retries: a refusal that is final becomes
// notifications.failed, anything else is tried again. So a crash between mail and commit sends a mail twice;
// both have the same Message-ID, derived from the event, and mail programs show such twins once.
// A replayed event updates the addresses and sends nothing. Mail is slow, so events
// come one by one, up to sixteen at a time.
package notifications
