package openapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop/inprocess"
)

const (
	adminEmail    = inprocess.AdminEmail
	adminPassword = inprocess.AdminPassword
)

// shop is the whole shop in this process, behind the server that ebb dev has. It records what is answered.
type shop struct {
	*testing.T
	*inprocess.Shop
	*document
	url string

	answered map[string]map[string]bool // operation → statuses
	reported map[string]bool            // faults, each once
}

func start(t *testing.T) *shop {
	t.Helper()
	s := &shop{T: t, Shop: inprocess.Start(t), answered: map[string]map[string]bool{}, reported: map[string]bool{}}
	s.url = "http://" + s.Address
	answer, raw := s.send(http.MethodGet, "/openapi.json", "", nil)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", answer.StatusCode, raw)
	}
	var err error
	if s.document, err = parse(raw); err != nil {
		t.Fatal(err)
	}
	return s
}

// direct follows no redirects.
var direct = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableCompression: true},
}

// send sends a request with a body, nil: none, and checks the answer. Header is a list of names and values.
func (s *shop) send(method, path, token string, body []byte, header ...string) (*http.Response, []byte) {
	s.Helper()
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(s.Context(), method, s.url+path, content)
	if err != nil {
		s.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := direct.Do(r)
	if err != nil {
		s.Fatalf("%s %s: %v", method, path, err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		s.Fatal(err)
	}
	s.record(method, r.URL.EscapedPath(), answer, got)
	return answer, got
}

// record notes an answer and reports what the document does not say about it.
func (s *shop) record(method, path string, answer *http.Response, body []byte) {
	s.Helper()
	if s.document == nil {
		return
	}
	name := method + " " + path
	if op, ok := s.find(method, path); ok {
		name = op.String()
		if s.answered[name] == nil {
			s.answered[name] = map[string]bool{}
		}
		s.answered[name][answer.Status[:3]] = true
	}
	for _, fault := range s.check(method, path, answer, body) {
		if fault = name + ": " + fault; !s.reported[fault] {
			s.reported[fault] = true
			s.Errorf("%s\n%s %s: %.300s", fault, method, path, body)
		}
	}
}

// call sends a value in JSON, nil: no body, and decodes the answer into out unless that is nil.
func (s *shop) call(method, path, token string, in, out any, header ...string) (status int) {
	s.Helper()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			s.Fatal(err)
		}
	}
	answer, got := s.send(method, path, token, body, header...)
	if out != nil && answer.StatusCode < 300 {
		if err := json.Unmarshal(got, out); err != nil {
			s.Fatalf("%s %s: %v: %s", method, path, err, got)
		}
	}
	return answer.StatusCode
}

// want is call with the status that must be answered.
func (s *shop) want(status int, method, path, token string, in, out any, header ...string) {
	s.Helper()
	if got := s.call(method, path, token, in, out, header...); got != status {
		s.Errorf("%s %s: status %d, want %d", method, path, got, status)
	}
}

// until repeats a call until the status is answered.
func (s *shop) until(status int, method, path, token string, in, out any, header ...string) {
	s.Helper()
	s.within("the status is "+http.StatusText(status)+": "+method+" "+path, func() bool {
		return s.call(method, path, token, in, out, header...) == status
	})
}

func (s *shop) within(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not within 20 s: %s", what)
		}
	}
}

type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

func (s *shop) signIn(email, password string) (t tokens) {
	s.Helper()
	s.want(http.StatusCreated, "POST", "/api/sessions", "", object{"email": email, "password": password}, &t)
	return t
}

// register returns the id and the token of a new customer.
func (s *shop) register(name string) (id, token string) {
	s.Helper()
	var user struct{ ID string }
	email, password := strings.ToLower(name)+"@example.com", "a password for "+name
	s.want(http.StatusCreated, "POST", "/api/users", "", object{"name": name, "email": email, "password": password}, &user)
	return user.ID, s.signIn(email, password).Access
}
