package notifications

import (
	"context"
	"embed"
	"fmt"
	"strings"
	"text/template"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
)

// Letter is a mail that is sent for each event of a type. Make it with On.
type Letter struct {
	name string
	text *template.Template
	on   func(*notifications)
}

// Message is the recipient and the data of one letter.
type Message struct {
	UserID  string
	OrderID string // optional; notifications.sent and notifications.failed carry it
	To      string // another address than the user's; "": that of the user at the time when it is sent
	Data    any    // .Data of the template
}

// On returns the letter that is sent to a user for each event of a type. The name is the template's name in
// notifications.sent; the text is a template (text/template) whose first line is the subject, with .Name for the user's
// name, .Product for the product's, and .Data. about derives the message from the event. On panics when the text is not
// a valid template.
func On[T any](t event.Type[T], name, text string, about func(T) Message) Letter {
	l := Letter{name: name, text: template.Must(template.New(name).Parse(text))}
	l.on = func(n *notifications) {
		function.On(n.f, t, func(ctx context.Context, tx *function.Tx, data T) error {
			return n.notify(ctx, tx, l, about(data))
		})
	}
	return l
}

// Preview returns the subject and body for a user of this name.
func (l Letter) Preview(product, user string, data any) (subject, body string, err error) {
	return l.write(values{Product: product, Name: user, Data: data})
}

//go:embed templates/*.txt
var templates embed.FS

// The letters of every product.
var (
	welcome      = own("welcome")
	addressTaken = own("address-taken")

	emailProof      = own("email-proof")
	passwordReset   = own("password-reset")
	securityChanged = own("security-changed")
)

// own returns a letter of this package. Its event is handled by the function itself.
func own(name string) Letter {
	return Letter{
		name: name,
		text: template.Must(template.New(name+".txt").ParseFS(templates, "templates/"+name+".txt")),
	}
}

// letter is one message, ready to be sent. ID is the same each time the event is handled.
type letter struct {
	ID, To, Subject, Body string
}

// values holds the values of a template.
type values struct {
	Product, Name string
	Data          any
}

// write executes the template and returns its first line as the subject.
func (l Letter) write(v values) (subject, body string, err error) {
	var out strings.Builder
	if err := l.text.Execute(&out, v); err != nil {
		return "", "", fmt.Errorf("write %s: %w", l.name, err)
	}
	subject, body, _ = strings.Cut(out.String(), "\n")
	// A user's name must not add a header line.
	subject = strings.Join(strings.Fields(subject), " ")
	return subject, strings.TrimLeft(body, "\n"), nil
}
