// Package notifications sends letters to users: when they sign up, when a second person registers with their address,
// and for each event that the product has a letter for (see Config).
//
// It consumes users.registered, users.changed, users.deleted, users.address-taken and the events of the letters. It
// emits notifications.sent and notifications.failed, with ids and the letter's name and never the text.
//
// It stores a copy of the users' names and e-mail addresses. The latest event about a user counts, in any order of
// arrival. When a user is deleted the name and address are erased; only the mark that the user is deleted stays.
//
// Mail is sent by SMTP when EBB_SMTP_URL is set, and is logged otherwise. It is an outside call (infra/outside): the
// event commits that a letter is to be sent, and that it was sent commits afterwards. A final refusal becomes
// notifications.failed; any other failure is tried again for four days. So a crash between the mail and the second
// commit sends a mail twice; both have the same Message-ID, derived from the event, so that mail programs may show them
// as one. A letter goes to the address that its user has when it is sent, and to no user who is deleted by then. A
// replayed event updates the addresses and sends nothing. Mail is slow, so events are handled one by one, up to sixteen
// of them concurrently.
package notifications
