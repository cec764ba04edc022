package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/cli"
)

// A run that logs everything, in which users register, sign in, are refused and change their passwords, has no
// password, token or key in its output or in its log files.
func TestSecretsAreNotLogged(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	secrets := map[string]string{ // by what they are
		"the admin's password": "the-admin-of-this-run-9d1c", "a password": "a-customer-of-this-run-77aa",
		"a wrong password": "not-the-password-of-it-5e1f", "a new password": "the-next-password-of-it-31bd",
		"the token of metrics":    "metrics-token-of-this-run-0123456789abcdef",
		"the password of a relay": "relay-password-of-this-run-4411",
	}
	p, out, errs := process(dir, map[string]string{
		"EBB_DATA": data, "EBB_ADDR": "127.0.0.1:0", "EBB_LOG_LEVEL": "debug", "EBB_PASSWORD_MIN": "8",
		"EBB_ADMIN_EMAIL": "admin@example.com", "EBB_ADMIN_PASSWORD": secrets["the admin's password"],
		"EBB_METRICS_TOKEN": secrets["the token of metrics"], "EBB_ACCESS_LOG": "on",
		"EBB_SMTP_URL": "smtp://relay:" + secrets["the password of a relay"] + "@127.0.0.1:1",
	})
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- cli.Run(ctx, functions.System(), p, []string{"dev"}) }()
	at := listening(t, devPattern, ended, out, errs)
	call := func(method, path, token string, in any) (status int, answer map[string]any) {
		t.Helper()
		body, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequest(method, at+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Body.Close()
		text, err := io.ReadAll(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = json.Unmarshal(text, &answer) // some answers have no body
		return w.StatusCode, answer
	}
	who := map[string]any{"email": "ann@example.com", "name": "Ann", "password": secrets["a password"]}
	call("POST", "/api/users", "", who)
	call("POST", "/api/sessions", "", map[string]any{"email": "ann@example.com", "password": secrets["a wrong password"]})
	status, session := call("POST", "/api/sessions", "", map[string]any{
		"email": "ann@example.com", "password": secrets["a password"],
	})
	access, _ := session["access_token"].(string)
	refresh, _ := session["refresh_token"].(string)
	if status/100 != 2 || access == "" || refresh == "" {
		t.Fatalf("signing in: %d %v", status, session)
	}
	secrets["an access token"], secrets["a refresh token"] = access, refresh
	call("GET", "/api/me", access, nil)
	call("GET", "/api/me", access+"x", nil)
	call("GET", "/api/users", access, nil)
	claims := strings.Split(access, ".")
	secrets["the signature of a token"] = claims[2]
	_, me := call("GET", "/api/me", access, nil)
	if user, ok := me["user"].(map[string]any); ok {
		id, _ := user["id"].(string)
		call("PATCH", "/api/users/"+id, access, map[string]any{
			"password": secrets["a new password"], "current_password": secrets["a password"],
		})
	}
	_, next := call("POST", "/api/sessions/refresh", "", map[string]any{"refresh_token": refresh})
	if token, ok := next["access_token"].(string); ok {
		secrets["another access token"] = token
	}
	call("POST", "/api/sessions/refresh", "", map[string]any{"refresh_token": refresh})
	call("GET", "/metrics", secrets["the token of metrics"], nil)
	end()
	if code := <-ended; code != 0 {
		t.Errorf("it ended with %d: %s", code, errs)
	}

	var ring struct {
		Keys []struct {
			D string `json:"d"`
		} `json:"keys"`
	}
	text, err := os.ReadFile(filepath.Join(data, "keys.json"))
	if err != nil || json.Unmarshal(text, &ring) != nil || len(ring.Keys) == 0 {
		t.Fatalf("the signing keys: %v", err)
	}
	secrets["a signing key"] = ring.Keys[0].D
	if text, err = os.ReadFile(filepath.Join(data, "personal.key")); err != nil {
		t.Fatal(err)
	}
	secrets["the key of persons"] = strings.TrimSpace(string(text))

	logged := map[string]string{"the output": out.String(), "the errors": errs.String()}
	err = filepath.WalkDir(filepath.Join(data, "log"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		logged[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(logged["the errors"], "/api/sessions") {
		t.Errorf("the run did not log its requests: %s", logged["the errors"])
	}
	for where, text := range logged {
		for what, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %s", where, what)
			}
		}
	}
}
