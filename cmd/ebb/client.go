package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/system"
)

// client talks to the gateway of a running system, as its admin.
type client struct {
	url   string
	admin credentials
	token string
	http  http.Client
}

// clientFlags adds what every command needs that talks to a running system.
func clientFlags(t *tool, f *flag.FlagSet) func() (*client, error) {
	address := f.String("url", fallback(t.lookup, "EBB_URL", "http://"+fallback(t.lookup, "EBB_ADDR", "127.0.0.1:8080")), "where the system runs (EBB_URL)")
	data := f.String("data", fallback(t.lookup, "EBB_DATA", ".ebb"), "directory where ebb dev keeps the admin it made (EBB_DATA)")
	return func() (*client, error) {
		u, err := url.Parse(*address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, wrong("%q is no address of a system; it must be like http://127.0.0.1:8080", *address)
		}
		admin, err := knownAdmin(*data, t.lookup)
		return &client{url: *address, admin: admin, http: http.Client{Timeout: time.Minute}}, err
	}
}

// knownAdmin is who the environment names, or who ebb dev made; it makes nobody.
func knownAdmin(dir string, lookup config.Lookup) (credentials, error) {
	if admin, ok := namedAdmin(lookup); ok {
		return admin, nil
	}
	var admin credentials
	data, err := os.ReadFile(filepath.Join(dir, adminFile))
	if err == nil {
		err = json.Unmarshal(data, &admin)
	}
	if err != nil {
		return admin, fmt.Errorf("no admin is known: set EBB_ADMIN_EMAIL and EBB_ADMIN_PASSWORD, or --data to where ebb dev keeps its data (%w)", err)
	}
	return admin, nil
}

// call sends in as JSON and reads the answer into out; nil for neither. Without a token it signs in first, and once more
// when the token is refused: one of an admin lives for minutes, and a command that follows events for longer.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	signedIn := c.token == ""
	if signedIn {
		if err := c.signIn(ctx); err != nil {
			return err
		}
	}
	err := c.send(ctx, method, path, in, out)
	if signedIn || system.StatusOf(err) != http.StatusUnauthorized {
		return err
	}
	c.token = ""
	if err := c.signIn(ctx); err != nil {
		return err
	}
	return c.send(ctx, method, path, in, out)
}

func (c *client) signIn(ctx context.Context) error {
	var session struct {
		AccessToken string `json:"access_token"`
	}
	if err := c.send(ctx, http.MethodPost, "/api/sessions", c.admin, &session); err != nil {
		return fmt.Errorf("sign in as %s: %w", c.admin.Email, err)
	}
	c.token = session.AccessToken
	return nil
}

func (c *client) send(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) && ctx.Err() == nil {
			return fmt.Errorf("no system answers at %s (%w); is ebb dev running?", c.url, failed.Err)
		}
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return refused(method, path, answer.StatusCode, data)
	}
	if out == nil || len(data) == 0 {
		return nil
	}
	return json.Unmarshal(data, out)
}

func refused(method, path string, status int, body []byte) error {
	var problem struct {
		Detail string `json:"detail"`
		Errors []struct {
			Location string `json:"location"`
			Message  string `json:"message"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(body, &problem) // whatever it is, the status says enough
	text := fmt.Sprintf("%s %s: %d %s", method, path, status, http.StatusText(status))
	if problem.Detail != "" {
		text += ": " + problem.Detail
	}
	for _, e := range problem.Errors {
		text += fmt.Sprintf("; %s %s", e.Location, e.Message)
	}
	return &system.StatusError{Status: status, Text: text}
}
