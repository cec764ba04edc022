package notifications

import (
	"cmp"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// Config is what a product writes to its users. The zero Config welcomes new users in the name of Ebb.
type Config struct {
	Product string   // the name that letters are signed with; "": Ebb
	From    string   // the sender, unless EBB_MAIL_FROM names another; "": PRODUCT <no-reply@ebb.example>
	Letters []Letter // besides the welcome
}

// settings are what a team may want to change without building.
type settings struct {
	SMTP string `envconfig:"EBB_SMTP_URL"  secret:"true" desc:"smtp://user:password@host:port, or smtps://; mail is logged when there is none"`
	From string `envconfig:"EBB_MAIL_FROM"               desc:"whom mail comes from; left out: the sender that the product has built in"`
}

type notifications struct {
	f       *function.Function
	product string
	users   *store.Collection[user]
	mail    mailer
}

// New declares the notifications.
func (c Config) New(env function.Env) (*function.Function, error) {
	f := function.New("notifications", env)
	set, err := function.Configure[settings](f)
	if err != nil {
		return nil, err
	}
	n := &notifications{f: f, product: cmp.Or(c.Product, "Ebb"), users: function.Collection[user](f, "users")}
	set.From = cmp.Or(set.From, c.From, n.product+" <no-reply@ebb.example>")
	if n.mail, err = newMailer(set, f.Env().Logger); err != nil {
		return nil, err
	}
	function.Concurrency(f, 16)
	function.On(f, events.UserRegistered, n.registered)
	function.On(f, events.UserChanged, n.changed)
	function.On(f, events.UserDeleted, n.deleted)
	function.On(f, events.UserAddressTaken, n.addressTaken)
	for _, l := range c.Letters {
		l.on(n)
	}
	function.Emits(f, events.NotificationSent, events.NotificationFailed)
	return f, nil
}
