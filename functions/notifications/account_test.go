package notifications_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/notifications"
	settings "github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// accountHarness is the function with a folder for letters, which knows the user ada.
func accountHarness(t *testing.T, vars map[string]string) (h *functiontest.Harness, letters func() []string) {
	dir := filepath.Join(t.TempDir(), "mail")
	vars["EBB_MAIL_DIR"] = dir
	h = functiontest.New(t, notifications.Config{Product: "Books"}.New, functiontest.Set(vars))
	h.MustDeliver(events.UserRegistered.New("u-1",
		events.RegisteredUser{UserID: "u-1", Name: "Ada", Email: "ada@example.com"}))
	seen := map[string]bool{}
	letters = func() (all []string) {
		t.Helper()
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil || info.Mode() != 0o600 || !strings.HasSuffix(f.Name(), ".eml") {
				t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
			}
			if text, err := os.ReadFile(filepath.Join(dir, f.Name())); err == nil && !seen[f.Name()] {
				seen[f.Name()] = true
				all = append(all, string(text))
			}
		}
		return all
	}
	letters()
	return h, letters
}

// The letters about an account go where they belong, with a code, or with a link where a page is configured. They are
// sent once, and not at all when the token is of no use any more.
func TestLettersAboutAccounts(t *testing.T) {
	for name, c := range map[string]struct{ page, want string }{
		"with a code": {"", "\n\nu-1.a_token\n"},
		"with a link": {"https://shop.example/account", "https://shop.example/account#%s=u-1.a_token\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h, letters := accountHarness(t, map[string]string{"EBB_ACCOUNT_URL": c.page})
			until := h.Clock.Now().Add(time.Hour)
			h.MustDeliver(events.UserEmailProofRequested.New("u-1", events.RequestedEmailProof{
				UserID: "u-1", Email: "king@example.com", Token: "u-1.a_token", ExpiresAt: until,
			}))
			want := strings.ReplaceAll(c.want, "%s", "email-proof")
			if got := letters(); len(got) != 1 || !strings.Contains(got[0], want) ||
				!strings.Contains(got[0], "To: <king@example.com>") {
				t.Errorf("got %q", got)
			}
			reset := events.UserPasswordResetRequested.New("u-1", events.RequestedPasswordReset{
				UserID: "u-1", Token: "u-1.a_token", ExpiresAt: until,
			})
			e := h.Event(reset)
			h.Receive(e)
			h.Receive(e)
			want = strings.ReplaceAll(c.want, "%s", "password-reset")
			if got := letters(); len(got) != 1 || !strings.Contains(got[0], want) ||
				!strings.Contains(got[0], "To: <ada@example.com>") || !strings.Contains(got[0], "Hello Ada") {
				t.Errorf("got %q", got)
			}
			for _, told := range []events.ChangedSecurity{
				{UserID: "u-1", What: events.EmailChanged, Email: "before@example.com"},
				{UserID: "u-1", What: events.SecondFactorRemoved},
			} {
				h.MustDeliver(events.UserSecurityChanged.New("u-1", told))
				to := "ada@example.com"
				if told.Email != "" {
					to = told.Email
				}
				if got := letters(); len(got) != 1 || !strings.Contains(got[0], "To: <"+to+">") {
					t.Errorf("got %q", got)
				}
			}
			h.MustDeliver(events.UserSecurityChanged.New("u-1", events.ChangedSecurity{UserID: "u-1", What: "unheard-of"}))
			h.Clock.Advance(2 * time.Hour)
			h.MustDeliver(reset) // it comes late: the token has expired
			h.MustDeliver(events.UserDeleted.New("u-1", events.DeletedUser{UserID: "u-1"}))
			h.MustDeliver(events.UserSecurityChanged.New("u-1", events.ChangedSecurity{UserID: "u-1", What: "email-changed"}))
			if got := letters(); len(got) != 0 {
				t.Errorf("got %q", got)
			}
		})
	}
}

// A letter with a token goes to the address that users made the token for, although this function does not know yet
// that the user has another address than before: who reads the mail of the old one gets no token.
func TestResetGoesToTheAddressOfItsToken(t *testing.T) {
	h, letters := accountHarness(t, map[string]string{})
	h.MustDeliver(events.UserPasswordResetRequested.New("u-1", events.RequestedPasswordReset{
		UserID: "u-1", Email: "moved@example.com", Token: "u-1.a_token", ExpiresAt: h.Clock.Now().Add(time.Hour),
	}))
	if got := letters(); len(got) != 1 || !strings.Contains(got[0], "To: <moved@example.com>") {
		t.Errorf("got %q", got)
	}
}

// A token is in no event of notifications, and in the store only encrypted, while the letter waits.
func TestTokensAreNotKept(t *testing.T) {
	h := functiontest.New(t, notifications.Config{}.New, functiontest.Set(map[string]string{
		"EBB_SMTP_URL": "smtp://127.0.0.1:1", // nobody listens there
	}))
	h.MustDeliver(events.UserRegistered.New("u-1",
		events.RegisteredUser{UserID: "u-1", Name: "Ada", Email: "ada@example.com"}))
	h.MustDeliver(events.UserPasswordResetRequested.New("u-1", events.RequestedPasswordReset{
		UserID: "u-1", Token: "u-1.a_token", ExpiresAt: h.Clock.Now().Add(time.Hour),
	}))
	h.Restart()
	db, err := h.Store(t.Context(), "notifications", h.I.Declaration().Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found := 0
	for _, spec := range h.I.Declaration().Schema {
		docs, _, err := db.Query(t.Context(), store.Query{Collection: spec.Name, Limit: store.MaxLimit})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			found++
			if strings.Contains(string(d.Data), "a_token") {
				t.Errorf("%s/%s has the token", spec.Name, d.ID)
			}
		}
	}
	if found < 3 {
		t.Errorf("%d documents", found)
	}
}

// A page that letters cannot link to is refused at the start.
func TestAccountPage(t *testing.T) {
	for page, good := range map[string]bool{
		"": true, "https://shop.example/account": true, "http://localhost:3000/": true,
		"http://shop.example/": false, "shop.example": false, "https://shop.example/#x": false, "javascript:x": false,
	} {
		_, err := notifications.Config{}.New(function.Env{Lookup: settings.Map(map[string]string{"EBB_ACCOUNT_URL": page})})
		if (err == nil) != good {
			t.Errorf("%q: got %v", page, err)
		}
	}
}
