package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/ebb-dev/ebb/infra/system"
)

// client sends requests to the gateway of a running system, as its admin. It follows no redirects, because the admin's
// password and token must not go to another address than the user's.
type client struct {
	app   *app
	url   string
	admin func() (credentials, error) // called before the first sign-in only
	given string                      // the token of EBB_TOKEN, in place of a sign-in; "": none
	token string
	http  http.Client

	logins    *logins // where sessions are stored that later commands go on with; nil: nowhere
	continued bool    // the token is of a session that an earlier command has opened
	refused   string  // a token of such a session that the system has refused
	device    string  // the device token of an earlier sign-in; "": none

	stepUp string // the step-up token of --step-up; "": none
	proves bool   // a request that needs a recent proof of the caller is sent again with one
}

func (a *app) newClient(url string, admin func() (credentials, error)) *client {
	return &client{app: a, url: strings.TrimSuffix(url, "/"), admin: admin, http: http.Client{
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// connection holds the flags of a command that calls a running system.
type connection struct {
	app                *app
	url, data, context string
	stepUp             string
}

// define adds all flags. A command whose --data has another meaning calls defineAddress, which leaves it out.
func (n *connection) define(a *app, f *pflag.FlagSet) {
	n.defineAddress(a, f)
	f.StringVar(&n.data, "data", "", "directory where dev stores the admin that it made (EBB_DATA, "+a.dataDir()+")")
}

func (n *connection) defineAddress(a *app, f *pflag.FlagSet) {
	n.app = a
	f.StringVar(&n.url, "url", "", "where the system runs (EBB_URL, the context, http://127.0.0.1:8080)")
	f.StringVar(&n.context, "context", "", "the context to use instead of the current one")
	f.StringVar(&n.stepUp, "step-up", "",
		"a step-up `token` for an operation that needs a recent proof; without it the password, or a question")
}

// open returns a client for the system of --url, --context, the environment, or the current context.
func (n *connection) open() (*client, error) {
	address, err := n.address()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageErrorf("invalid address %q: want http://HOST:PORT or https://HOST", address)
	}
	c := n.app.newClient(address, func() (credentials, error) { return n.credentials(u) })
	c.given = fallback(n.app.Lookup, "EBB_TOKEN", "")
	c.stepUp, c.proves = n.stepUp, true
	if stored, err := n.app.logins(); err == nil && c.given == "" {
		c.logins = &stored
	}
	return c, c.trustAuthority(n.dataDir())
}

func (n *connection) address() (string, error) {
	if n.url != "" {
		return n.url, nil
	}
	if n.context != "" {
		return n.app.contextURL(n.context)
	}
	if address := fallback(n.app.Lookup, "EBB_URL", ""); address != "" {
		return address, nil
	}
	if addr := fallback(n.app.Lookup, "EBB_ADDR", ""); addr != "" {
		return "http://" + dialable(addr), nil
	}
	contexts, err := n.app.loadContexts()
	if err != nil {
		return "", err
	}
	if contexts.Current != "" {
		return contexts.url(contexts.Current)
	}
	return "http://" + defaultAddr, nil
}

// dataDir returns the directory where dev stores what it makes.
func (n *connection) dataDir() string {
	return cmp.Or(n.data, fallback(n.app.Lookup, "EBB_DATA", ""), n.app.dataDir())
}

// isLocal reports whether the system runs on this machine.
func (c *client) isLocal() bool {
	u, err := url.Parse(c.url)
	return err == nil && isLoopback(u.Hostname())
}

// credentials returns those of the environment, or those that dev made. The latter are for a system on this machine:
// another one gets them only if the user names their directory.
func (n *connection) credentials(u *url.URL) (credentials, error) {
	dir := cmp.Or(n.data, fallback(n.app.Lookup, "EBB_DATA", ""))
	if dir == "" {
		if _, named := namedAdmin(n.app.Lookup); !named && !isLoopback(u.Hostname()) {
			return credentials{}, fmt.Errorf("no admin is known for %s: sign in with login, or "+
				"set EBB_ADMIN_EMAIL and EBB_ADMIN_PASSWORD", u.Host)
		}
		dir = n.app.dataDir()
	}
	return knownAdmin(dir, n.app.Lookup)
}

// call sends in as JSON and decodes the response into out; either may be nil. Without a token it signs in first.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	return c.withToken(ctx, func() error { return c.send(ctx, method, path, in, out) })
}

// withToken calls do with a token, and once more with a new one if the system refuses it: it has expired, as an admin's
// lives for minutes, or its session has ended. A token of an earlier command that has too little power is replaced too,
// if the password is known: to sign in with it may give the configured admin the role again.
func (c *client) withToken(ctx context.Context, do func() error) error {
	signedIn := c.token == ""
	if err := c.signIn(ctx); err != nil {
		return err
	}
	err := do()
	switch status := system.StatusOf(err); {
	case c.given != "":
		return err
	case status == http.StatusUnauthorized && (!signedIn || c.continued):
	case status == http.StatusForbidden && c.continued && c.signsInAs().Password != "":
		if c.logout(ctx, c.signsInAs().Email) != nil {
			return err
		}
	default:
		return err
	}
	c.refused, c.token = c.token, ""
	if err := c.signIn(ctx); err != nil {
		return err
	}
	return do()
}

// callLazily is like call, but signs in only when the request without a token is refused, as for a public operation.
func (c *client) callLazily(ctx context.Context, method, path string, in, out any) error {
	err := c.send(ctx, method, path, in, out)
	if c.token != "" || system.StatusOf(err) != http.StatusUnauthorized {
		return err
	}
	return c.call(ctx, method, path, in, out)
}

// signIn gets a token, if there is none: the given one, that of a session that is open, or one for the admin.
func (c *client) signIn(ctx context.Context) error {
	if c.token != "" {
		return nil
	}
	if c.given != "" {
		c.token = c.given
		return nil
	}
	c.continued = false
	if err := c.goOn(ctx); err != nil || c.token != "" {
		return err
	}
	admin, err := c.admin()
	if err != nil {
		return err
	}
	admin.Device = c.device
	var session tokens
	if err := c.send(ctx, http.MethodPost, "/api/sessions", admin, &session); err != nil {
		return fmt.Errorf("sign in as %s: %w", admin.Email, err)
	}
	c.token = session.AccessToken
	_ = c.keep(admin.Email, session, false) // where it cannot be stored the next command signs in too
	return nil
}

// decodeClaims decodes the claims of an access token, a JWT that it does not verify.
func decodeClaims(token string, into any) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("the access token is not a JWT")
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	return json.Unmarshal(claims, into)
}

func (c *client) send(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	header := http.Header{}
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = data
		header.Set("Content-Type", "application/json")
	}
	a, err := c.do(ctx, method, path, header, body)
	if err != nil {
		return err
	}
	if a.status >= 300 {
		return a.failure(method, path)
	}
	if out == nil || len(a.body) == 0 {
		return nil
	}
	return json.Unmarshal(a.body, out)
}

// codeIsMissing reports whether a refusal of a sign-in says that the password is right and a code is needed.
func codeIsMissing(text string) bool { return strings.Contains(text, "; body.code ") }

// response is the response to a request.
type response struct {
	status int
	header http.Header
	body   []byte
}

// do sends one request, and once more with a proof of the caller if it is refused for the lack of one. It returns an
// error for a redirect, and for no other response.
func (c *client) do(ctx context.Context, method, path string, header http.Header, body []byte) (response, error) {
	a, err := c.once(ctx, method, path, header, body)
	if err != nil || !c.proves || c.token == "" || header.Get(stepUpField) != "" || !a.demandsProof(body) {
		return a, err
	}
	proof, err := c.prove(ctx)
	if err != nil {
		return a, err
	}
	header = header.Clone()
	header.Set(stepUpField, proof)
	return c.once(ctx, method, path, header, body)
}

func (c *client) once(
	ctx context.Context, method, path string, header http.Header, body []byte,
) (a response, err error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	r.Header = header.Clone()
	if c.token != "" && r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	err = c.app.during("waiting for "+c.url, func() error {
		resp, err := c.http.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		a.status, a.header = resp.StatusCode, resp.Header
		a.body, err = io.ReadAll(resp.Body)
		return err
	})
	var failed *url.Error
	if errors.As(err, &failed) && ctx.Err() == nil {
		return a, fmt.Errorf("no system answers at %s (%w); is it running?", c.url, failed.Err)
	}
	if to := a.header.Get("Location"); err == nil && a.status >= 300 && a.status < 400 && to != "" {
		return a, fmt.Errorf("%s redirects to %s, which is not followed: name the system's own address with --url",
			c.url+path, to)
	}
	return a, err
}

// failure returns an error of type *system.StatusError with the response's problem details.
func (a response) failure(method, path string) error {
	var problem struct {
		Detail string `json:"detail"`
		Errors []struct {
			Location string `json:"location"`
			Message  string `json:"message"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(a.body, &problem) // without a problem document the status is enough
	text := fmt.Sprintf("%s %s: %d %s", method, path, a.status, http.StatusText(a.status))
	if problem.Detail != "" {
		text += ": " + problem.Detail
	}
	for _, e := range problem.Errors {
		text += fmt.Sprintf("; %s %s", e.Location, e.Message)
	}
	return &system.StatusError{Status: a.status, Text: text}
}
