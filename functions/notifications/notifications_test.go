package notifications_test

import (
	"bufio"
	"fmt"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/notifications"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// server is a mail server as small as SMTP (RFC 5321) allows. It answers RCPT as it is told to.
type server struct {
	listener net.Listener
	mu       sync.Mutex
	rude     bool // it hangs up after each letter
	rcpt     string
	mails    []string
}

func serve(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: l, rcpt: "250 fine"}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.talk(c)
		}
	}()
	return s
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
		switch word := strings.ToUpper(strings.Fields(line + " ?")[0]); word {
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
			rude := s.rude
			s.mu.Unlock()
			if rude {
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

// The product of these tests writes when a ticket is closed.
type closedTicket struct {
	TicketID string `json:"ticket_id"`
	UserID   string `json:"user_id"`
	Answer   string `json:"answer"`
}

var ticketClosed = event.Define(
	event.NewNamespace("com.example.desk", "https://desk.example.com/schemas"),
	"tickets.closed",
	1,
	event.Fact,
	"A ticket was closed.",
	closedTicket{TicketID: "1", UserID: "ada", Answer: "Turn it on."},
)

var config = notifications.Config{
	Product: "Helpdesk",
	From:    "Helpdesk <desk@example.com>",
	Letters: []notifications.Letter{
		notifications.On(
			ticketClosed,
			"ticket-closed",
			"Your ticket {{.Data.TicketID}}\n\nHello {{.Name}},\n\n{{.Data.Answer}}\n\n{{.Product}}\n",
			func(e closedTicket) notifications.Message { return notifications.Message{UserID: e.UserID, Data: e} },
		),
	},
}

func withMail(t *testing.T) (*functiontest.Harness, *server) {
	t.Helper()
	s := serve(t)
	return functiontest.New(
		t,
		config.New,
		functiontest.Once(),
		functiontest.Set(map[string]string{"EBB_SMTP_URL": s.url()}),
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

// A user is welcomed, and gets the letters of the product.
func TestMailLeaves(t *testing.T) {
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

// The same event again sends nothing. When the first commit was lost after the mail had left, the second
// mail has the same Message-ID, so that it is known for what it is.
func TestTwice(t *testing.T) {
	h, s := withMail(t)
	e := h.Event(ada)
	h.Receive(e)
	h.Receive(e)
	if got := s.got(); len(got) != 1 {
		t.Fatalf("got %d mails, want 1", len(got))
	}
	twice := functiontest.New(t, config.New, functiontest.Set(map[string]string{"EBB_SMTP_URL": s.url()}))
	twice.Receive(e)
	mails := s.got()
	if len(mails) != 3 {
		t.Fatalf("got %d mails, want one and two attempts", len(mails))
	}
	first, _ := read(t, mails[0])
	for _, text := range mails[1:] {
		if again, _ := read(t, text); again.Header.Get("Message-Id") != first.Header.Get("Message-Id") ||
			first.Header.Get("Message-Id") == "" {
			t.Fatalf("got %q and %q", first.Header.Get("Message-Id"), again.Header.Get("Message-Id"))
		}
	}
}

// A replayed event brings the address back and sends nothing.
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

// What the server refuses for good is said to have failed; what it may take later is tried again.
func TestServerRefuses(t *testing.T) {
	h, s := withMail(t)
	s.answer("450 not now")
	e := h.Event(ada)
	if got := h.Receive(e); got[0].Status != 503 {
		t.Fatalf("got %+v, want 503", got[0])
	}
	s.answer("550 no such mailbox")
	if got := h.Receive(e); !got[0].OK() {
		t.Fatalf("got %+v, want success", got[0])
	}
	got := h.Emitted()
	if len(got) != 1 || functiontest.Types(got)[0] != "notifications.failed.v1" {
		t.Fatalf("got %v", got)
	}
	if strings.Contains(got[0].String(), "ada@example.com") {
		t.Fatal("the event holds the address")
	}
}

// A server that is away is tried again.
func TestServerIsAway(t *testing.T) {
	h, s := withMail(t)
	_ = s.listener.Close()
	if got := h.Deliver(ada); got[0].Status != 503 {
		t.Fatalf("got %+v, want 503", got[0])
	}
}

// A server that hangs up once it has taken a letter has taken it.
func TestServerIsRude(t *testing.T) {
	h, s := withMail(t)
	s.mu.Lock()
	s.rude = true
	s.mu.Unlock()
	h.MustDeliver(ada)
	if got := functiontest.Types(h.Emitted()); len(s.got()) != 1 || len(got) != 1 || got[0] != "notifications.sent.v1" {
		t.Fatalf("got %d letters and %v", len(s.got()), got)
	}
}

// Who registers while the mail server is away gets later mail all the same.
func TestRegisteredWithoutMail(t *testing.T) {
	h, s := withMail(t)
	s.answer("451 not now")
	if got := h.Deliver(ada); got[0].Status != 503 {
		t.Fatalf("got %+v, want 503", got[0])
	}
	s.answer("250 fine")
	h.MustDeliver(closed)
	if got := s.got(); len(got) != 1 || !strings.Contains(got[0], "ada@example.com") {
		t.Fatalf("got %v", got)
	}
}

// The owner of an address that somebody else has asked for is told, and nobody else is.
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

// Mail goes to the latest address, in whatever order the news of it came.
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

// A deleted user gets no mail; one who is unknown may still become known.
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

// Without a mail server mail is logged, and counts as sent.
func TestLogged(t *testing.T) {
	h := functiontest.New(t, config.New)
	h.MustDeliver(ada)
	got := h.Emitted()
	sent, err := events.NotificationSent.Decode(got[0])
	if err != nil || sent.Channel != "log" {
		t.Fatalf("got %+v, %v", sent, err)
	}
}

// A bad configuration fails at the start and does not show the password.
func TestConfiguration(t *testing.T) {
	for _, url := range []string{"http://u:hush@host", "smtp://u:hush@host:99999", "smtp://", "smtp://u:hush@host:x%zz"} {
		lookup := func(key string) (string, bool) { return url, key == "EBB_SMTP_URL" }
		_, err := config.New(function.Env{Lookup: lookup})
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
