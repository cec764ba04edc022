package console

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
)

// person is who is signed in.
type person struct {
	auth.Principal
	token string
}

// Acts reports whether the person may change something.
func (p person) Acts() bool { return slices.ContainsFunc(auth.Operators(), p.Is) }

func (p person) staff() bool { return slices.ContainsFunc(auth.Viewers(), p.Is) }

// The cookies of a session.
const (
	accessCookie  = "ebb-console"
	refreshCookie = "ebb-console-refresh"
)

// sessionLife is how long the cookies are kept by the browser: a working day.
const sessionLife = 12 * time.Hour

// tokens are those of a session, as the users function has them.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// secure reports whether the browser speaks TLS, with the console or with a proxy before it.
func secure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// cookieName returns the name of a cookie. Over TLS it is one that only this host can have set.
func cookieName(r *http.Request, name string) string {
	if secure(r) {
		return "__Host-" + name
	}
	return name
}

func setCookies(w http.ResponseWriter, r *http.Request, t tokens) {
	setCookie(w, r, accessCookie, t.Access, int(sessionLife.Seconds()))
	setCookie(w, r, refreshCookie, t.Refresh, int(sessionLife.Seconds()))
}

// setCookie sets a cookie for a number of seconds, or removes it if the value is empty.
func setCookie(w http.ResponseWriter, r *http.Request, name, value string, seconds int) {
	c := &http.Cookie{
		Name: cookieName(r, name), Value: value, Path: "/", HttpOnly: true, Secure: secure(r),
		SameSite: http.SameSiteStrictMode, MaxAge: seconds,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(cookieName(r, name))
	if err != nil {
		return ""
	}
	return c.Value
}

// errSignedOut is that no person is signed in.
var errSignedOut = errors.New("sign in first")

// identify returns who is signed in. A token that has expired is exchanged for another one.
func (c *console) identify(w http.ResponseWriter, r *http.Request) (person, error) {
	if p, err := c.verify(r, cookie(r, accessCookie)); err == nil {
		return p, nil
	}
	refresh := cookie(r, refreshCookie)
	if refresh == "" {
		return person{}, errSignedOut
	}
	t, err := c.refreshes.do(refresh, c.now(), func() (t tokens, err error) {
		_, err = c.api.call(r, "", http.MethodPost, "/api/sessions/refresh", map[string]string{"refresh_token": refresh}, &t)
		return t, err
	})
	if err != nil {
		switch statusOf(err) {
		case http.StatusUnauthorized, http.StatusUnprocessableEntity: // it is no good, or no refresh token at all
		default: // the session may well go on
			return person{}, err
		}
		setCookies(w, r, tokens{})
		return person{}, errSignedOut
	}
	setCookies(w, r, t)
	return c.verify(r, t.Access)
}

// verify returns whose token it is.
func (c *console) verify(r *http.Request, token string) (person, error) {
	if token == "" || c.authenticator == nil {
		return person{}, errSignedOut
	}
	asked := &http.Request{Method: r.Method, URL: r.URL, Header: http.Header{"Authorization": {"Bearer " + token}}}
	p, err := c.authenticator.Authenticate(asked.WithContext(r.Context()))
	if err != nil || p.Anonymous() {
		return person{}, errSignedOut
	}
	return person{p, token}, nil
}

// refreshes exchanges a refresh token once for requests that come together, as of two tabs: showing a used one ends the
// session. What another process has exchanged it does not know, and then the person signs in again.
type refreshes struct {
	mu  sync.Mutex
	all map[[32]byte]*exchanged
}

type exchanged struct {
	once   sync.Once
	at     time.Time
	tokens tokens
	err    error
}

// rememberRefresh is how long the tokens that were got for a token are remembered.
const rememberRefresh = 30 * time.Second

func (x *refreshes) do(token string, now time.Time, get func() (tokens, error)) (tokens, error) {
	key := sha256.Sum256([]byte(token))
	x.mu.Lock()
	for k, e := range x.all {
		if now.Sub(e.at) > rememberRefresh {
			delete(x.all, k)
		}
	}
	e := x.all[key]
	if e == nil {
		if x.all == nil {
			x.all = map[[32]byte]*exchanged{}
		}
		e = &exchanged{at: now}
		x.all[key] = e
	}
	x.mu.Unlock()
	e.once.Do(func() { e.tokens, e.err = get() })
	if e.err != nil {
		x.mu.Lock()
		delete(x.all, key)
		x.mu.Unlock()
	}
	return e.tokens, e.err
}

func (c *console) signInPage(w http.ResponseWriter, r *http.Request) {
	c.show(w, r, person{}, http.StatusOK, "signin", view{Title: "Sign in", Data: map[string]string{
		"To": local(r.FormValue("to")),
	}})
}

// local returns the path of a page of the console; that of the first one for all else.
func local(to string) string {
	if !strings.HasPrefix(to, base+"/") || strings.Contains(to, "\\") || strings.Contains(to, "//") {
		return base + "/sagas"
	}
	return to
}

func (c *console) signIn(w http.ResponseWriter, r *http.Request) {
	in := map[string]any{"email": r.FormValue("email"), "password": r.FormValue("password")}
	if code := r.FormValue("code"); code != "" {
		in["code"] = code
	}
	c.signInBy(w, r, "/api/sessions", in)
}

// refuseSignIn shows the sign-in page with an error.
func (c *console) refuseSignIn(w http.ResponseWriter, r *http.Request, err error) {
	err = c.told(r, err)
	c.show(w, r, person{}, statusOf(err), "signin", view{Title: "Sign in", Problem: sentence(err), Data: map[string]string{
		"To": local(r.FormValue("to")), "Email": r.FormValue("email"),
	}})
}

// signInBy opens a session by an operation of the users function, which gets in, and sets the cookies of the session.
func (c *console) signInBy(w http.ResponseWriter, r *http.Request, path string, in map[string]any) {
	var t tokens
	if _, err := c.api.call(r, "", http.MethodPost, path, in, &t); err != nil {
		c.refuseSignIn(w, r, err)
		return
	}
	p, err := c.verify(r, t.Access)
	if err != nil || !p.staff() {
		_, _ = c.api.call(r, t.Access, http.MethodDelete, "/api/sessions/current", nil, nil) // it opens nothing here
		c.refuseSignIn(w, r, &failure{Status: http.StatusForbidden, Detail: "This account may not use the console: it " +
			"needs the role of an administrator, an operator or a viewer."})
		return
	}
	setCookies(w, r, t)
	http.Redirect(w, r, local(r.FormValue("to")), http.StatusSeeOther)
}

func (c *console) signOut(w http.ResponseWriter, r *http.Request) {
	if p, err := c.identify(w, r); err == nil {
		_, _ = c.api.call(r, p.token, http.MethodDelete, "/api/sessions/current", nil, nil) // without it the tokens expire
	}
	w.Header().Del("Set-Cookie") // of a token that was exchanged for this
	setCookies(w, r, tokens{})
	setCookie(w, r, stepUpCookie, "", 0)
	http.Redirect(w, r, base+"/sign-in", http.StatusSeeOther)
}
