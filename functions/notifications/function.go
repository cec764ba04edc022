package notifications

import (
	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// Config is what the environment says.
type Config struct {
	SMTP string `envconfig:"EBB_SMTP_URL" secret:"true" desc:"smtp://user:password@host:port, or smtps://; mail is logged when there is none"`
	From string `envconfig:"EBB_MAIL_FROM" default:"Ebb <shop@ebb.example>" desc:"whom mail comes from"`
}

type notifications struct {
	f     *function.Function
	users *store.Collection[user]
	mail  mailer
}

// New declares the notifications.
func New(env function.Env) (*function.Function, error) {
	f := function.New("notifications", env)
	config, err := function.Configure[Config](f)
	if err != nil {
		return nil, err
	}
	n := &notifications{f: f, users: function.Collection[user](f, "users")}
	if n.mail, err = newMailer(config, f.Env().Logger); err != nil {
		return nil, err
	}
	function.Concurrency(f, 16)
	function.On(f, events.UserRegistered, n.registered)
	function.On(f, events.UserChanged, n.changed)
	function.On(f, events.UserDeleted, n.deleted)
	function.On(f, events.UserAddressTaken, n.addressTaken)
	function.On(f, events.OrderConfirmed, n.confirmed)
	function.On(f, events.OrderCancelled, n.cancelled)
	function.Emits(f, events.NotificationSent, events.NotificationFailed)
	return f, nil
}
