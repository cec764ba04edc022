package notifications

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/mail"
	"net/url"
	"strconv"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// mailer sends one letter. errRefused is final; any other error may pass.
type mailer interface {
	send(ctx context.Context, l letter) error
	channel() string
}

func newMailer(c settings, log *slog.Logger) (mailer, error) {
	from, err := mail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("EBB_MAIL_FROM is no mail address: %w", err)
	}
	if c.SMTP == "" {
		return logged{log}, nil
	}
	options, host, err := smtpOptions(c.SMTP)
	if err != nil {
		return nil, err
	}
	if _, err := gomail.NewClient(host, options...); err != nil {
		return nil, fmt.Errorf("EBB_SMTP_URL: %w", err)
	}
	_, domain, _ := cutLast(from.Address, '@')
	return &smtp{from: c.From, domain: domain, host: host, options: options}, nil
}

// smtpOptions reads smtp://user:password@host:port. A password never crosses a network in the
// clear: with one, TLS is a must unless the server is on this machine.
func smtpOptions(address string) ([]gomail.Option, string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		return nil, "", errors.New(
			"EBB_SMTP_URL must look like smtp://user:password@host:port",
		) // err would show the password
	}
	options := []gomail.Option{gomail.WithTimeout(10 * time.Second)}
	_, secret := u.User.Password()
	local := isLocal(u.Hostname())
	port := 587
	switch {
	case u.Scheme == "smtps":
		options, port = append(options, gomail.WithSSL()), 465
	case secret && !local:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSOpportunistic))
	}
	if text := u.Port(); text != "" {
		if port, err = strconv.Atoi(text); err != nil {
			return nil, "", errors.New("EBB_SMTP_URL has no proper port")
		}
	}
	options = append(options, gomail.WithPort(port))
	if secret {
		password, _ := u.User.Password()
		kind := gomail.SMTPAuthAutoDiscover
		if local && u.Scheme == "smtp" {
			kind = gomail.SMTPAuthPlainNoEnc
		}
		options = append(
			options,
			gomail.WithSMTPAuth(kind),
			gomail.WithUsername(u.User.Username()),
			gomail.WithPassword(password),
		)
	}
	return options, u.Hostname(), nil
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == sep {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// smtp sends each letter over a connection of its own: an idle one would not outlive the function.
type smtp struct {
	from, domain, host string
	options            []gomail.Option
}

func (s *smtp) channel() string { return "email" }

func (s *smtp) send(ctx context.Context, l letter) error {
	m := gomail.NewMsg()
	if err := m.From(s.from); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if err := m.To(l.To); err != nil {
		return errors.Join(errRefused, err)
	}
	m.Subject(l.Subject)
	m.SetMessageIDWithValue(l.ID + "@" + s.domain)
	m.SetDate()
	m.SetBodyString(gomail.TypeTextPlain, l.Body)
	client, err := gomail.NewClient(s.host, s.options...)
	if err != nil {
		return err
	}
	err = client.DialAndSendWithContext(ctx, m)
	if m.IsDelivered() {
		return nil // what went wrong in saying goodbye is no reason to send it again
	}
	if final(err) {
		return errors.Join(errRefused, err)
	}
	return err
}

// final reports whether the server refused the letter itself for good (RFC 5321, section 4.2.1: 5yz).
// A refused login is ours to mend, so it is tried again and ends as a dead letter.
func final(err error) bool {
	var refusal *gomail.SendError
	return errors.As(err, &refusal) && !refusal.IsTemp() && refusal.ErrorCode() >= 500
}

// logged writes down that a letter would have left; neither its text nor its address, which are personal.
type logged struct{ log *slog.Logger }

func (logged) channel() string { return "log" }

func (l logged) send(ctx context.Context, letter letter) error {
	l.log.InfoContext(
		ctx,
		"mail would leave now, but EBB_SMTP_URL is not set",
		"notification",
		letter.ID,
		"subject",
		letter.Subject,
	)
	return nil
}
