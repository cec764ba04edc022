package notifications

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// errRefused marks mail that no further attempt will deliver; its text is for people.
var errRefused = errors.New("refused")

// notify sends the letter and emits whether it left. Events about different entities come in any order, so an unknown
// user may still become known.
func (n *notifications) notify(ctx context.Context, tx *function.Tx, l Letter, m Message) error {
	if tx.Replayed() {
		return nil
	}
	to, known, err := n.users.Find(ctx, tx, m.UserID)
	switch {
	case err != nil:
		return err
	case !known:
		return fault.New(fault.NotYet, "nothing is known of the user %s yet", m.UserID)
	case to.Deleted:
		n.failed(tx, l, m, "the user is gone")
		return nil
	}
	subject, body, err := l.write(facts{Product: n.product, Name: to.Name, Data: m.Data})
	if err != nil {
		return err
	}
	err = n.mail.send(ctx, letter{ID: noticeID(tx, l.name), To: to.Email, Subject: subject, Body: body})
	switch {
	case errors.Is(err, errRefused):
		n.failed(tx, l, m, "the mail server refused it")
	case err != nil:
		return fault.Wrap(err, fault.Unavailable, "the mail could not be sent yet")
	default:
		id := noticeID(tx, l.name)
		tx.Emit(events.NotificationSent.New(id, events.SentNotification{
			NotificationID: id, UserID: m.UserID, OrderID: m.OrderID, Channel: n.mail.channel(), Template: l.name,
		}).Keyed(m.UserID))
	}
	return nil
}

func (n *notifications) failed(tx *function.Tx, l Letter, m Message, reason string) {
	id := noticeID(tx, l.name)
	tx.Emit(events.NotificationFailed.New(id, events.FailedNotification{
		NotificationID: id, UserID: m.UserID, OrderID: m.OrderID, Channel: n.mail.channel(), Template: l.name, Reason: reason,
	}).Keyed(m.UserID))
}

// noticeID returns the id of a letter, which is made of the event that caused it: the same however often that comes.
func noticeID(tx *function.Tx, template string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(tx.Key(template))).String()
}
