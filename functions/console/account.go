package console

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// The page Account shows the passkeys of the person who is signed in. Each person adds, renames and removes their own,
// a viewer too.

// stepUpCookie is the cookie with the step-up token of the session: the users function has checked the password, a code
// or a passkey of the person within the last minutes.
const stepUpCookie = "ebb-console-step-up"

// stepUpField is the header field in which the users function takes a step-up token.
const stepUpField = "Ebb-Step-Up"

// passkey is a passkey in an answer of the users function.
type passkey struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	LastUsed  time.Time `json:"last_used_at"`
	Synced    bool      `json:"synced"`
}

// accountData is what the page of the account shows.
type accountData struct {
	Passkeys []passkey
	Factor   struct {
		TOTP          bool `json:"totp"`
		Passkeys      int  `json:"passkeys"`
		RecoveryCodes int  `json:"recovery_codes"`
	}
	Proven bool     // the request has a step-up token
	Codes  []string // new recovery codes
	Now    time.Time
}

// usersPath returns the path of an operation about the person's account.
func (p person) usersPath(rest string) string {
	return "/api/users/" + url.PathEscape(p.Subject) + rest
}

func (c *console) account(w http.ResponseWriter, r *http.Request, p person) error {
	return c.showAccount(w, r, p, http.StatusOK, view{}, nil)
}

func (c *console) showAccount(
	w http.ResponseWriter, r *http.Request, p person, status int, v view, codes []string,
) error {
	d := accountData{Codes: codes, Now: c.now(), Proven: cookie(r, stepUpCookie) != ""}
	var list struct{ Items []passkey }
	if _, err := c.api.call(r, p.token, http.MethodGet, p.usersPath("/passkeys"), nil, &list); err != nil {
		return err
	}
	if _, err := c.api.call(r, p.token, http.MethodGet, p.usersPath("/second-factor"), nil, &d.Factor); err != nil {
		return err
	}
	d.Passkeys = list.Items
	v.Title, v.Data = "Account", d
	c.show(w, r, p, status, "account", v)
	return nil
}

// refuseAccount shows the page with an error. After status 422, by which the users function also refuses a step-up
// token, it removes the cookie with that token, and the page asks for another proof.
func (c *console) refuseAccount(w http.ResponseWriter, r *http.Request, p person, err error) error {
	err = c.told(r, err)
	if statusOf(err) == http.StatusUnprocessableEntity && cookie(r, stepUpCookie) != "" {
		setCookie(w, r, stepUpCookie, "", 0)
		r.Header.Del("Cookie")
	}
	return c.showAccount(w, r, p, statusOf(err), view{Problem: sentence(err)}, nil)
}

// browserAnswer returns the field passkey of the form: the JSON of a passkey that the browser has created, or of its
// signature.
func browserAnswer(r *http.Request) (json.RawMessage, error) {
	text := r.FormValue("passkey")
	if !json.Valid([]byte(text)) {
		return nil, &failure{Status: http.StatusUnprocessableEntity, Detail: "The browser gave no passkey."}
	}
	return json.RawMessage(text), nil
}

// options asks an operation for the options of a passkey, and sends them to the script of the page, or the problem if
// the operation refuses.
func (c *console) options(w http.ResponseWriter, r *http.Request, token, path string, in any, headers ...string) {
	var out struct {
		Options json.RawMessage `json:"public_key,omitempty"`
		Problem string          `json:"problem,omitempty"`
	}
	status := http.StatusOK
	if _, err := c.api.call(r, token, http.MethodPost, path, in, &out, headers...); err != nil {
		err = c.told(r, err)
		status, out.Problem = statusOf(err), sentence(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out)
}

func (c *console) proofOptions(w http.ResponseWriter, r *http.Request, p person) error {
	c.options(w, r, p.token, "/api/sessions/current/step-up/options", nil)
	return nil
}

func (c *console) passkeyOptions(w http.ResponseWriter, r *http.Request, p person) error {
	c.options(w, r, p.token, "/api/passkeys/options", struct{}{}, stepUpField, cookie(r, stepUpCookie))
	return nil
}

// prove exchanges the password, the code or the passkey of the form for a step-up token, and sets a cookie with the
// token that expires with it.
func (c *console) prove(w http.ResponseWriter, r *http.Request, p person) error {
	in := map[string]any{}
	for _, name := range []string{"password", "code"} {
		if text := r.FormValue(name); text != "" {
			in[name] = text
		}
	}
	if r.FormValue("passkey") != "" {
		signed, err := browserAnswer(r)
		if err != nil {
			return c.refuseAccount(w, r, p, err)
		}
		in["passkey"] = signed
	}
	var out struct {
		Token     string `json:"step_up_token"`
		ExpiresIn int    `json:"expires_in"`
	}
	if _, err := c.api.call(r, p.token, http.MethodPost, "/api/sessions/current/step-up", in, &out); err != nil {
		return c.refuseAccount(w, r, p, err)
	}
	setCookie(w, r, stepUpCookie, out.Token, out.ExpiresIn)
	return done(w, r, base+"/account", "prove")
}

func (c *console) addPasskey(w http.ResponseWriter, r *http.Request, p person) error {
	made, err := browserAnswer(r)
	if err != nil {
		return c.refuseAccount(w, r, p, err)
	}
	in := map[string]any{"name": r.FormValue("name"), "credential": made}
	var out struct {
		Codes []string `json:"recovery_codes"`
	}
	if _, err := c.api.call(r, p.token, http.MethodPost, "/api/passkeys", in, &out); err != nil {
		return c.refuseAccount(w, r, p, err)
	}
	if len(out.Codes) > 0 {
		return c.showAccount(w, r, p, http.StatusOK, view{Notice: notices["passkey"]}, out.Codes)
	}
	return done(w, r, base+"/account", "passkey")
}

func (c *console) actOnPasskey(w http.ResponseWriter, r *http.Request, p person) error {
	path := p.usersPath("/passkeys/" + url.PathEscape(r.PathValue("id")))
	var err error
	switch act := r.PathValue("act"); act {
	case "rename":
		_, err = c.api.call(r, p.token, http.MethodPatch, path, map[string]string{"name": r.FormValue("name")}, nil)
	case "remove":
		if r.FormValue("sure") != "yes" {
			return c.refuseAccount(w, r, p, &failure{Status: http.StatusBadRequest, Detail: "Tick the box to go on."})
		}
		_, err = c.api.call(r, p.token, http.MethodDelete, path, nil, nil, stepUpField, cookie(r, stepUpCookie))
	default:
		return &failure{Status: http.StatusNotFound, Detail: "There is no such page."}
	}
	if err != nil {
		return c.refuseAccount(w, r, p, err)
	}
	return done(w, r, base+"/account", "passkey-"+r.PathValue("act"))
}

func (c *console) signInOptions(w http.ResponseWriter, r *http.Request) {
	c.options(w, r, "", "/api/sessions/passkey/options", nil)
}

func (c *console) signInWithPasskey(w http.ResponseWriter, r *http.Request) {
	signed, err := browserAnswer(r)
	if err != nil {
		c.refuseSignIn(w, r, err)
		return
	}
	c.signInBy(w, r, "/api/sessions/passkey", map[string]any{"credential": signed})
}
