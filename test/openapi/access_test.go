package openapi_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/generate"
)

// people are the callers of TestAccess, and what belongs to the customer.
type people struct {
	*shop
	ring                           *auth.KeyRing
	customer, customerToken        string // id and token
	other, viewer, operator, admin string // tokens
	revoked, expired               string
	order, product, key            string
	proof                          string // the admin's step-up token
	petra                          petra
	made                           int
}

// TestAccess calls each operation as each kind of caller, through the gateway and at the function itself. The answers
// are those of the table in docs/security.md.
func TestAccess(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.accessPeople()
	declared, err := functions.System().Declare()
	if err != nil {
		t.Fatal(err)
	}
	table, err := generate.AccessOf(declared)
	if err != nil || len(table) == 0 {
		t.Fatalf("%d operations, %v", len(table), err)
	}
	for _, a := range table {
		if a.Function == "console" {
			continue // pages: OpenAPI does not describe them, and they take cookies; their own tests are beside them
		}
		op := p.operation(a)
		for i := range generate.Callers {
			p.compare(a, op, i)
		}
		p.refused(a, op)
	}
}

func (s *shop) accessPeople() *people {
	s.Helper()
	p := &people{shop: s}
	raw, err := os.ReadFile(filepath.Join(s.Dir, "keys.json"))
	if err == nil {
		p.ring, err = auth.ParseKeyRing(raw)
	}
	if err != nil {
		s.Fatal(err)
	}
	chief := s.signIn(adminEmail, adminPassword).Access
	p.customer, p.customerToken = s.register("Ada")
	_, p.other = s.register("Bob")
	s.register("Dora") // who signs in again and again, so that the sessions of the others stay
	p.admin = p.staff(chief, "Clerk", "admin")
	p.viewer, p.operator = p.staff(chief, "Vera", "viewer"), p.staff(chief, "Otto", "operator")
	var made struct{ ID string }
	s.want(201, "POST", "/api/products", chief,
		object{"name": "Chart", "price": object{"amount": 100, "currency": "EUR"}}, &made, "Idempotency-Key", "chart")
	p.product = made.ID
	s.until(200, "PUT", "/api/stock/"+p.product, chief, object{"available": 1000}, nil)
	order := object{
		"lines": []any{object{"product_id": p.product, "quantity": 1}}, "payment": object{"token": "tok_ok"},
	}
	s.until(202, "POST", "/api/orders", p.customerToken, order, &made, "Idempotency-Key", "order")
	p.order = made.ID
	s.until(200, "GET", "/api/payments/"+p.order, p.customerToken, nil, nil)
	s.until(200, "GET", "/api/notifications/recipients/"+p.customer, p.customerToken, nil, nil)

	s.want(201, "POST", "/api/api-keys", p.customerToken, object{
		"name": "Ada's", "scopes": []any{"orders:read"}, "current_password": "a password for Ada",
	}, &made)
	p.key = made.ID
	p.petra = s.withPasskey("Petra")

	long := time.Now().Add(-time.Hour)
	past := auth.NewIssuer(p.ring, "ebb", "ebb", func() time.Time { return long })
	p.expired, _, err = past.Issue(auth.Grant{
		Subject: p.customer, Roles: []string{"admin", "customer"}, TTL: time.Minute,
	})
	if err != nil {
		s.Fatal(err)
	}
	p.revoked = p.staff(chief, "Mallory", "admin", "customer")
	gone := "/api/users/" + p.principal(p.revoked).Subject
	s.want(204, "DELETE", gone, chief, nil, nil, "Ebb-Step-Up", s.prove(chief, adminPassword))
	p.proof = s.prove(p.admin, "a password for Clerk")
	p.everywhere(401, p.revoked)
	return p
}

// prove returns a step-up token of the session of an access token.
func (s *shop) prove(access, password string) string {
	s.Helper()
	var proved struct {
		Token string `json:"step_up_token"`
	}
	s.want(201, "POST", "/api/sessions/current/step-up", access, object{"password": password}, &proved)
	return proved.Token
}

// everywhere waits until each function answers a token or an API key with the status.
func (p *people) everywhere(status int, credential string) {
	p.Helper()
	for _, name := range functions.System().Names() {
		if name != "gateway" && name != "console" {
			p.until(status, "GET", "/api/outbox/"+name, credential, nil, nil)
		}
	}
}

// principal returns whose token it is.
func (p *people) principal(token string) auth.Principal {
	p.Helper()
	verifier, err := auth.NewVerifier(auth.VerifierConfig{Keys: p.ring.Public(), Issuer: "ebb", Audience: "ebb"})
	if err != nil {
		p.Fatal(err)
	}
	who, err := verifier.Verify(token)
	if err != nil {
		p.Fatal(err)
	}
	return who
}

// staff returns the token of a new user with the roles.
func (p *people) staff(chief, name string, roles ...any) string {
	p.Helper()
	id, _ := p.register(name)
	p.want(200, "PATCH", "/api/users/"+id, chief, object{"roles": roles, "current_password": adminPassword}, nil)
	return p.signIn(strings.ToLower(name)+"@example.com", "a password for "+name).Access
}

// operation returns the operation of the document.
func (p *people) operation(a generate.Access) operation {
	p.Helper()
	for _, op := range p.operations() {
		if op.method == a.Method && op.path == a.Path {
			return op
		}
	}
	return operation{method: a.Method, path: a.Path} // a hidden one
}

// request returns the target and the body of a request for the operation that is valid, about what belongs to the
// customer, and the token of the caller.
func (p *people) request(a generate.Access, op operation, caller int) (target, token string, body []byte) {
	p.Helper()
	token = []string{"", p.customerToken, p.other, p.viewer, p.operator, p.admin}[caller]
	owner, petra := p.customer, p.petra
	var content any
	if schema := member(op.object, "requestBody", "content", "application/json", "schema"); schema != nil {
		content = p.sample(schema)
	}
	p.made++
	name := "Guest" + time.Now().Format("150405.000000") + strings.Repeat("x", p.made%7)
	switch a.Method + " " + a.Path {
	case "POST /api/sessions":
		content = object{"email": "dora@example.com", "password": "a password for Dora"}
	case "POST /api/sessions/refresh":
		content = object{"refresh_token": p.signIn("dora@example.com", "a password for Dora").Refresh}
	case "POST /api/sessions/passkey":
		content = object{"credential": p.signed(p.petra.device)}
	case "POST /api/users":
		content = object{"name": name, "email": name + "@example.com", "password": "a password for " + name}
	case "DELETE /api/sessions/current":
		email := []string{"", "ada", "bob", "vera", "otto", "clerk"}[caller]
		if email != "" {
			token = p.signIn(email+"@example.com", "a password for "+strings.ToUpper(email[:1])+email[1:]).Access
		}
	case "POST /api/products":
		content = object{"name": name, "price": object{"amount": 100, "currency": "EUR"}}
	case "PATCH /api/products/{id}":
		content = object{"name": "Chart"}
	case "POST /api/archive/mends", "POST /api/archive/mends/dry-run":
		content = object{"where": "false", "reason": "nothing"}
		if strings.HasSuffix(a.Path, "/dry-run") {
			content = object{"where": "false"}
		}
	case "POST /api/archive/replays":
		content = object{"to": "views", "since": "2126-01-01T00:00:00Z"}
	case "PATCH /api/users/{id}":
		content = object{"name": "Ada"}
	case "DELETE /api/users/{id}", "DELETE /api/users/{id}/sessions":
		id, guest := p.register(name)
		if owner = id; caller == 1 {
			token = guest
		}
	case "POST /api/orders":
		content = object{
			"lines": []any{object{"product_id": p.product, "quantity": 1}}, "payment": object{"token": "tok_ok"},
		}
	}
	if strings.Contains(a.Path, "/passkeys/{passkey}") {
		if a.Method == http.MethodDelete {
			petra = p.withPasskey(name)
		}
		if owner = petra.id; caller == 1 {
			token = p.signInWith(petra.device)
		}
	}
	target = a.Path
	for target != strings.NewReplacer("{", "", "}", "").Replace(target) {
		begin, end := strings.Index(target, "{"), strings.Index(target, "}")
		value := p.order
		switch name := target[begin+1 : end]; {
		case name == "product_id" || strings.Contains(a.Path, "/products"):
			value = p.product
		case strings.Contains(a.Path, "/api-keys/"):
			value = p.key
		case name == "passkey":
			value = petra.passkey
		case name == "session":
			value = p.principal(p.signIn("ada@example.com", "a password for Ada").Access).Session
		case strings.Contains(a.Path, "/users/") || strings.Contains(a.Path, "/recipients/") ||
			strings.Contains(a.Path, "/persons/"):
			value = owner
		case name == "call":
			value = "unknown"
		}
		target = target[:begin] + value + target[end+1:]
	}
	if a.Answers[2] == http.StatusForbidden && a.Owner != "" && a.Path == target {
		owns := "?customer_id="
		if a.Path == "/api/api-keys" {
			owns = "?user_id="
		}
		target += owns + owner
	}
	if content != nil {
		body, _ = json.Marshal(content)
	}
	return target, token, body
}

// compare sends the caller's request both ways and holds the statuses against the table.
func (p *people) compare(a generate.Access, op operation, caller int) {
	p.Helper()
	want := a.Answers[caller]
	for _, direct := range []bool{false, true} {
		if direct && a.Function == "gateway" {
			continue
		}
		target, token, body := p.request(a, op, caller)
		var proof []string
		if a.StepUp != "" && caller == len(generate.Callers)-1 {
			if got := p.status(a, direct, target, token, body); got != http.StatusUnprocessableEntity {
				p.Errorf("%s %s as an admin without a proof (at the function itself: %v): got %d", a.Method, target, direct, got)
			}
			proof = []string{"Ebb-Step-Up", p.proof}
		}
		got := p.status(a, direct, target, token, body, proof...)
		ok := got == want
		if want == 0 {
			hidden := a.Owner != "" && got == http.StatusNotFound
			ok = got != http.StatusUnauthorized && got != http.StatusForbidden && got < 500 && !hidden
			if proof != nil && body == nil {
				ok = got < 300
			}
		}
		if !ok {
			p.Errorf("%s %s as %s (at the function itself: %v): got %d, the table has %d",
				a.Method, target, generate.Callers[caller], direct, got, want)
		}
	}
}

// refused sends the tokens that no function takes.
func (p *people) refused(a generate.Access, op operation) {
	p.Helper()
	public, document := a.Answers[0] == 0, a.Function == "gateway" && a.Answers[0] == 0
	for kind, token := range map[string]string{"expired": p.expired, "junk": "junk", "revoked": p.revoked} {
		for _, direct := range []bool{false, true} {
			if document || direct && a.Function == "gateway" || public && kind == "revoked" {
				continue
			}
			if kind == "revoked" && (a.Function == "gateway" || a.Function == "console" || a.Path == "/api/sessions/current") {
				continue // these two ask functions, which refuse it; a session that has ended can be ended again
			}
			target, _, body := p.request(a, op, 0)
			if got := p.status(a, direct, target, token, body); got != http.StatusUnauthorized {
				p.Errorf("%s %s with a token that is %s (at the function itself: %v): got %d",
					a.Method, target, kind, direct, got)
			}
		}
	}
}

// status sends a request through the gateway or to the function itself.
func (p *people) status(a generate.Access, direct bool, target, token string, body []byte, header ...string) int {
	p.Helper()
	p.made++
	header = append(header, "Idempotency-Key", "access "+time.Now().String()+strings.Repeat("x", p.made%50))
	if !direct {
		answer, _ := p.send(a.Method, target, token, body, header...)
		return answer.StatusCode
	}
	instances, err := p.Host.Instances(p.Context(), a.Function)
	if err != nil {
		p.Fatal(err)
	}
	r, w := httptest.NewRequest(a.Method, target, bytes.NewReader(body)), httptest.NewRecorder()
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	// What a gateway would have set makes nobody known.
	r.Header["X-Forwarded-For"], r.Header["X-User-Id"] = []string{"127.0.0.1"}, []string{p.customer}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	instances[0].Handler.ServeHTTP(w, r)
	return w.Code
}

// The callers of the table are those of this test.
func TestCallers(t *testing.T) {
	t.Parallel()
	want := []string{"no token", "customer", "another customer", "viewer", "operator", "admin"}
	if !slices.Equal(generate.Callers, want) {
		t.Errorf("got %v", generate.Callers)
	}
}
