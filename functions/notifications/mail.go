package notifications

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

// mailer sends letters. The error errRefused is final; any other is retried.
type mailer interface {
	send(ctx context.Context, l letter) error
	channel() string
}

func newMailer(c settings, log *slog.Logger) (mailer, error) {
	from, err := mail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("invalid EBB_MAIL_FROM: %w", err)
	}
	if err := checkPage(c.Page); err != nil {
		return nil, err
	}
	if c.SMTP == "" && c.Dir == "" {
		return logged{log}, nil
	}
	if c.SMTP == "" {
		return folder{c.Dir, from.String()}, nil
	}
	options, host, err := smtpOptions(c)
	if err != nil {
		return nil, err
	}
	if _, err := gomail.NewClient(host, options...); err != nil {
		return nil, fmt.Errorf("EBB_SMTP_URL: %w", err)
	}
	sender, err := addressOf(from.Address)
	if err != nil {
		return nil, fmt.Errorf("invalid EBB_MAIL_FROM: %w", err)
	}
	from.Address = sender.text
	_, domain, _ := cutLast(sender.text, '@')
	return &smtp{from: from.String(), utf8: sender.utf8, domain: domain, host: host, options: options}, nil
}

// smtpOptions returns the options and the host of an address smtp://user:password@host:port. TLS is required when the
// settings say so or name authorities, and with a password, unless the server is on this machine. The server's
// certificate is always verified.
func smtpOptions(c settings) ([]gomail.Option, string, error) {
	u, err := url.Parse(c.SMTP)
	if err != nil || u.Hostname() == "" || u.Scheme != "smtp" && u.Scheme != "smtps" {
		return nil, "", errors.New(
			"invalid EBB_SMTP_URL: want smtp://user:password@host:port",
		) // not err: it shows the password
	}
	options := []gomail.Option{gomail.WithTimeout(10 * time.Second)}
	_, secret := u.User.Password()
	local := isLocal(u.Hostname())
	implicit := u.Scheme == "smtps" || c.TLS == "implicit"
	port := 587
	switch {
	case c.TLS != "" && c.TLS != "implicit" && c.TLS != "starttls":
		return nil, "", fmt.Errorf("invalid EBB_SMTP_TLS %q: want implicit or starttls", c.TLS)
	case u.Scheme == "smtps" && c.TLS == "starttls":
		return nil, "", errors.New("EBB_SMTP_TLS is starttls, and EBB_SMTP_URL has the scheme smtps, which is implicit TLS")
	case implicit:
		options, port = append(options, gomail.WithSSL()), 465
	case c.TLS == "starttls" || c.CA != "" || secret && !local:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSOpportunistic))
	}
	if c.CA != "" {
		trusted, err := authorities(c.CA)
		if err != nil {
			return nil, "", fmt.Errorf("invalid EBB_SMTP_CA: %w", err)
		}
		options = append(options, gomail.WithTLSConfig(&tls.Config{
			ServerName: u.Hostname(), RootCAs: trusted, MinVersion: tls.VersionTLS12,
		}))
	}
	if text := u.Port(); text != "" {
		if port, err = strconv.Atoi(text); err != nil {
			return nil, "", errors.New("invalid EBB_SMTP_URL: invalid port")
		}
	}
	options = append(options, gomail.WithPort(port))
	if secret {
		password, _ := u.User.Password()
		kind := gomail.SMTPAuthAutoDiscover
		if local && !implicit && c.TLS == "" && c.CA == "" {
			kind = gomail.SMTPAuthPlainNoEnc
		}
		options = append(
			options, gomail.WithSMTPAuth(kind), gomail.WithUsername(u.User.Username()), gomail.WithPassword(password),
		)
	}
	return options, u.Hostname(), nil
}

// authorities returns the system's certificate authorities and those of a PEM file.
func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}

// address is an e-mail address in the form in which it is sent.
type address struct {
	text string // with the domain in ASCII (RFC 5890)
	utf8 bool   // the part before the @ is not ASCII: only a server with SMTPUTF8 may get it (RFC 6531)
}

func addressOf(text string) (address, error) {
	local, domain, ok := cutLast(text, '@')
	if !ok {
		return address{}, errors.New("an address without @")
	}
	if !isASCII(domain) {
		var err error
		if domain, err = idna.Lookup.ToASCII(domain); err != nil {
			return address{}, err
		}
	}
	return address{local + "@" + domain, !isASCII(local)}, nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
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

// smtp sends each letter over its own connection, because an instance may stop after any request.
type smtp struct {
	from, domain, host string
	utf8               bool // the sender's address needs SMTPUTF8
	options            []gomail.Option
}

func (s *smtp) channel() string { return "email" }

func (s *smtp) send(ctx context.Context, l letter) error {
	to, err := addressOf(l.To)
	if err != nil {
		return errors.Join(errRefused, err)
	}
	m, err := message(s.from, to.text, s.domain, l)
	if err != nil {
		return err
	}
	client, err := gomail.NewClient(s.host, s.options...)
	if err != nil {
		return err
	}
	server, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = client.CloseWithSMTPClient(server) }() // an error after the delivery must not send it again
	if takes, _ := server.Extension("SMTPUTF8"); !takes && (to.utf8 || s.utf8) {
		return errors.Join(errRefused, errors.New("the mail server takes no addresses in UTF-8"))
	}
	err = client.SendWithSMTPClient(server, m)
	if m.IsDelivered() {
		return nil
	}
	if final(err) {
		return errors.Join(errRefused, err)
	}
	return err
}

// message returns the letter as a mail.
func message(from, to, domain string, l letter, options ...gomail.MsgOption) (*gomail.Msg, error) {
	m := gomail.NewMsg(options...)
	if err := m.From(from); err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	if err := m.To(to); err != nil {
		return nil, errors.Join(errRefused, err)
	}
	m.Subject(l.Subject)
	m.SetMessageIDWithValue(l.ID + "@" + domain)
	m.SetDate()
	m.SetBodyString(gomail.TypeTextPlain, l.Body)
	return m, nil
}

// final reports whether the server refused the letter for good (RFC 5321, section 4.2.1: 5yz). A refused login is an
// error of the settings, so it is retried and then becomes a dead letter.
func final(err error) bool {
	var refusal *gomail.SendError
	return errors.As(err, &refusal) && !refusal.IsTemp() && refusal.ErrorCode() >= 500
}

// folder writes each letter as a file that only the user of this process reads, under the letter's id.
type folder struct{ path, from string }

func (folder) channel() string { return "file" }

func (f folder) send(_ context.Context, l letter) error {
	m, err := message(f.from, l.To, "localhost", l, gomail.WithEncoding(gomail.NoEncoding))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.path, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(f.path, ".letter-*") // 0600
	if err != nil {
		return err
	}
	_, err = m.WriteTo(file)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), filepath.Join(f.path, l.ID+".eml"))
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// logged logs each letter without its text and address, which are personal data.
type logged struct{ log *slog.Logger }

func (logged) channel() string { return "log" }

func (l logged) send(ctx context.Context, letter letter) error {
	l.log.InfoContext(ctx, "mail not sent: EBB_SMTP_URL is not set", "notification", letter.ID, "subject", letter.Subject)
	return nil
}
