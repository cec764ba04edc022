package openapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/generate"
)

// TestAccessByKey calls each operation with API keys, through the gateway and at the function itself: with the scope
// that the table in docs/security.md has, with others, with a key that is revoked and with one that never was.
func TestAccessByKey(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.accessPeople()
	declared, err := functions.System().Declare()
	if err != nil {
		t.Fatal(err)
	}
	table, err := generate.AccessOf(declared)
	if err != nil {
		t.Fatal(err)
	}
	var all []any
	seen := map[string]bool{"": true}
	for _, a := range table {
		if !seen[a.Scope] {
			seen[a.Scope], all = true, append(all, a.Scope)
		}
	}
	if len(all) < 10 {
		t.Fatalf("the table has the scopes %v", all)
	}
	keys := p.apiKeys(all)
	for _, a := range table {
		if a.Function == "console" {
			continue // pages, which take cookies
		}
		p.byKey(a, p.operation(a), keys)
	}
}

// apiKeys are those of the customer and of the admin for all scopes, one for a scope that fits two operations, and one
// that is revoked.
type apiKeys struct{ customer, admin, other, revoked string }

func (p *people) apiKeys(scopes []any) (k apiKeys) {
	p.Helper()
	create := func(token, password, role string, scopes ...any) (id, key string) {
		var made struct{ ID, Key string }
		p.want(201, "POST", "/api/api-keys", token, object{
			"name": "test", "scopes": scopes, "roles": []any{role}, "current_password": password,
		}, &made)
		return made.ID, made.Key
	}
	_, k.customer = create(p.customerToken, "a password for Ada", "customer", scopes...)
	_, k.admin = create(p.admin, "a password for Clerk", "admin", scopes...)
	_, k.other = create(p.admin, "a password for Clerk", "admin", "flags:evaluate")
	id, revoked := create(p.admin, "a password for Clerk", "admin", scopes...)
	k.revoked = revoked
	p.everywhere(200, k.revoked)
	p.want(204, "DELETE", "/api/api-keys/"+id, p.admin, nil, nil)
	p.everywhere(401, k.revoked)
	return k
}

// keys makes API keys, calls every operation with one that may not, and guesses a password.
func (s *shop) keys(customer string) {
	s.Helper()
	create := func(scope string) (made struct{ ID, Key string }) {
		s.want(201, "POST", "/api/api-keys", customer, object{
			"name": "test", "scopes": []any{scope}, "current_password": "a password for Ada",
		}, &made)
		return made
	}
	reads, evaluates := create("orders:read"), create("flags:evaluate")
	s.until(200, "GET", "/api/orders", reads.Key, nil, nil)
	for _, op := range s.operations() {
		if op.path == "/metrics" {
			continue // it has a token of its own
		}
		target := strings.NewReplacer("{", "", "}", "").Replace(op.path)
		for _, key := range []string{reads.Key, evaluates.Key} {
			s.within("the key is known for "+op.path, func() bool {
				answer, _ := s.send(op.method, target, key, nil)
				return answer.StatusCode != http.StatusUnauthorized
			})
		}
	}
	s.want(403, "GET", "/api/api-keys?user_id=other", customer, nil, nil)
	s.want(204, "DELETE", "/api/api-keys/"+reads.ID, customer, nil, nil)
	_, guesser := s.register("Guesser")
	guess := object{"name": "test", "scopes": []any{"orders:read"}, "current_password": "a wrong password"}
	s.until(429, "POST", "/api/api-keys", guesser, guess, nil)
}

// byKey sends requests for one operation and holds the statuses against the table.
func (p *people) byKey(a generate.Access, op operation, k apiKeys) {
	p.Helper()
	good, caller := k.customer, 1
	if a.Answers[caller] == http.StatusForbidden {
		good, caller = k.admin, len(generate.Callers)-1
	}
	wantOther := http.StatusForbidden
	if a.Scope == "flags:evaluate" {
		wantOther = 0
	}
	wantGood := http.StatusForbidden
	if a.Scope != "" {
		wantGood = 0
	}
	revoked, typo := http.StatusUnauthorized, http.StatusUnauthorized
	if a.Public {
		wantGood, wantOther = 0, 0
	}
	if a.Function == "gateway" {
		if revoked = http.StatusForbidden; a.Public {
			revoked, typo = 0, 0 // a document, which is open to every request
		}
	}
	for name, c := range map[string]struct {
		key  string
		want int
	}{
		"a good one": {good, wantGood}, "another scope": {k.other, wantOther}, "a revoked one": {k.revoked, revoked},
		"a typing error": {good[:20] + "_" + good[21:], typo},
	} {
		for _, direct := range []bool{false, true} {
			if direct && a.Function == "gateway" {
				continue
			}
			target, _, body := p.request(a, op, caller)
			got := p.status(a, direct, target, c.key, body)
			ok := got == c.want
			if c.want == 0 {
				ok = got != http.StatusUnauthorized && got != http.StatusForbidden && got < 500
				if name == "a good one" && a.Path == "/api/sessions" { // signing in has credentials of its own
					ok = got != http.StatusForbidden && got < 500
				}
			}
			if c.want == http.StatusUnauthorized && !direct && a.Scope == "" && !a.Public {
				ok = ok || got == http.StatusForbidden && name == "a revoked one" // the gateway lets no key through
			}
			if !ok {
				p.Errorf("%s %s with an API key, %s (at the function itself: %v): got %d, want %d",
					a.Method, target, name, direct, got, c.want)
			}
		}
	}
}
