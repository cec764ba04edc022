package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/system"
)

// login is what the command knows of a user at one system: an open session, with which later commands go on, so that no
// command needs the password, and the sessions of a user do not grow by one with each command.
type login struct {
	URL   string `json:"url"`
	Email string `json:"email"`
	Named bool   `json:"named,omitempty"` // made by the command login; used unless the environment names an admin

	AccessToken  string    `json:"access_token,omitempty"`
	Expires      time.Time `json:"expires,omitzero"` // of the access token
	RefreshToken string    `json:"refresh_token,omitempty"`
	DeviceToken  string    `json:"device_token,omitempty"`
}

// tokens is the answer to a sign-in or a refresh.
type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
	DeviceToken  string `json:"device_token"`
}

// with returns the login with new tokens. A refresh gives no device token: the one before stays.
func (l login) with(t tokens) login {
	l.AccessToken, l.RefreshToken = t.AccessToken, t.RefreshToken
	l.Expires = time.Now().Add(time.Duration(t.ExpiresIn) * time.Second)
	if t.DeviceToken != "" {
		l.DeviceToken = t.DeviceToken
	}
	return l
}

// ended returns the login without its session. The device stays known.
func (l login) ended() login {
	return login{URL: l.URL, Email: l.Email, Named: l.Named, DeviceToken: l.DeviceToken}
}

// leastLife is how long an access token that is used must be good, at least.
const leastLife = 20 * time.Second

// logins is a file with the logins of a user, which only the user can read. A refresh token works once, and one that is
// shown again ends its session; so a process locks the file while it uses one. A process that is killed between the
// refresh and the next write loses the session, and signs in again.
type logins struct{ dir string }

func (a *app) logins() (logins, error) {
	path, err := a.contextsFile()
	return logins{filepath.Dir(path)}, err
}

func (f logins) path() string { return filepath.Join(f.dir, "logins.json") }

// change locks the file and replaces what it has by what do returns, unless that is an error.
func (f logins) change(do func([]login) ([]login, error)) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	unlock, err := lockFile(f.path() + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	all, err := f.load()
	if err != nil {
		return err
	}
	next, err := do(slices.Clone(all))
	if err != nil || slices.Equal(all, next) {
		return err
	}
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	return local.WriteSecret(f.path(), data)
}

func (f logins) load() (all []login, err error) {
	data, err := os.ReadFile(f.path())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		if err = json.Unmarshal(data, &all); err != nil {
			err = fmt.Errorf("%s: %w", f.path(), err)
		}
	}
	return all, err
}

// put returns the logins with l in place of the one of the same user at the same system. Only one at a system is named.
func put(all []login, l login) []login {
	all = slices.DeleteFunc(all, func(o login) bool { return o.URL == l.URL && o.Email == l.Email })
	for i, o := range all {
		if l.Named && o.URL == l.URL {
			all[i].Named = false
		}
	}
	return append(all, l)
}

// of returns the login of a user at a system; with no email that of the command login.
func of(all []login, url, email string) (login, bool) {
	for _, l := range all {
		if l.URL == url && (l.Email == email || email == "" && l.Named) {
			return l, true
		}
	}
	return login{URL: url, Email: email}, false
}

// who returns the user whose login counts: the admin of the environment, or "" for the one of the command login, or
// else the admin of the data directory.
func (c *client) who(all []login) string {
	if admin, named := namedAdmin(c.app.Lookup); named {
		return admin.Email
	}
	if _, ok := of(all, c.url, ""); ok {
		return ""
	}
	admin, _ := c.admin() // without one the sign-in says so
	return admin.Email
}

// goOn takes the token of the session that is open, refreshed if it is about to expire or was refused. It leaves the
// token empty if there is none, or it has ended.
func (c *client) goOn(ctx context.Context) error {
	if c.logins == nil {
		return nil
	}
	var failed error
	_ = c.logins.change(func(all []login) ([]login, error) { // where the file cannot be used the user signs in
		l, ok := of(all, c.url, c.who(all))
		c.device = l.DeviceToken
		if ok && l.RefreshToken != "" && (l.AccessToken == c.refused || time.Until(l.Expires) < leastLife) {
			var next tokens
			err := c.send(ctx, http.MethodPost, "/api/sessions/refresh",
				map[string]string{"refresh_token": l.RefreshToken}, &next)
			switch {
			case system.StatusOf(err) == http.StatusUnauthorized:
				l = l.ended()
			case err != nil:
				failed = err
				return all, err
			default:
				l = l.with(next)
			}
			all = put(all, l)
		}
		if l.Named && l.RefreshToken == "" && c.who(all) == "" {
			failed = fmt.Errorf("the session of %s at %s has ended: sign in again with login", l.Email, c.url)
		}
		c.token, c.continued = l.AccessToken, l.AccessToken != ""
		return all, nil
	})
	return failed
}

// keep stores a session that was opened, for the next command.
func (c *client) keep(email string, t tokens, named bool) error {
	if c.logins == nil || t.RefreshToken == "" {
		return nil
	}
	return c.logins.change(func(all []login) ([]login, error) {
		l, _ := of(all, c.url, email)
		l.Named = l.Named || named
		return put(all, l.with(t)), nil
	})
}

func (a *app) loginCommand() *cobra.Command {
	n, email := &connection{}, ""
	c := &cobra.Command{
		Use:   "login",
		Short: "Sign in, so that other commands need no password",
		Long: `Sign in, so that other commands need no password.

It asks for the password, and for the code of a second factor if there is one. The session is stored in logins.json in
the user's configuration directory, which only the user can read, until logout, or until the session ends.`,
		Example: a.example(`
$ login --email ada@example.com
$ login --email ada@example.com --context prod`),
		Args: noArgs,
	}
	n.defineAddress(a, c.Flags())
	c.Flags().StringVar(&email, "email", "", "the e-mail address (EBB_ADMIN_EMAIL)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := n.open()
		if err != nil {
			return err
		}
		if email == "" {
			email = fallback(a.Lookup, "EBB_ADMIN_EMAIL", "")
		}
		if email == "" {
			return usageErrorf("login wants --email ADDRESS")
		}
		return client.login(c.Context(), email)
	}
	return c
}

// login signs a user in, and stores the session.
func (c *client) login(ctx context.Context, email string) error {
	if c.logins == nil {
		return errors.New("there is no configuration directory to store the login in")
	}
	password, err := c.app.ask("Password of " + email + " at " + c.url + ": ")
	if err != nil {
		return fmt.Errorf("login asks for the password on a terminal; elsewhere set EBB_TOKEN: %w", err)
	}
	in, session := credentials{Email: email, Password: password}, tokens{}
	err = c.send(ctx, http.MethodPost, "/api/sessions", in, &session)
	var refused *system.StatusError
	if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized && codeIsMissing(refused.Text) {
		if in.Code, err = c.app.ask("Code of the second factor: "); err != nil {
			return err
		}
		err = c.send(ctx, http.MethodPost, "/api/sessions", in, &session)
	}
	if err != nil {
		return fmt.Errorf("sign in as %s: %w", email, err)
	}
	if err := c.keep(email, session, true); err != nil {
		return err
	}
	fmt.Fprintf(c.app.Err, "You are signed in as %s at %s.\n", email, c.url)
	return nil
}

func (a *app) logoutCommand() *cobra.Command {
	n := &connection{}
	c := &cobra.Command{
		Use: "logout", Short: "End the sessions that commands have opened at a system, and forget them", Args: noArgs,
		Example: a.example("$ logout\n$ logout --context prod"),
	}
	n.defineAddress(a, c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := n.open()
		if err != nil {
			return err
		}
		return client.logout(c.Context(), "")
	}
	return c
}

// logout ends the session of a user at the system, or with no email those of all. One that the system does not end, as
// it is not there, is forgotten all the same, and the error says so.
func (c *client) logout(ctx context.Context, email string) error {
	if c.logins == nil {
		return nil
	}
	var failed error
	err := c.logins.change(func(all []login) ([]login, error) {
		for i, l := range all {
			if l.URL != c.url || email != "" && l.Email != email {
				continue
			}
			if err := c.endSession(ctx, l); err != nil {
				failed = errors.Join(failed, fmt.Errorf("the session of %s is forgotten, and may be open: %w", l.Email, err))
			}
			all[i] = l.ended()
			all[i].Named = false
		}
		return all, nil
	})
	return errors.Join(err, failed)
}

// endSession ends the session of a login, by a fresh token: the one that is stored may have expired.
func (c *client) endSession(ctx context.Context, l login) error {
	if l.RefreshToken == "" {
		return nil
	}
	var next tokens
	c.token = ""
	in := map[string]string{"refresh_token": l.RefreshToken}
	err := c.send(ctx, http.MethodPost, "/api/sessions/refresh", in, &next)
	if system.StatusOf(err) == http.StatusUnauthorized {
		return nil // it has ended
	}
	if err == nil {
		c.token = next.AccessToken
		err = c.send(ctx, http.MethodDelete, "/api/sessions/current", nil, nil)
		c.token = ""
	}
	return err
}
