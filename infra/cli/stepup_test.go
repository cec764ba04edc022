package cli

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// proving makes the system ask for a proof at an operation, and give one for a password or a code.
func proving(f *fake, pattern, location string) (asked *[]string) {
	asked = &[]string{}
	f.answer("POST /api/sessions/current/step-up", 201, `{"step_up_token":"proof"}`)
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		given := r.Header.Get("Ebb-Step-Up")
		*asked = append(*asked, given)
		if given == "proof" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"detail":"this needs a recent proof that it is you",
			"errors":[{"location":"`+location+`","message":"is needed"}]}`)
	})
	return asked
}

// A request that is refused for the lack of a proof is sent again with one. The proof is the password of the admin that
// the command signs in as, or --step-up; with a token or a second factor the user is asked.
func TestStepUp(t *testing.T) {
	const lacking = "header.Ebb-Step-Up"
	admin := map[string]string{"EBB_ADMIN_EMAIL": "admin@example.com", "EBB_ADMIN_PASSWORD": "secret"}
	withCode := map[string]string{
		"EBB_ADMIN_EMAIL": "a@example.com", "EBB_ADMIN_PASSWORD": "s", "EBB_ADMIN_CODE": "123456",
	}
	token := map[string]string{"EBB_TOKEN": "sesame"}
	for name, c := range map[string]struct {
		vars     map[string]string
		location string
		args     []string
		code     int
		given    []string // the proof of each request
		proved   string   // the body by which the proof was got
		errs     string
	}{
		"by the password":  {admin, lacking, nil, 0, []string{"", "proof"}, `{"password":"secret"}`, ""},
		"no body":          {admin, "body.current_password", nil, 0, []string{"", "proof"}, `{"password":"secret"}`, ""},
		"another refusal":  {admin, "body.name", nil, 1, []string{""}, "", "body.name is needed"},
		"by a given proof": {token, lacking, []string{"--step-up", "proof"}, 0, []string{"", "proof"}, "", ""},
		"by a wrong proof": {token, lacking, []string{"--step-up", "x"}, 1, []string{"", "x"}, "", "Ebb-Step-Up is needed"},
		"no terminal":      {token, lacking, nil, 1, []string{""}, "", "--step-up TOKEN"},
		"a second factor":  {withCode, lacking, nil, 1, []string{""}, "", "--step-up TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			given := proving(f, "DELETE /api/api-keys/k1", c.location)
			vars := map[string]string{"EBB_URL": f.URL}
			for k, v := range c.vars {
				vars[k] = v
			}
			code, _, errs := ebb(t.Context(), t.TempDir(), vars, append([]string{"apikeys", "revoke", "k1"}, c.args...)...)
			proved := ""
			for _, r := range f.requests {
				if _, body, ok := strings.Cut(r, "POST /api/sessions/current/step-up Bearer sesame "); ok {
					proved = body
				}
			}
			if code != c.code || !slices.Equal(*given, c.given) || proved != c.proved ||
				!strings.Contains(errs.String(), c.errs) {
				t.Errorf("got %d %q, proofs %q by %q", code, errs, *given, proved)
			}
		})
	}
}

// On a terminal the answer is sent as a password and as a code: the system takes the one that counts.
func TestStepUpAsks(t *testing.T) {
	f := newFake(t)
	proving(f, "DELETE /x", "header.Ebb-Step-Up")
	p, _, _ := process(t.TempDir(), nil)
	var question string
	a := &app{Process: p, terminal: func(io.Writer) bool { return false },
		secret: func(_ io.Reader, _ io.Writer, q string) (string, error) { question = q; return "123456\n", nil }}
	c := a.newClient(f.URL, nil)
	c.given, c.proves = "sesame", true
	if err := c.call(t.Context(), http.MethodDelete, "/x", nil, nil); err != nil {
		t.Error(err)
	}
	want := `POST /api/sessions/current/step-up Bearer sesame {"code":"123456","password":"123456"}`
	if !slices.Contains(f.requests, want) || question == "" {
		t.Errorf("asked %q by %q", f.requests, question)
	}
}

// A wrong password in a body is no reason to send another one, and an agent's tools prove nothing.
func TestStepUpIsNotTried(t *testing.T) {
	f := newFake(t)
	given := proving(f, "DELETE /api/products/{id}", "header.Ebb-Step-Up")
	a := newAgent(t, t.TempDir(), f.URL, jwt("admin"))
	args := map[string]any{"operation": "delete-products-id", "path": map[string]any{"id": "p1"}}
	if text, failed := a.use("call_operation", args); !failed || !strings.Contains(text, "recent proof") {
		t.Errorf("got %v %s", failed, text)
	}
	if !slices.Equal(*given, []string{""}) {
		t.Errorf("proofs %q", *given)
	}
	refused := response{status: 422, body: []byte(`{"errors":[{"location":"body.current_password"}]}`)}
	if refused.demandsProof([]byte(`{"current_password":"x"}`)) {
		t.Error("a wrong password counts as none")
	}
}
