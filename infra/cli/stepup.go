package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/term"
)

// stepUpField is the header field for a step-up token: a recent proof of the caller, which some operations need besides
// the access token.
const stepUpField = "Ebb-Step-Up"

// demandsProof reports whether the response refuses the request because it lacks a recent proof of the caller. A wrong
// password in the body of the request is not lacking.
func (a response) demandsProof(body []byte) bool {
	if a.status != http.StatusUnprocessableEntity {
		return false
	}
	var problem struct {
		Errors []struct {
			Location string `json:"location"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(a.body, &problem) // without a problem document it is another refusal
	if len(problem.Errors) != 1 {
		return false
	}
	at, given := problem.Errors[0].Location, bytes.Contains(body, []byte("current_password"))
	return at == "header."+stepUpField || at == "body.current_password" && !given
}

// prove returns a step-up token for the client's session: the one of --step-up, or one for the password that the client
// signs in with. With EBB_TOKEN, after login, or when the account has a second factor, it asks on the terminal.
func (c *client) prove(ctx context.Context) (string, error) {
	if c.stepUp != "" {
		return c.stepUp, nil
	}
	admin := c.signsInAs()
	in := map[string]string{"password": admin.Password}
	if admin.Password == "" || admin.Code != "" {
		secret, err := c.app.ask("This needs a proof that it is you. Password, or with a second factor a new code: ")
		if err != nil {
			return "", err
		}
		in["password"] = secret
		if len(secret) <= maxCode {
			in["code"] = secret // the system takes the one that counts
		}
	}
	var proof struct {
		Token string `json:"step_up_token"`
	}
	if err := c.send(ctx, http.MethodPost, "/api/sessions/current/step-up", in, &proof); err != nil {
		return "", fmt.Errorf("prove who this is: %w", err)
	}
	return proof.Token, nil
}

// signsInAs returns what the client signs in with; nothing for a given token, and for a session of the command login.
func (c *client) signsInAs() (admin credentials) {
	if c.given != "" {
		return credentials{}
	}
	if _, named := namedAdmin(c.app.Lookup); !named && c.logins != nil {
		all, _ := c.logins.load() // without the file the admin signs in
		if _, ok := of(all, c.url, ""); ok {
			return credentials{}
		}
	}
	admin, _ = c.admin() // without one there is no password to send
	return admin
}

// maxCode is the length of the longest code of a second factor, a recovery code.
const maxCode = 64

// errNoTerminal is returned for a question when standard input is no terminal.
var errNoTerminal = errors.New("this needs a recent proof that it is you, and there is no terminal to ask on: " +
	"--step-up TOKEN, a token of POST /api/sessions/current/step-up")

// ask reads a secret from the terminal, which does not show it.
func (a *app) ask(question string) (string, error) {
	secret, err := a.secret(a.In, a.Err, question)
	return strings.TrimSpace(secret), err
}

// askTerminal reads a secret from in, if that is a terminal.
func askTerminal(in io.Reader, out io.Writer, question string) (string, error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", errNoTerminal
	}
	fmt.Fprint(out, question)
	secret, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(out)
	return string(secret), err
}
