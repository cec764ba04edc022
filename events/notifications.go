package events

import "github.com/ebb-dev/ebb/infra/event"

// SentNotification is a message that was sent.
type SentNotification struct {
	NotificationID string `json:"notification_id" minLength:"1" maxLength:"128"`
	UserID         string `json:"user_id" minLength:"1" maxLength:"128"`
	OrderID        string `json:"order_id,omitempty" maxLength:"128"`
	Channel        string `json:"channel" minLength:"1" maxLength:"50" doc:"email, log ..."`
	Template       string `json:"template" minLength:"1" maxLength:"100" doc:"Which message it was; never its text."`
}

// FailedNotification is a message that will not be sent.
type FailedNotification struct {
	NotificationID string `json:"notification_id" minLength:"1" maxLength:"128"`
	UserID         string `json:"user_id" minLength:"1" maxLength:"128"`
	OrderID        string `json:"order_id,omitempty" maxLength:"128"`
	Channel        string `json:"channel" minLength:"1" maxLength:"50" doc:"email, log ..."`
	Template       string `json:"template" minLength:"1" maxLength:"100" doc:"Which message it was; never its text."`
	Reason         string `json:"reason" minLength:"1" maxLength:"2000"`
}

// The events of notifications.
var (
	NotificationSent = event.Define(namespace, "notifications.sent", 1, event.Fact, "A message to a user was sent.",
		SentNotification{
			NotificationID: exNotice, UserID: exUser, OrderID: exOrder, Channel: "email", Template: "order-confirmed",
		},
		SentNotification{NotificationID: exNotice, UserID: exUser, Channel: "email", Template: "welcome"})

	NotificationFailed = event.Define(namespace, "notifications.failed", 1, event.Fact, "A message to a user will not "+
		"be sent, with the reason.",
		FailedNotification{
			NotificationID: exNotice, UserID: exUser, OrderID: exOrder, Channel: "email", Template: "order-confirmed",
			Reason: "mailbox unknown",
		},
		FailedNotification{
			NotificationID: exNotice, UserID: exUser, Channel: "email", Template: "welcome", Reason: "mailbox unknown",
		})
)
