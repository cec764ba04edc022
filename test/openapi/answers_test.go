// Package openapi_test holds the OpenAPI document against what the running shop answers.
package openapi_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/pquerna/otp/totp"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
)

// TestAnswers sends every operation right and wrong requests. Each status, header field, media type and body that is
// answered stands in the document, and each status in the document was answered or has a reason why it cannot be here.
func TestAnswers(t *testing.T) {
	t.Parallel()
	s := start(t)
	admin := s.signIn(adminEmail, adminPassword).Access
	ada, customer := s.register("Ada")
	_, bob := s.register("Bob") // whose requests are those of a stranger
	s.sell(admin, ada, customer)
	s.mend(admin)
	s.account(admin)
	s.passkeys()
	s.people(admin, ada, customer)
	s.flags(admin, customer)
	s.keys(customer)
	s.documents()
	for _, op := range s.operations() {
		s.attack(op, admin, bob)
	}
	s.undeclared()
	s.unanswered()
}

// The committed document is what the gateway serves.
func TestCommitted(t *testing.T) {
	t.Parallel()
	s := start(t)
	committed, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, served := s.send("GET", "/openapi.json", "", nil); !bytes.Equal(served, committed) {
		t.Error("api/openapi.json is not what is served: run make generate")
	}
}

// sell makes products and orders, and looks at them.
func (s *shop) sell(admin, ada, customer string) {
	s.Helper()
	var product struct{ ID string }
	price := object{"amount": 1250, "currency": "EUR"}
	table := object{"name": "Tide table", "price": price}
	s.want(201, "POST", "/api/products", admin, table, &product, "Idempotency-Key", "table")
	s.want(201, "POST", "/api/products", admin, table, &product, "Idempotency-Key", "table")
	s.want(422, "POST", "/api/products", admin, object{"name": "Other", "price": price}, nil, "Idempotency-Key", "table")
	at := "/api/products/" + product.ID
	answer, _ := s.send("GET", at, "", nil)
	tag := answer.Header.Get("ETag")
	s.want(304, "GET", at, "", nil, nil, "If-None-Match", tag)
	s.want(428, "PATCH", at, admin, object{"name": "Tide tables"}, nil)
	s.want(200, "PATCH", at, admin, object{"name": "Tide tables"}, nil, "If-Match", tag)
	s.want(412, "PATCH", at, admin, object{"name": "Tide tables"}, nil, "If-Match", tag)
	s.want(412, "DELETE", at, admin, nil, nil, "If-Match", tag)
	s.until(200, "PUT", "/api/stock/"+product.ID, admin, object{"available": 10}, nil)
	s.want(200, "GET", "/api/stock/"+product.ID, "", nil, nil)
	s.want(422, "PUT", "/api/stock/"+product.ID, admin, object{"available": -1}, nil)
	s.want(404, "PATCH", "/api/products/none", admin, object{"name": "Chart"}, nil, "If-Match", `"1"`)

	order := object{
		"lines": []any{object{"product_id": product.ID, "quantity": 1}}, "payment": object{"token": "tok_ok"},
	}
	var o struct{ ID string }
	s.until(202, "POST", "/api/orders", customer, order, &o, "Idempotency-Key", "first")
	s.want(202, "POST", "/api/orders", customer, order, &o, "Idempotency-Key", "first")
	s.want(200, "POST", "/api/orders", customer, order, nil, "Idempotency-Key", "second", "Prefer", "wait=30")
	s.want(400, "POST", "/api/orders", customer, order, nil)
	s.within("the order is confirmed", func() bool {
		var now struct{ Status string }
		s.want(200, "GET", "/api/orders/"+o.ID, customer, nil, &now)
		return now.Status == "confirmed"
	})
	s.want(409, "POST", "/api/orders/"+o.ID+"/cancellation", customer, object{}, nil)
	s.want(200, "GET", "/api/payments/"+o.ID, customer, nil, nil)
	s.storedDocuments(admin, product.ID, o.ID)
	s.want(200, "GET", "/api/sagas/order/"+o.ID, admin, nil, nil)
	for _, act := range []string{"cancel", "end", "retry", "skip", "hand-over"} {
		s.want(409, "POST", "/api/sagas/order/"+o.ID+"/"+act, admin, reasonFor(act), nil)
	}
	// While the payment provider takes its time, an order can be cancelled, and an operator can do what is needed.
	slow := maps.Clone(order)
	slow["payment"] = object{"token": "tok_slow"}
	s.want(202, "POST", "/api/orders", customer, slow, &o, "Idempotency-Key", "slow")
	s.want(202, "POST", "/api/orders/"+o.ID+"/cancellation", customer, object{"reason": "too late"}, nil)
	for _, act := range []string{"cancel", "end", "retry", "skip", "hand-over"} {
		s.want(202, "POST", "/api/orders", customer, slow, &o, "Idempotency-Key", "slow "+act)
		s.until(200, "POST", "/api/sagas/order/"+o.ID+"/"+act, admin, reasonFor(act), nil)
	}
	s.until(200, "GET", "/api/views/orders", customer, nil, nil)
	s.want(403, "GET", "/api/orders?customer_id=other", customer, nil, nil)
	s.want(403, "GET", "/api/payments?customer_id=other", customer, nil, nil)
	s.want(403, "GET", "/api/views/orders?customer_id=other", customer, nil, nil)
	s.want(200, "GET", "/api/notifications/recipients/"+ada, customer, nil, nil)
	s.want(200, "GET", "/api/me", customer, nil, nil)
	s.want(204, "DELETE", at, admin, nil, nil)
	s.want(202, "POST", "/api/views/rebuild", admin, nil, nil)
}

func reasonFor(act string) any {
	switch act {
	case "retry":
		return nil
	case "skip":
		return object{"step": "authorize", "reason": "a test"}
	case "hand-over":
		return object{"to": "ada", "reason": "a test"}
	}
	return object{"reason": "a test"}
}

// flags changes a flag in every way and evaluates it.
func (s *shop) flags(admin, customer string) {
	s.Helper()
	const path = "/api/flags/new-checkout"
	with := func(chosen string) object {
		return object{"definition": object{
			"state": "ENABLED", "variants": object{"on": true, "off": false}, "defaultVariant": chosen,
		}}
	}
	s.want(404, "PUT", path, admin, with("on"), nil, "If-Match", `"1"`)
	s.want(201, "PUT", path, admin, with("on"), nil, "If-None-Match", "*")
	s.want(428, "PUT", path, admin, with("off"), nil)
	s.want(412, "PUT", path, admin, with("off"), nil, "If-Match", `"9"`)
	s.want(200, "PUT", path, admin, with("off"), nil, "If-Match", `"1"`)
	s.want(200, "GET", path, admin, nil, nil)
	s.want(304, "GET", path, admin, nil, nil, "If-None-Match", `"2"`)
	s.want(200, "POST", path+"/disable", admin, object{"reason": "a test"}, nil)
	s.want(200, "POST", path+"/enable", admin, object{"reason": "a test"}, nil)
	later := with("on")
	later["due"] = time.Now().Add(time.Hour)
	var planned struct{ ID string }
	s.want(428, "POST", path+"/scheduled", admin, later, nil)
	s.want(412, "POST", path+"/scheduled", admin, later, nil, "If-Match", `"9"`)
	s.want(404, "POST", "/api/flags/none/scheduled", admin, later, nil, "If-Match", `"1"`)
	s.want(201, "POST", path+"/scheduled", admin, later, &planned, "If-Match", `"4"`)
	s.want(204, "DELETE", path+"/scheduled/"+planned.ID, admin, nil, nil)
	for _, below := range []string{"/history", "/scheduled"} {
		s.want(200, "GET", path+below, admin, nil, nil)
		s.want(404, "GET", "/api/flags/none"+below, admin, nil, nil)
	}
	const evaluate = "/ofrep/v1/evaluate/flags"
	s.want(200, "POST", evaluate+"/new-checkout", customer, object{}, nil)
	answer, _ := s.send("POST", evaluate, customer, []byte("{}"))
	s.want(304, "POST", evaluate, customer, object{}, nil, "If-None-Match", answer.Header.Get("ETag"))
	s.want(412, "DELETE", path, admin, nil, nil, "If-Match", `"9"`)
	s.want(204, "DELETE", path, admin, nil, nil, "If-Match", `"4"`)
}

// mend finds and mends a dead letter, and looks into the archive.
func (s *shop) mend(admin string) {
	s.Helper()
	for _, id := range []string{"1", "2", "3"} {
		e := ce.New()
		e.SetID("01920000-0000-7000-8000-00000000dea" + id)
		e.SetSource("/functions/catalog")
		e.SetType(events.ProductChanged.Name())
		e.SetSubject("p-" + id)
		e.SetTime(time.Now())
		e.SetExtension("partitionkey", "p-"+id)
		if err := e.SetData(event.ContentType, object{"product_id": "p-" + id}); err != nil {
			s.Fatal(err)
		}
		if err := s.Publisher.Publish(s.Context(), e); err != nil {
			s.Fatal(err)
		}
	}
	var page struct {
		Items []struct{ ID, Function, State string }
	}
	s.within("there are dead letters", func() bool {
		s.want(200, "GET", "/api/archive/dead-letters", admin, nil, &page)
		return len(page.Items) >= 6
	})
	s.want(200, "GET", "/api/archive/causes", admin, nil, nil)
	first, second := "/api/archive/dead-letters/"+page.Items[0].ID, "/api/archive/dead-letters/"+page.Items[1].ID
	s.want(200, "GET", first, admin, nil, nil)
	s.want(422, "PUT", first, admin, object{"data": object{"product_id": 7}}, nil)
	s.want(200, "PUT", first, admin, object{"data": object{
		"product_id": "p-1", "name": "Tide table", "version": 1, "price": object{"amount": 1, "currency": "EUR"},
	}}, nil)
	s.want(202, "POST", first+"/replay", admin, nil, nil)
	s.want(204, "DELETE", second, admin, nil, nil)
	var mend struct{ ID string }
	s.want(200, "POST", "/api/archive/mends/dry-run", admin, object{"where": "times > 0"}, nil)
	start := object{"where": "true", "reason": "a test", "watch": 86400}
	s.want(202, "POST", "/api/archive/mends", admin, start, &mend)
	one := "/api/archive/mends/" + mend.ID
	s.want(200, "GET", one, admin, nil, nil)
	s.want(200, "POST", one+"/stop", admin, object{"reason": "a test"}, nil)
	s.want(409, "POST", one+"/stop", admin, object{"reason": "a test"}, nil)
	s.want(200, "POST", one+"/continue", admin, object{"reason": "a test"}, nil)

	var found struct {
		Items []struct{ Event struct{ ID, Subject string } }
	}
	s.within("the archive has events", func() bool {
		s.want(200, "GET", "/api/archive/events", admin, nil, &found)
		return len(found.Items) > 0
	})
	s.want(200, "GET", "/api/archive/events/"+found.Items[0].Event.ID, admin, nil, nil)
	s.want(200, "GET", "/api/archive/causality/"+found.Items[0].Event.Subject, admin, nil, nil)
	s.want(202, "POST", "/api/archive/replays", admin, object{"to": "views"}, nil)
	s.want(202, "POST", "/api/archive/events", admin, object{
		"type": events.ProductChanged.Name(), "subject": "p-9", "data": object{
			"product_id": "p-9", "name": "Chart", "version": 1, "price": object{"amount": 1, "currency": "EUR"},
		},
	}, nil)
}

// storedDocuments looks at what functions show, and changes and removes some of it.
func (s *shop) storedDocuments(admin, product, order string) {
	s.Helper()
	var users struct{ Items []struct{ ID string } }
	s.within("a recipient is known", func() bool {
		s.want(200, "GET", "/api/documents/notifications/users", admin, nil, &users)
		return len(users.Items) > 0
	})
	for path, id := range map[string]string{
		"catalog/products": product, "inventory/stock": product, "inventory/reservations": order,
		"payments/payments": order, "notifications/users": users.Items[0].ID,
	} {
		s.want(200, "GET", "/api/documents/"+path, admin, nil, nil)
		s.want(200, "GET", "/api/documents/"+path+"/"+id, admin, nil, nil)
	}
	var spare struct{ ID string }
	price := object{"amount": 1250, "currency": "EUR"}
	another := object{"name": "Spare", "price": price}
	s.want(201, "POST", "/api/products", admin, another, &spare, "Idempotency-Key", "spare")
	s.until(200, "PUT", "/api/stock/spare", admin, object{"available": 3}, nil)
	for path, id := range map[string]string{"catalog/products": spare.ID, "inventory/stock": "spare"} {
		path = "/api/documents/" + path + "/" + id
		var one struct{ Data any }
		s.want(200, "GET", path, admin, nil, &one)
		answer, _ := s.send("GET", path, admin, nil)
		tag, change := answer.Header.Get("ETag"), object{"data": one.Data, "reason": "a test"}
		s.want(428, "PUT", path, admin, change, nil)
		s.want(412, "PUT", path, admin, change, nil, "If-Match", `"99"`)
		s.want(404, "PUT", path+"x", admin, change, nil, "If-Match", tag)
		s.want(200, "PUT", path, admin, change, nil, "If-Match", tag)
		s.want(412, "DELETE", path, admin, nil, nil, "If-Match", tag)
		s.want(428, "DELETE", path, admin, nil, nil)
		answer, _ = s.send("GET", path, admin, nil)
		s.want(204, "DELETE", path, admin, nil, nil, "If-Match", answer.Header.Get("ETag"))
		s.want(404, "DELETE", path, admin, nil, nil, "If-Match", tag)
	}
}

// people signs in and out, and changes and deletes users.
func (s *shop) people(admin, ada, customer string) {
	s.Helper()
	t := s.signIn("ada@example.com", "a password for Ada")
	s.want(201, "POST", "/api/sessions/refresh", "", object{"refresh_token": t.Refresh}, &t)
	s.want(401, "POST", "/api/sessions/refresh", "", object{"refresh_token": "none"}, nil)
	s.want(204, "DELETE", "/api/sessions/current", t.Access, nil, nil)
	s.want(422, "POST", "/api/users", "",
		object{"name": "Ada", "email": "no address", "password": "long enough for it"}, nil)
	s.want(200, "GET", "/api/users/"+ada, customer, nil, nil)
	s.want(200, "PATCH", "/api/users/"+ada, customer, object{"name": "Ada L."}, nil)
	s.want(403, "PATCH", "/api/users/"+ada, customer, object{"roles": []any{"admin"}}, nil)
	s.want(200, "GET", "/api/persons/"+ada+"/export", customer, nil, nil)
	s.sessions(ada, customer)
	eve, hers := s.register("Eve")
	s.want(404, "GET", "/api/users/"+eve, customer, nil, nil)
	s.want(204, "DELETE", "/api/users/"+eve, hers, nil, nil)
	s.want(404, "PATCH", "/api/users/"+eve, admin, object{"name": "Eve"}, nil)
	s.clerk(admin)
	s.within("passwords cannot be guessed", func() bool {
		in := object{"password": "another one, long enough", "current_password": "a wrong one"}
		return s.call("PATCH", "/api/users/"+ada, customer, in, nil) == 429
	})
	for n := 0; s.call("POST", "/api/users", "", object{
		"name": "Robot", "email": fmt.Sprintf("robot%d@example.com", n), "password": "long enough for it",
	}, nil, "X-Forwarded-For", "198.51.100.7") != 429; n++ {
		if n > 50 {
			s.Fatal("registrations are not limited")
		}
	}
	s.within("guessing is limited", func() bool {
		return s.call("POST", "/api/sessions", "", object{"email": "ada@example.com", "password": "wrong"}, nil) == 429
	})
}

// mailed waits for a letter to a user with a token, and returns the token.
func (s *shop) mailed(to, subject, id string) (token string) {
	s.Helper()
	pattern := regexp.MustCompile(regexp.QuoteMeta(id) + `\.[A-Za-z0-9_-]{43}`)
	s.within("a letter comes", func() bool {
		letters, _ := filepath.Glob(filepath.Join(s.Mail(), "*.eml"))
		for _, letter := range letters {
			text, err := os.ReadFile(letter)
			if err == nil && bytes.Contains(text, []byte("<"+to+">")) && bytes.Contains(text, []byte("Subject: "+subject)) {
				token = pattern.FindString(string(text))
			}
		}
		return token != ""
	})
	return token
}

// account proves an address, resets a password, and sets up and removes a second factor.
func (s *shop) account(admin string) {
	s.Helper()
	id, access := s.register("Grace")
	const email, password = "grace@example.com", "a new password of Grace"
	proof := object{"token": s.mailed(email, "Confirm", id), "password": "a wrong one"}
	s.within("passwords cannot be guessed by a token", func() bool {
		return s.call("POST", "/api/email-proofs", "", proof, nil) == 429
	})
	s.want(429, "POST", "/api/second-factor", access, object{"current_password": "a wrong one"}, nil)
	s.want(204, "POST", "/api/email-proofs", access, proof, nil)
	other, token := s.register("Hedy")
	s.want(202, "POST", "/api/users/"+other+"/email-proof", token, nil, nil)
	s.within("mails are few", func() bool {
		return s.call("POST", "/api/users/"+other+"/email-proof", token, nil, nil) == 429
	})

	s.want(202, "POST", "/api/password-resets", "", object{"email": email}, nil)
	s.within("resets are few", func() bool {
		return s.call("POST", "/api/password-resets", "", object{"email": "nobody@example.com"}, nil,
			"X-Forwarded-For", "198.51.100.8") == 429
	})
	reset := object{"token": s.mailed(email, "A new password", id), "password": password}
	s.want(204, "POST", "/api/password-resets/completion", "", reset, nil)
	access = s.signIn(email, password).Access

	var proved struct {
		Token string `json:"step_up_token"`
	}
	s.until(201, "POST", "/api/sessions/current/step-up", access, object{"password": password}, &proved)
	var key struct{ Secret string }
	s.want(201, "POST", "/api/second-factor", access, object{}, &key, "Ebb-Step-Up", proved.Token)
	s.within("codes cannot be guessed", func() bool {
		return s.call("POST", "/api/second-factor/confirmation", access, object{"code": "wrong"}, nil) == 429
	})
	var recovery struct {
		Codes []string `json:"recovery_codes"`
	}
	s.within("a code confirms", func() bool {
		code, err := totp.GenerateCode(key.Secret, time.Now())
		return err == nil && s.call("POST", "/api/second-factor/confirmation", access, object{"code": code}, &recovery) == 200
	})
	s.want(200, "GET", "/api/users/"+id+"/second-factor", access, nil, nil)
	s.want(409, "POST", "/api/second-factor/confirmation", access, object{"code": "1"}, nil)
	s.want(201, "POST", "/api/sessions/current/step-up", access, object{"code": recovery.Codes[0]}, &proved)
	s.want(204, "DELETE", "/api/users/"+id+"/second-factor", access, nil, nil, "Ebb-Step-Up", proved.Token)
}

// sessions lists and ends the sessions of a customer.
func (s *shop) sessions(id, token string) {
	s.Helper()
	other := s.signIn("ada@example.com", "a password for Ada").Access
	var listed struct {
		Items []struct {
			ID      string
			Current bool
		}
	}
	s.want(200, "GET", "/api/users/"+id+"/sessions", other, nil, &listed)
	if len(listed.Items) < 2 || !listed.Items[0].Current {
		s.Errorf("got %+v", listed)
	}
	s.want(204, "DELETE", "/api/users/"+id+"/sessions/"+listed.Items[0].ID, token, nil, nil)
	s.want(404, "DELETE", "/api/users/"+id+"/sessions/"+listed.Items[0].ID, token, nil, nil)
	s.want(204, "DELETE", "/api/users/"+id+"/sessions", token, nil, nil)
}

// clerk is an admin who is no customer, and then is no admin any more while the token still says so.
func (s *shop) clerk(admin string) {
	s.Helper()
	id, _ := s.register("Clerk")
	at := "/api/users/" + id
	s.want(200, "PATCH", at, admin, object{"roles": []any{"admin"}, "current_password": adminPassword}, nil)
	token := s.signIn("clerk@example.com", "a password for Clerk").Access
	order := object{"lines": []any{object{"product_id": "p", "quantity": 1}}, "payment": object{"token": "tok_ok"}}
	s.want(403, "POST", "/api/orders", token, order, nil, "Idempotency-Key", "clerk")
	s.want(200, "PATCH", at, admin, object{"roles": []any{"customer"}, "current_password": adminPassword}, nil)
	other, _ := s.register("Mallory")
	s.want(403, "GET", "/api/users/"+other, token, nil, nil)
	s.want(403, "DELETE", "/api/users/"+other, token, nil, nil)
	for _, call := range [][2]string{{"GET", "/sessions"}, {"DELETE", "/sessions"}, {"DELETE", "/sessions/x"},
		{"GET", "/second-factor"}, {"DELETE", "/second-factor"}, {"POST", "/email-proof"},
		{"GET", "/passkeys"}, {"DELETE", "/passkeys/x"}} {
		s.want(403, call[0], "/api/users/"+other+call[1], token, nil, nil)
	}
	s.want(403, "PATCH", "/api/users/"+other+"/passkeys/x", token, object{"name": "x"}, nil)
}

// documents reads what the gateway serves itself.
func (s *shop) documents() {
	s.Helper()
	for _, path := range []string{"/openapi.json", "/asyncapi.json"} {
		answer, _ := s.send("GET", path, "", nil)
		s.want(304, "GET", path, "", nil, nil, "If-None-Match", answer.Header.Get("ETag"))
	}
	s.send("GET", "/openapi.json", "", nil, "Accept", "application/vnd.oai.openapi+json;version=3.1")
	s.send("GET", "/asyncapi.json", "", nil, "Accept", "application/vnd.aai.asyncapi+json;version=3.0.0")
	for _, path := range []string{"/docs", "/healthz", "/readyz", "/metrics"} {
		s.want(200, "GET", path, "", nil, nil)
	}
	s.want(401, "GET", "/metrics", "", nil, nil, "X-Forwarded-For", "192.0.2.1")
	s.want(307, "GET", "/", "", nil, nil)
}

// attack sends requests for one operation that are wrong in every way that does not depend on what it does, and one
// that is right but for names that do not exist.
func (s *shop) attack(op operation, admin, customer string) {
	s.Helper()
	path := op.path
	for strings.Contains(path, "{") {
		begin, end := strings.Index(path, "{"), strings.Index(path, "}")
		path = path[:begin] + "unknown" + path[end+1:]
	}
	key := func() []string {
		return []string{"Idempotency-Key", fmt.Sprint("key ", len(s.reported), time.Now().UnixNano())}
	}
	if op.path == "/api/sessions/current" {
		admin = s.signIn(adminEmail, adminPassword).Access // which ends
	}
	right := []byte(nil)
	if schema := member(op.object, "requestBody", "content", "application/json", "schema"); schema != nil {
		right, _ = json.Marshal(s.sample(schema))
	}
	for _, token := range []string{"", "junk", customer, admin} {
		s.send(op.method, path, token, nil, key()...)
		if right != nil {
			s.send(op.method, path, token, right, key()...)
		}
	}
	wrong := [][]byte{[]byte("{"), []byte("[]"), []byte("{}"), []byte(`{"surprise":true}`), {0xff}}
	for _, token := range []string{customer, admin} {
		s.send(op.method, path+"?%zz", token, right, key()...)
		s.send(op.method, path+"?surprise=1", token, right, key()...)
		s.send(op.method, path+"?limit=0&cursor=none", token, right, key()...)
		s.send(op.method, path, token, right, "Idempotency-Key", strings.Repeat("k", 300))
		s.send(op.method, path, token, right, "If-Match", `"1"`, "If-None-Match", `"1"`)
		s.send(op.method, path, token, bytes.Repeat([]byte(" "), 1<<20+1), key()...)
		if op.method == http.MethodGet {
			continue
		}
		for _, body := range wrong {
			s.send(op.method, path, token, body, key()...)
		}
		s.send(op.method, path, token, []byte("text"), append(key(), "Content-Type", "text/plain")...)
		again := key()
		s.send(op.method, path, token, right, again...)
		s.send(op.method, path, token, right, again...)
		s.send(op.method, path, token, []byte(`{"another":1}`), again...)
	}
	if op.method == http.MethodGet {
		s.send(http.MethodHead, path, admin, nil)
	}
}

// undeclared sends requests that are for no operation.
func (s *shop) undeclared() {
	s.Helper()
	s.want(404, "GET", "/api/nothing", "", nil, nil)
	s.want(405, "DELETE", "/api/orders", "", nil, nil)
	s.want(204, "OPTIONS", "/api/orders", "", nil, nil)
	s.raw(431, "GET /api/orders HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 40<<10)+"\r\n\r\n")
	s.raw(400, "GET /api/orders HTTP/1.1\r\n\r\n")
}

// raw sends bytes on a connection of their own.
func (s *shop) raw(status int, request string) {
	s.Helper()
	conn, err := net.Dial("tcp", s.Address)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		s.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != status {
		s.Errorf("status %d, want %d", answer.StatusCode, status)
	}
	if member(s.root, "x-undeclared", "responses", fmt.Sprint(status)) == nil {
		s.Errorf("status %d is not in the document", status)
	}
}

// unanswered reports statuses that stand in the document, were not answered and have no reason.
func (s *shop) unanswered() {
	s.Helper()
	used := map[string]bool{}
	for _, op := range s.operations() {
		responses, _ := op.object["responses"].(object)
		for _, status := range slices.Sorted(maps.Keys(responses)) {
			if s.answered[op.String()][status] {
				continue
			}
			reason := ""
			for _, key := range []string{status, tag(op) + " " + status, op.String() + " " + status} {
				if reasons[key] != "" {
					reason, used[key] = reasons[key], true
				}
			}
			if reason == "" {
				s.Errorf("%s: nothing answers %s, which the document has", op, status)
			}
		}
	}
	for key := range reasons {
		if !used[key] {
			s.Errorf("the reason for %s is not needed", key)
		}
	}
}

func tag(op operation) string { return fmt.Sprint(list(op.object["tags"])...) }

// reasons say why no request of this test is answered with a status, by the status, alone or after a tag or an
// operation.
var reasons = map[string]string{
	"409":     "two requests change the same at the same time, or have the same key: infra/function",
	"500":     "a defect of a function: infra/function",
	"503":     "a function or its store is away: infra/proxy, infra/gateway",
	"504":     "a function takes longer than it may: infra/proxy, infra/function",
	"default": "policies of an environment: infra/gateway",

	"outbox 200": "an entry whose events the broker refuses: infra/function",
	"outbox 204": "an entry whose events the broker refuses: infra/function",
	"calls 200":  "a call that the other side does not answer: infra/outside",

	// The kit documents 404 for each path with a name.
	"PUT /api/stock/{product_id} 404": "it counts the stock of products that it does not know, too: functions/inventory",

	"POST /api/payments/stripe/webhooks 204": "the sandbox sends none: functions/payments/stripe",
}
