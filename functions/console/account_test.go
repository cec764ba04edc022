package console

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// withAccount answers what the page of the account asks for.
func withAccount(t *testing.T) *tested {
	x := newTested(t)
	x.answer("GET /api/users/ada/passkeys", 200,
		`{"items":[{"id":"k-1","name":"<b>Phone</b>","created_at":"2026-01-02T03:04:05Z"}]}`)
	x.answer("GET /api/users/ada/second-factor", 200, `{"totp":false,"passkeys":1,"recovery_codes":9}`)
	return x
}

// A person signs in with a passkey: the page's script gets the options, and the form has what the browser signed.
func TestSignInWithAPasskey(t *testing.T) {
	x := newTested(t)
	x.answer("POST /api/sessions/passkey/options", 201, `{"public_key":{"challenge":"c","rpId":"localhost"}}`)
	var got struct{ Credential json.RawMessage }
	role := "admin"
	x.mux.HandleFunc("POST /api/sessions/passkey", func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(201)
		_, _ = w.Write([]byte(`{"access_token":"` + role + `","refresh_token":"r"}`))
	})
	x.answer("DELETE /api/sessions/current", 204, "")
	w := x.post("/console/sign-in/passkey/options", nil)
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"public_key":{"challenge":"c","rpId":"localhost"}}` ||
		w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	form := url.Values{"passkey": {`{"id":"k"}`}, "to": {"/console/map"}}
	w = x.post("/console/sign-in/passkey", form)
	if w.Code != 303 || w.Header().Get("Location") != "/console/map" || len(w.Result().Cookies()) != 2 ||
		string(got.Credential) != `{"id":"k"}` {
		t.Errorf("got %d %v %s", w.Code, w.Header(), got.Credential)
	}
	for _, text := range []string{"", "{", "null}"} {
		if w := x.post("/console/sign-in/passkey", url.Values{"passkey": {text}}); w.Code != 422 {
			t.Errorf("%q: got %d", text, w.Code)
		}
	}
	role = "customer"
	if w := x.post("/console/sign-in/passkey", form); w.Code != 403 || len(w.Result().Cookies()) > 0 {
		t.Errorf("a customer: got %d %v", w.Code, w.Result().Cookies())
	}
	for _, path := range []string{"/console/sign-in/passkey", "/console/sign-in/passkey/options"} {
		r := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		if w := x.send(r); w.Code != 403 {
			t.Errorf("another site asks for %s: got %d", path, w.Code)
		}
	}
}

// Where passkeys are not set up, the page's script shows why.
func TestOptionsAreRefused(t *testing.T) {
	x := newTested(t)
	x.answer("POST /api/sessions/passkey/options", 409, `{"detail":"passkeys are not set up here"}`)
	w := x.post("/console/sign-in/passkey/options", nil)
	if w.Code != 409 || strings.TrimSpace(w.Body.String()) != `{"problem":"Passkeys are not set up here."}` {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// A viewer changes their own account too. What they have proven is in a cookie for as long as it is good, and is sent
// with what needs it.
func TestAccount(t *testing.T) {
	x := withAccount(t)
	stepUp := ""
	x.answer("POST /api/sessions/current/step-up", 201, `{"step_up_token":"s.token","expires_in":300}`)
	x.mux.HandleFunc("DELETE /api/users/ada/passkeys/k-1", func(w http.ResponseWriter, r *http.Request) {
		if stepUp = r.Header.Get("Ebb-Step-Up"); stepUp == "old" {
			w.WriteHeader(422)
			return
		}
		w.WriteHeader(204)
	})
	x.answer("PATCH /api/users/ada/passkeys/k-1", 200, "{}")
	x.answer("POST /api/passkeys", 201, `{"id":"k-2","recovery_codes":["AAAA-BBBB"]}`)
	viewer := []string{accessCookie, "viewer"}
	page := x.get("/console/account", viewer...).Body.String()
	if !strings.Contains(page, "&lt;b&gt;Phone") || !strings.Contains(page, "Prove that it is you") ||
		strings.Contains(page, "/remove") {
		t.Errorf("got %s", page)
	}
	w := x.post("/console/account/proof", url.Values{"code": {"1"}}, viewer...)
	set := strings.Join(w.Result().Header["Set-Cookie"], "")
	if w.Code != 303 || !strings.Contains(set, stepUpCookie+"=s.token; Path=/; Max-Age=300; HttpOnly; SameSite=Strict") {
		t.Errorf("got %d %s", w.Code, set)
	}
	proven := append(viewer, stepUpCookie, "s.token")
	page = x.get("/console/account", proven...).Body.String()
	if !strings.Contains(page, "/console/account/passkeys/k-1/remove") || strings.Contains(page, "Prove that") {
		t.Errorf("got %s", page)
	}
	if w := x.post("/console/account/passkeys/k-1/remove", nil, proven...); w.Code != 400 || stepUp != "" {
		t.Errorf("got %d %q", w.Code, stepUp)
	}
	sure := url.Values{"sure": {"yes"}}
	if w := x.post("/console/account/passkeys/k-1/remove", sure, proven...); w.Code != 303 || stepUp != "s.token" {
		t.Errorf("got %d %q", w.Code, stepUp)
	}
	w = x.post("/console/account/passkeys/k-1/remove", sure, append(viewer, stepUpCookie, "old")...)
	if set := strings.Join(w.Result().Header["Set-Cookie"], ""); w.Code != 422 ||
		!strings.Contains(set, stepUpCookie+"=; Path=/; Max-Age=0") || !strings.Contains(w.Body.String(), "Prove that") {
		t.Errorf("got %d %s", w.Code, set)
	}
	if w := x.post("/console/account/passkeys/k-1/rename", url.Values{"name": {"x"}}, viewer...); w.Code != 303 {
		t.Errorf("got %d", w.Code)
	}
	if w := x.post("/console/account/passkeys/k-1/steal", sure, proven...); w.Code != 404 {
		t.Errorf("got %d", w.Code)
	}
	w = x.post("/console/account/passkeys", url.Values{"name": {"x"}, "passkey": {"{}"}}, proven...)
	if w.Code != 200 || !bytes.Contains(w.Body.Bytes(), []byte("AAAA-BBBB")) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	x.asked = nil
	for _, path := range []string{"proof", "passkeys", "passkeys/k-1/rename", "passkeys/options", "proof/options"} {
		if w := x.post("/console/account/"+path, sure, accessCookie, "customer"); w.Code != 403 || len(x.asked) > 0 {
			t.Errorf("a customer at %s: got %d %v", path, w.Code, x.asked)
		}
	}
}
