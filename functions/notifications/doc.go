// Package notifications writes to users: when they sign up, when somebody else asks for
// their address, and when an event happened that the product has a letter for
// (see Config).
//
// It consumes users.registered, users.changed, users.deleted, users.address-taken and the events of the letters. It
// emits notifications.sent and notifications.failed, with ids and the letter's name and never the text.
//
// It stores a copy of the names and e-mail addresses that it writes to. The latest event about a user counts, in
// whatever order they come; the address of a deleted user is erased and only the fact remains.
//
// Mail leaves over SMTP when EBB_SMTP_URL is set, and is logged otherwise. It leaves inside the unit of work, because
// only then does a failure reach the broker's retries: a refusal that is final becomes notifications.failed, anything
// else is tried again. So a crash between mail and commit sends a mail twice; both have the same Message-ID, derived
// from the event, and mail programs show such twins once. A replayed event updates the addresses and sends nothing.
// Mail is slow, so events come one by one, up to sixteen at a time.
package notifications
