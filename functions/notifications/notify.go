package notifications

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// errRefused marks mail that the server refused for good.
var errRefused = errors.New("refused")

// notify sends the letter and emits notifications.sent or notifications.failed. Events about different entities come in
// any order, so for an unknown user it fails with fault.NotYet.
func (n *notifications) notify(ctx context.Context, tx *function.Tx, l Letter, m Message) error {
	if tx.Replayed() {
		return nil
	}
	to, known, err := n.users.Find(ctx, tx, m.UserID)
	switch {
	case err != nil:
		return err
	case !known:
		return fault.New(fault.NotYet, "the user %s is not known yet", m.UserID)
	case to.Deleted:
		n.failed(tx, l, m, "the user is deleted")
		return nil
	}
	subject, body, err := l.write(values{Product: n.product, Name: to.Name, Data: m.Data})
	if err != nil {
		return err
	}
	err = n.mail.send(ctx, letter{ID: notificationID(tx, l.name), To: to.Email, Subject: subject, Body: body})
	switch {
	case errors.Is(err, errRefused):
		n.failed(tx, l, m, "the mail server refused it")
	case err != nil:
		return fault.Wrap(err, fault.Unavailable, "the mail could not be sent yet")
	default:
		id := notificationID(tx, l.name)
		tx.Emit(events.NotificationSent.New(id, events.SentNotification{
			NotificationID: id, UserID: m.UserID, OrderID: m.OrderID, Channel: n.mail.channel(), Template: l.name,
		}).Keyed(m.UserID))
	}
	return nil
}

func (n *notifications) failed(tx *function.Tx, l Letter, m Message, reason string) {
	id := notificationID(tx, l.name)
	tx.Emit(events.NotificationFailed.New(id, events.FailedNotification{
		NotificationID: id, UserID: m.UserID, OrderID: m.OrderID, Channel: n.mail.channel(), Template: l.name, Reason: reason,
	}).Keyed(m.UserID))
}

// notificationID returns the id of a notification, derived from its event: the same each time the event comes.
func notificationID(tx *function.Tx, template string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(tx.Key(template))).String()
}
