package notifications_test

import (
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/notifications"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// An address in UTF-8 goes only to a server that takes it (RFC 6531); to others nothing is sent. A domain in UTF-8 goes
// to any server, in ASCII.
func TestUTF8Addresses(t *testing.T) {
	for name, tt := range map[string]struct {
		email    string
		features []string
		to       string // "": nothing is sent
	}{
		"local part":               {"grüße@example.com", nil, ""},
		"local part and 8BITMIME":  {"grüße@example.com", []string{"8BITMIME"}, ""},
		"local part and SMTPUTF8":  {"grüße@example.com", []string{"8BITMIME", "SMTPUTF8"}, "<grüße@example.com>"},
		"domain":                   {"ada@bücher.example", nil, "<ada@xn--bcher-kva.example>"},
		"both and SMTPUTF8":        {"grüße@bücher.example", []string{"SMTPUTF8"}, "<grüße@xn--bcher-kva.example>"},
		"a domain that is invalid": {"ada@exa\u200dmple.example", []string{"SMTPUTF8"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, s := withMail(t)
			s.features = tt.features
			h.MustDeliver(events.UserRegistered.New("ada",
				events.RegisteredUser{UserID: "ada", Name: "Ada", Email: tt.email}))
			types, _ := emitted(h)
			s.mu.Lock()
			defer s.mu.Unlock()
			i := slices.IndexFunc(s.said, func(line string) bool { return strings.HasPrefix(line, "RCPT") })
			if tt.to == "" {
				if i >= 0 || len(types) != 1 || types[0] != "notifications.failed.v1" {
					t.Errorf("emitted %v after %q", types, s.said)
				}
				return
			}
			if i < 0 || s.said[i] != "RCPT TO:"+tt.to || len(types) != 1 || types[0] != "notifications.sent.v1" {
				t.Errorf("emitted %v after %q", types, s.said)
			}
		})
	}
}

// authority returns a server's TLS configuration, and the file of the authority that has issued its certificate.
func authority(t *testing.T) (*tls.Config, string) {
	web := httptest.NewTLSServer(nil)
	t.Cleanup(web.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: web.TLS.Certificates}, file
}

// A private relay is trusted by its own authority only. TLS that is required is never left out.
func TestPrivateRelay(t *testing.T) {
	secure, ca := authority(t)
	for name, tt := range map[string]struct {
		implicit bool   // the server's listener is a TLS one
		features string // of the server; "": none
		tls      string // EBB_SMTP_TLS
		ca       bool   // EBB_SMTP_CA is set
		sent     bool
	}{
		"implicit":                      {true, "", "implicit", true, true},
		"implicit, unknown authority":   {true, "", "implicit", false, false},
		"implicit, to a plain server":   {false, "", "implicit", true, false},
		"starttls":                      {false, "STARTTLS", "starttls", true, true},
		"starttls, unknown authority":   {false, "STARTTLS", "starttls", false, false},
		"starttls, to a plain server":   {false, "", "starttls", false, false},
		"an authority means TLS":        {false, "", "", true, false},
		"an authority and STARTTLS":     {false, "STARTTLS", "", true, true},
		"unknown authority, no setting": {false, "STARTTLS", "", false, false},
		"plain":                         {false, "", "", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveWith(t, func(l net.Listener) net.Listener {
				if tt.implicit {
					return tls.NewListener(l, secure)
				}
				return l
			})
			if s.tls = secure; tt.features != "" {
				s.features = []string{tt.features}
			}
			set := map[string]string{"EBB_SMTP_URL": s.url(), "EBB_SMTP_TLS": tt.tls}
			if tt.ca {
				set["EBB_SMTP_CA"] = ca
			}
			h := functiontest.New(t, config.New, functiontest.Set(set))
			h.MustDeliver(ada)
			if got := len(s.got()); got != map[bool]int{true: 1}[tt.sent] {
				t.Errorf("%d letters were sent", got)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if tt.features != "" && !slices.Contains(s.said, "STARTTLS") {
				t.Errorf("sent in plain text: %q", s.said)
			}
		})
	}
}

// Settings that contradict one another, or name no certificate, fail at the start.
func TestTLSSettings(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, set := range map[string]map[string]string{
		"implicit or starttls": {"EBB_SMTP_URL": "smtp://host", "EBB_SMTP_TLS": "off"},
		"smtps":                {"EBB_SMTP_URL": "smtps://host", "EBB_SMTP_TLS": "starttls"},
		"no such file":         {"EBB_SMTP_URL": "smtp://host", "EBB_SMTP_CA": "/no/such/file.pem"},
		"no certificate":       {"EBB_SMTP_URL": "smtp://host", "EBB_SMTP_CA": empty},
	} {
		lookup := func(key string) (string, bool) { v, ok := set[key]; return v, ok }
		_, err := (notifications.Config{}).New(function.Env{Lookup: lookup})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v", set, err)
		}
	}
}
