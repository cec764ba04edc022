package notifications_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/notifications"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// server is a mail server with the least that SMTP (RFC 5321) requires. Its reply to RCPT can be set.
type server struct {
	listener net.Listener
	mu       sync.Mutex
	hangUp   bool // closes the connection after each letter
	rcpt     string
	features []string // that its answer to EHLO names
	mails    []string
	said     []string    // the commands that it got
	tls      *tls.Config // for STARTTLS
}

func serve(t *testing.T) *server {
	t.Helper()
	return serveWith(t, func(l net.Listener) net.Listener { return l })
}

func serveWith(t *testing.T, wrap func(net.Listener) net.Listener) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: wrap(l), rcpt: "250 fine"}
	t.Cleanup(func() { _ = l.Close() })
	go s.accept()
	return s
}

func (s *server) accept() {
	l := s.listener
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go s.talk(c)
	}
}

func (s *server) url() string { return "smtp://" + s.listener.Addr().String() }

func (s *server) answer(rcpt string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rcpt = rcpt
}

func (s *server) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mails...)
}

func (s *server) talk(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	say := func(line string) { fmt.Fprintf(c, "%s\r\n", line) }
	say("220 here")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		s.mu.Lock()
		s.said = append(s.said, strings.TrimSpace(line))
		features := s.features
		s.mu.Unlock()
		switch word := strings.ToUpper(strings.Fields(line + " ?")[0]); word {
		case "EHLO":
			say("250-here")
			for _, f := range features {
				say("250-" + f)
			}
			say("250 HELP")
		case "STARTTLS":
			say("220 go on")
			secure := tls.Server(c, s.tls)
			c, in = secure, bufio.NewReader(secure)
		case "RCPT":
			s.mu.Lock()
			say(s.rcpt)
			s.mu.Unlock()
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for line, _ = in.ReadString('\n'); line != ".\r\n" && line != ""; line, _ = in.ReadString('\n') {
				text.WriteString(line)
			}
			s.mu.Lock()
			s.mails = append(s.mails, text.String())
			s.mu.Unlock()
			say("250 taken")
		case "RSET", "QUIT":
			s.mu.Lock()
			hangUp := s.hangUp
			s.mu.Unlock()
			if hangUp {
				return
			}
			say("221 bye")
			if word == "QUIT" {
				return
			}
		default:
			say("250 fine")
		}
	}
}

var (
	ada = events.UserRegistered.New(
		"ada",
		events.RegisteredUser{UserID: "ada", Name: "Ada", Email: "ada@example.com"},
	)
	closed = ticketClosed.New("ticket-1", closedTicket{TicketID: "ticket-1", UserID: "ada", Answer: "Turn it on."})
)

// The product of these tests sends a letter when a ticket is closed.
type closedTicket struct {
	TicketID string `json:"ticket_id"`
	UserID   string `json:"user_id"`
	Answer   string `json:"answer"`
}

var ticketClosed = event.Define(event.NewNamespace(
	"com.example.desk", "https://desk.example.com/schemas",
), "tickets.closed", 1,
	event.Fact, "A ticket was closed.", closedTicket{TicketID: "1", UserID: "ada", Answer: "Turn it on."})

var config = notifications.Config{
	Product: "Helpdesk", From: "Helpdesk <desk@example.com>", Letters: []notifications.Letter{
		notifications.On(ticketClosed, "ticket-closed", "Your ticket {{.Data.TicketID}}\n\nHello {{.Name}},"+
			"\n\n{{.Data.Answer}}\n\n{{.Product}}\n",
			func(e closedTicket) notifications.Message { return notifications.Message{UserID: e.UserID, Data: e} }),
	}}

func withMail(t *testing.T) (*functiontest.Harness, *server) {
	t.Helper()
	s := serve(t)
	return functiontest.New(
		t, config.New, functiontest.Set(map[string]string{"EBB_SMTP_URL": s.url()}),
	), s
}

func read(t *testing.T, text string) (*mail.Message, string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var body strings.Builder
	if _, err := bufio.NewReader(m.Body).WriteTo(&body); err != nil {
		t.Fatal(err)
	}
	return m, body.String()
}

// A user gets the welcome letter and the letters of the product.
func TestLetters(t *testing.T) {
	h, s := withMail(t)
	h.MustDeliver(ada)
	h.MustDeliver(closed)
	mails := s.got()
	if len(mails) != 2 {
		t.Fatalf("got %d mails, want 2", len(mails))
	}
	for i, want := range []struct{ subject, text string }{
		{"Welcome to Helpdesk", "Hello Ada,"},
		{"Your ticket ticket-1", "Turn it on.\r\n\r\nHelpdesk"},
	} {
		m, body := read(t, mails[i])
		if got := m.Header.Get("Subject"); got != want.subject {
			t.Errorf("got subject %q, want %q", got, want.subject)
		}
		if got := m.Header.Get("From"); got != `"Helpdesk" <desk@example.com>` {
			t.Errorf("got sender %q", got)
		}
		if got := m.Header.Get("To"); got != "<ada@example.com>" {
			t.Errorf("got recipient %q", got)
		}
		if !strings.Contains(body, want.text) {
			t.Errorf("got %q, want %q in it", body, want.text)
		}
	}
	got := h.Emitted()
	if types := strings.Join(functiontest.Types(got), " "); types != "notifications.sent.v1 notifications.sent.v1" {
		t.Fatalf("got %s", types)
	}
	sent, err := events.NotificationSent.Decode(got[1])
	if err != nil || sent.UserID != "ada" || sent.Channel != "email" || sent.Template != "ticket-closed" {
		t.Fatalf("got %+v, %v", sent, err)
	}
}

// The same event again sends nothing, although every unit of work runs twice. Another instance that knows nothing of it
// sends a letter with the same Message-ID.
func TestTwice(t *testing.T) {
	h, s := withMail(t)
	e := h.Event(ada)
	h.Receive(e)
	h.Receive(e)
	if got := s.got(); len(got) != 1 {
		t.Fatalf("got %d mails, want 1", len(got))
	}
	other := functiontest.New(t, config.New, functiontest.Set(map[string]string{"EBB_SMTP_URL": s.url()}))
	other.Receive(e)
	mails := s.got()
	if len(mails) != 2 {
		t.Fatalf("got %d mails, want one of each", len(mails))
	}
	first, _ := read(t, mails[0])
	again, _ := read(t, mails[1])
	if id := first.Header.Get("Message-Id"); id == "" || again.Header.Get("Message-Id") != id {
		t.Fatalf("got %q and %q", id, again.Header.Get("Message-Id"))
	}
}

// A replayed event stores the address again and sends nothing.
func TestReplayed(t *testing.T) {
	h, s := withMail(t)
	e := h.Event(ada)
	e.SetExtension(event.Replay, "replay-1")
	e.SetExtension(event.ReplayTo, "notifications")
	h.Receive(e)
	if got := s.got(); len(got) != 0 || len(h.Emitted()) != 0 {
		t.Fatalf("got %d mails", len(got))
	}
	h.MustDeliver(closed)
	if got := s.got(); len(got) != 1 {
		t.Fatalf("got %d mails, want that of the ticket", len(got))
	}
}

// emitted returns the types of the function's own events.
func emitted(h *functiontest.Harness) (types []string, all []ce.Event) {
	for _, e := range h.Emitted() {
		if t := functiontest.Types([]ce.Event{e})[0]; strings.HasPrefix(t, "notifications.") {
			types, all = append(types, t), append(all, e)
		}
	}
	return types, all
}

// A letter that the server refuses for good emits notifications.failed; a temporary refusal is retried.
func TestServerRefuses(t *testing.T) {
	h, s := withMail(t)
	s.answer("450 not now")
	h.MustDeliver(ada)
	if types, _ := emitted(h); len(types) != 0 {
		t.Fatalf("got %v", types)
	}
	s.answer("550 no such mailbox")
	h.Advance(time.Minute)
	types, got := emitted(h)
	if len(got) != 1 || types[0] != "notifications.failed.v1" {
		t.Fatalf("got %v", got)
	}
	if strings.Contains(got[0].String(), "ada@example.com") {
		t.Fatal("the event holds the address")
	}
}

// A server that cannot be reached is tried again, for four days.
func TestServerUnreachable(t *testing.T) {
	h, s := withMail(t)
	_ = s.listener.Close()
	h.MustDeliver(ada)
	h.Advance(3 * 24 * time.Hour)
	if types, _ := emitted(h); len(types) != 0 {
		t.Fatalf("got %v", types)
	}
	h.Advance(2 * 24 * time.Hour)
	if types, _ := emitted(h); len(types) != 1 || types[0] != "notifications.failed.v1" {
		t.Fatalf("got %v", types)
	}
}

// A user who is deleted before the letter is sent gets none.
func TestDeletedMeanwhile(t *testing.T) {
	h, s := withMail(t)
	s.answer("450 not now")
	h.MustDeliver(ada)
	h.MustDeliver(events.UserDeleted.New("ada", events.DeletedUser{UserID: "ada"}))
	s.answer("250 fine")
	h.Advance(time.Minute)
	if types, _ := emitted(h); len(s.got()) != 0 || len(types) != 1 || types[0] != "notifications.failed.v1" {
		t.Fatalf("got %d letters and %v", len(s.got()), types)
	}
}

// A letter counts as sent when the server closes the connection right after accepting it.
func TestServerHangsUp(t *testing.T) {
	h, s := withMail(t)
	s.mu.Lock()
	s.hangUp = true
	s.mu.Unlock()
	h.MustDeliver(ada)
	if got := functiontest.Types(h.Emitted()); len(s.got()) != 1 || len(got) != 1 || got[0] != "notifications.sent.v1" {
		t.Fatalf("got %d letters and %v", len(s.got()), got)
	}
}

// A user who registers while the mail server is unreachable gets later mail, and then the first one too.
func TestRegisteredWithoutMail(t *testing.T) {
	h, s := withMail(t)
	s.answer("451 not now")
	h.MustDeliver(ada)
	s.answer("250 fine")
	h.MustDeliver(closed)
	if got := s.got(); len(got) != 1 || !strings.Contains(got[0], "ada@example.com") {
		t.Fatalf("got %v", got)
	}
	h.Advance(time.Minute)
	if got := s.got(); len(got) != 2 || !strings.Contains(got[1], "Welcome") {
		t.Fatalf("got %v", got)
	}
}

// When a second person registers with an address, its owner gets a letter, and only the owner.
func TestTakenAddress(t *testing.T) {
	h, s := withMail(t)
	taken := events.UserAddressTaken.New("ada", events.TakenAddress{UserID: "ada"})
	if got := h.Deliver(taken); got[0].Status != 503 { // it came before the owner was known
		t.Fatalf("got %+v, want 503", got[0])
	}
	h.MustDeliver(ada)
	h.MustDeliver(taken)
	mails := s.got()
	if len(mails) != 2 {
		t.Fatalf("got %d letters", len(mails))
	}
	m, body := read(t, mails[1])
	if m.Header.Get("To") != "<ada@example.com>" || !strings.Contains(m.Header.Get("Subject"), "your address") ||
		!strings.Contains(body, "Hello Ada") {
		t.Errorf("got %v\n%s", m.Header, body)
	}
}

// Mail is sent to the latest address, in any order of the events.
func TestAddressChanges(t *testing.T) {
	h, s := withMail(t)
	old := h.Event(ada)
	old.SetExtension(event.Sequence, "1")
	latest := h.Event(
		events.UserChanged.New("ada", events.ChangedUser{UserID: "ada", Name: "Ada King", Email: "king@example.com"}),
	)
	latest.SetExtension(event.Sequence, "2")
	h.Receive(latest)
	h.Receive(old)
	h.MustDeliver(closed)
	mails := s.got()
	if m, _ := read(t, mails[len(mails)-1]); m.Header.Get("To") != "<king@example.com>" {
		t.Fatalf("got %q", m.Header.Get("To"))
	}
}

// A deleted user gets no mail; an event about an unknown user is retried.
func TestNoAddress(t *testing.T) {
	h, s := withMail(t)
	if got := h.Deliver(closed); got[0].Status != 503 {
		t.Fatalf("unknown user: got %+v, want 503", got[0])
	}
	h.MustDeliver(ada)
	h.MustDeliver(events.UserDeleted.New("ada", events.DeletedUser{UserID: "ada"}))
	h.Emitted()
	before := len(s.got())
	h.MustDeliver(closed)
	if got := functiontest.Types(h.Emitted()); len(s.got()) != before || len(got) != 1 ||
		got[0] != "notifications.failed.v1" {
		t.Fatalf("got %v", got)
	}
}

// The name and address of a recipient are shown to the user and to admins, until the user is deleted.
func TestRecipient(t *testing.T) {
	h, _ := withMail(t)
	h.MustDeliver(ada)
	const path = "/api/notifications/recipients/ada"
	for _, who := range []auth.Principal{functiontest.As("ada"), functiontest.Admin()} {
		var got struct{ Email string }
		h.Call("GET", path, who, nil).Expect(200).JSON(&got)
		if got.Email != "ada@example.com" {
			t.Errorf("got %+v", got)
		}
	}
	h.Call("GET", path, functiontest.As("bob"), nil).Expect(404)
	h.MustDeliver(events.UserDeleted.New("ada", events.DeletedUser{UserID: "ada"}))
	h.Call("GET", path, functiontest.Admin(), nil).Expect(404)
}

// Without a mail server mail is logged and counts as sent.
func TestLogged(t *testing.T) {
	h := functiontest.New(t, config.New)
	h.MustDeliver(ada)
	got := h.Emitted()
	sent, err := events.NotificationSent.Decode(got[0])
	if err != nil || sent.Channel != "log" {
		t.Fatalf("got %+v, %v", sent, err)
	}
}

// An invalid configuration fails at the start, and the error does not show the password.
func TestConfiguration(t *testing.T) {
	for _, url := range []string{"http://u:hush@host", "smtp://u:hush@host:99999", "smtp://", "smtp://u:hush@host:x%zz"} {
		lookup := func(key string) (string, bool) { return url, key == "EBB_SMTP_URL" }
		_, err := config.New(function.Env{Lookup: lookup})
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
