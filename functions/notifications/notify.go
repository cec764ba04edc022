package notifications

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/outside"
)

// errRefused marks mail that the server refused for good.
var errRefused = errors.New("refused")

// mailing is a letter that is to be sent. It has the address of the user at the time when it is sent, and nothing is
// sent to a user who is deleted by then.
type mailing struct {
	UserID   string `json:"user_id" person:"id"`
	OrderID  string `json:"order_id,omitempty"`
	Template string `json:"template"`
	To       string `json:"to,omitempty" personal:"erased@erased.invalid"` // "": the user's address
	Subject  string `json:"subject" personal:"erased"`
	Body     string `json:"body" personal:"erased"`
}

// mailPolicy gives a relay that is down, or that asks for patience, the time that RFC 5321 section 4.5.4.1 asks for.
var mailPolicy = outside.Policy{
	Deadline: 20 * time.Second, GiveUp: 4 * 24 * time.Hour,
	Retry: outside.Retry{AtOnce: 2, Delay: 500 * time.Millisecond, Max: 30 * time.Minute},
}

// notify starts to send the letter. Events about different entities come in any order, so for an unknown user it fails
// with fault.NotYet.
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
	}
	id := notificationID(tx, l.name)
	letter := mailing{UserID: m.UserID, OrderID: m.OrderID, Template: l.name, To: m.To}
	if to.Deleted {
		n.failed(tx, id, letter, deleted)
		return nil
	}
	if letter.Subject, letter.Body, err = l.write(values{Product: n.product, Name: to.Name, Data: m.Data}); err != nil {
		return err
	}
	return n.mailing.Start(ctx, tx, id, letter)
}

// The reasons of notifications.failed.
const (
	deleted = "the user is deleted"
	refused = "the mail server refused it"
	tooLate = "the mail server did not take it in time"
)

// send sends a letter to the present address of its user.
func (n *notifications) send(ctx context.Context, r outside.Request[mailing]) (struct{}, error) {
	var to user
	err := n.f.Read(ctx, func(ctx context.Context, tx *function.Tx) (err error) {
		to, _, err = n.users.Find(ctx, tx, r.In.UserID)
		return err
	})
	if err != nil {
		return struct{}{}, err
	}
	if to.Deleted {
		return struct{}{}, fault.New(fault.Invalid, deleted)
	}
	err = n.mail.send(ctx, letter{ID: r.ID, To: cmp.Or(r.In.To, to.Email), Subject: r.In.Subject, Body: r.In.Body})
	switch {
	case errors.Is(err, errRefused):
		return struct{}{}, fault.Wrap(err, fault.Invalid, refused)
	case err != nil:
		return struct{}{}, fault.Wrap(err, fault.Unavailable, tooLate)
	}
	return struct{}{}, nil
}

func (n *notifications) ended(_ context.Context, tx *function.Tx, r outside.Result[mailing, struct{}]) error {
	if r.Err != nil {
		n.failed(tx, r.ID, r.In, fault.Public(r.Err))
		return nil
	}
	tx.Emit(events.NotificationSent.New(r.ID, events.SentNotification{
		NotificationID: r.ID, UserID: r.In.UserID, OrderID: r.In.OrderID, Channel: n.mail.channel(), Template: r.In.Template,
	}).Keyed(r.In.UserID))
	return nil
}

func (n *notifications) failed(tx *function.Tx, id string, m mailing, reason string) {
	tx.Emit(events.NotificationFailed.New(id, events.FailedNotification{
		NotificationID: id, UserID: m.UserID, OrderID: m.OrderID, Channel: n.mail.channel(), Template: m.Template,
		Reason: reason,
	}).Keyed(m.UserID))
}

// notificationID returns the id of a notification, derived from its event: the same each time the event comes.
func notificationID(tx *function.Tx, template string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(tx.Key(template))).String()
}
