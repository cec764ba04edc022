package local_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// with sends a request with one more header field and returns the status and the body.
func (s *shopHost) with(method, path, token, name, value string, in any) (int, string) {
	s.Helper()
	data, err := json.Marshal(in)
	if err != nil {
		s.Fatal(err)
	}
	r, err := http.NewRequest(method, s.url+path, bytes.NewReader(data))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set(name, value)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// A flag that is switched over HTTP changes what another function does: the shop takes no payments, and takes them
// again when the flag is switched off.
func TestFlags(t *testing.T) {
	s := start(t, t.TempDir(), time.Second)
	product, customer := s.customer()
	admin := s.signIn(adminEmail, adminPassword)
	s.confirmed(s.place(product, customer).ID, customer)

	const path = "/api/flags/payments-accepted"
	flag := map[string]any{"reason": "the bank is away", "definition": map[string]any{
		"state": "ENABLED", "variants": map[string]bool{"yes": true, "no": false}, "defaultVariant": "no",
	}}
	if status, body := s.with("PUT", path, admin, "If-None-Match", "*", flag); status != http.StatusCreated {
		t.Fatalf("got %d %s", status, body)
	}
	const ofrep = "/ofrep/v1/evaluate/flags/payments-accepted"
	status, body := s.with("POST", ofrep, customer, "Accept", "*/*", map[string]any{})
	if status != http.StatusOK || !strings.Contains(body, `"value":false`) {
		t.Errorf("OFREP: got %d %s", status, body)
	}
	ends := func(id string) (o order) {
		t.Helper()
		s.within(15*time.Second, "the order comes to its end", func() bool {
			s.must("GET", "/api/orders/"+id, customer, nil, &o)
			return o.Status != "pending"
		})
		return o
	}
	var o order
	s.within(15*time.Second, "payments has heard of the flag", func() bool {
		o = ends(s.place(product, customer).ID)
		return o.Status == "cancelled"
	})
	if !strings.Contains(o.Reason, "not accepted at the moment") {
		t.Errorf("the reason is %q", o.Reason)
	}
	s.must("POST", path+"/disable", admin, map[string]string{"reason": "it is back"}, nil)
	s.within(15*time.Second, "payments has heard that the flag is off", func() bool {
		return ends(s.place(product, customer).ID).Status == "confirmed"
	})
}
