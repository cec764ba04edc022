package notifications

import (
	"cmp"
	"net/http"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/outside"
	"github.com/ebb-dev/ebb/infra/store"
)

// Config holds the letters of a product. The zero Config sends only the letters of this package, signed with Ebb.
type Config struct {
	Product string   // the name that letters are signed with; "": Ebb
	From    string   // the sender, unless EBB_MAIL_FROM names another; "": PRODUCT <no-reply@ebb.example>
	Letters []Letter // besides those of this package
}

// settings holds the settings from the environment.
type settings struct {
	SMTP string `envconfig:"EBB_SMTP_URL" secret:"true" desc:"smtp(s)://user:password@host:port; empty: mail is logged"`
	TLS  string `envconfig:"EBB_SMTP_TLS" desc:"implicit or starttls: how mail must be encrypted; empty: as EBB_SMTP_URL says"`
	CA   string `envconfig:"EBB_SMTP_CA" desc:"a PEM file with authorities that may issue the mail server's certificate, besides the system's; TLS is required then"`
	Dir  string `envconfig:"EBB_MAIL_DIR" desc:"without EBB_SMTP_URL, a folder in which each letter is written as a file, to try things out"`
	Page string `envconfig:"EBB_ACCOUNT_URL" desc:"https URL of a page to which letters link, with #email-proof=TOKEN or #password-reset=TOKEN; empty: letters have the token"`
	From string `envconfig:"EBB_MAIL_FROM" desc:"the sender of mail; empty: the product's own"`
}

type notifications struct {
	f       *function.Function
	product string
	page    string
	users   *store.Collection[user]
	mail    mailer
	mailing *outside.Call[mailing, struct{}]
}

// New declares the notifications function.
func (c Config) New(env function.Env) (*function.Function, error) {
	f := function.New("notifications", env)
	set, err := function.Configure[settings](f)
	if err != nil {
		return nil, err
	}
	n := &notifications{f: f, product: cmp.Or(c.Product, "Ebb"), page: set.Page,
		users: function.Collection[user](f, "users", store.Admin{ReadOnly: true, Masked: []string{"name", "email"}})}
	set.From = cmp.Or(set.From, c.From, n.product+" <no-reply@ebb.example>")
	if n.mail, err = newMailer(set, f.Env().Logger); err != nil {
		return nil, err
	}
	n.mailing = outside.Declare(outside.New(f), "mail", mailPolicy, n.send, n.ended)
	function.Deliver(f, broker.Tuning{Batch: 8, Concurrency: 4}) // mails at the same time: 32 at most
	function.On(f, events.UserRegistered, n.registered)
	function.On(f, events.UserChanged, n.changed)
	function.On(f, events.UserDeleted, n.deleted)
	function.On(f, events.UserAddressTaken, n.addressTaken)
	function.On(f, events.UserEmailProofRequested, n.emailProofRequested)
	function.On(f, events.UserPasswordResetRequested, n.passwordResetRequested)
	function.On(f, events.UserSecurityChanged, n.securityChanged)
	for _, l := range c.Letters {
		l.on(n)
	}
	function.Emits(f, events.NotificationSent, events.NotificationFailed)
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/notifications/recipients/{id}", Owner: manifest.OwnerHidden,
		Summary: "Show to whom letters are sent",
		Person:  "id", Description: "The name and address that letters to a user have; for the user and for admins, 404 " +
			"for others.",
	}, n.recipient)
	return f, nil
}
