package notifications

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// notice says which message somebody is to get, and why.
type notice struct {
	template, userID string
	about            facts
}

func (n *notifications) confirmed(ctx context.Context, tx *function.Tx, data events.ConfirmedOrder) error {
	return n.notify(ctx, tx, notice{"order-confirmed", data.CustomerID, facts{OrderID: data.OrderID, Total: price(data.Total)}})
}

func (n *notifications) cancelled(ctx context.Context, tx *function.Tx, data events.CancelledOrder) error {
	return n.notify(ctx, tx, notice{"order-cancelled", data.CustomerID, facts{OrderID: data.OrderID, Reason: data.Reason}})
}

// errRefused marks mail that no further attempt will deliver; its text is for people.
var errRefused = errors.New("refused")

// notify sends the message and says whether it left. A user of whom nothing was heard
// yet may still be: the order of events about different entities is nobody's promise.
func (n *notifications) notify(ctx context.Context, tx *function.Tx, what notice) error {
	if tx.Replayed() {
		return nil
	}
	to, known, err := n.users.Find(ctx, tx, what.userID)
	switch {
	case err != nil:
		return err
	case !known:
		return fault.New(fault.NotYet, "nothing is known of the customer %s yet", what.userID)
	case to.Deleted:
		n.failed(tx, what, "the customer is gone")
		return nil
	}
	what.about.Name = to.Name
	subject, body, err := write(what.template, what.about)
	if err != nil {
		return err
	}
	err = n.mail.send(ctx, letter{ID: noticeID(tx, what.template), To: to.Email, Subject: subject, Body: body})
	switch {
	case errors.Is(err, errRefused):
		n.failed(tx, what, "the mail server refused it")
	case err != nil:
		return fault.Wrap(err, fault.Unavailable, "the mail could not be sent yet")
	default:
		id := noticeID(tx, what.template)
		tx.Emit(events.NotificationSent.New(id, events.SentNotification{
			NotificationID: id, UserID: what.userID, OrderID: what.about.OrderID, Channel: n.mail.channel(), Template: what.template,
		}).Keyed(what.userID))
	}
	return nil
}

func (n *notifications) failed(tx *function.Tx, what notice, reason string) {
	id := noticeID(tx, what.template)
	tx.Emit(events.NotificationFailed.New(id, events.FailedNotification{
		NotificationID: id, UserID: what.userID, OrderID: what.about.OrderID, Channel: n.mail.channel(), Template: what.template, Reason: reason,
	}).Keyed(what.userID))
}

// noticeID names a message after the event that caused it: the same however often that comes.
func noticeID(tx *function.Tx, template string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(tx.Key(template))).String()
}
