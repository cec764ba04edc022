package aws_test

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"

	"github.com/ebb-dev/ebb/functions/users"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store/dynamodb"
	"github.com/ebb-dev/ebb/infra/store/dynamodb/dynamodbtest"
)

// The account with the most API keys and sessions is demoted and deleted in commits that DynamoDB takes.
func TestLargestAccount(t *testing.T) {
	dynamodbtest.Need(t)
	emulator, err := url.Parse(os.Getenv("AWS_ENDPOINT_URL"))
	if err != nil {
		t.Fatal(err)
	}
	counted := &counter{largest: map[string]int{}}
	before := httptest.NewServer(counted.count(emulator))
	defer before.Close()
	t.Setenv("AWS_ENDPOINT_URL", before.URL)
	dynamodbtest.CreateTable(t, "users")
	const password = "correct horse battery"
	h := functiontest.New(t, users.New, functiontest.Set(map[string]string{
		"EBB_ADMIN_EMAIL": adminEmail, "EBB_ADMIN_PASSWORD": adminPassword,
	}), func(h *functiontest.Harness) { h.Store = dynamodb.Opener("", "") })
	type m map[string]any
	login := func(email, password string) string {
		t.Helper()
		var got struct {
			Token string `json:"access_token"`
		}
		h.Call("POST", "/api/sessions", functiontest.Nobody, m{"email": email, "password": password}).Expect(201).JSON(&got)
		return "Bearer " + got.Token
	}
	prove := func(token, password string) string {
		t.Helper()
		var got struct {
			Token string `json:"step_up_token"`
		}
		h.Call("POST", "/api/sessions/current/step-up", functiontest.Nobody, m{"password": password},
			"Authorization", token).Expect(201).JSON(&got)
		return got.Token
	}
	var ada struct{ ID string }
	h.Call("POST", "/api/users", functiontest.Nobody,
		m{"name": "Ada", "email": "largest@example.com", "password": password}).Expect(201).JSON(&ada)
	root := login(adminEmail, adminPassword)
	rootProof := prove(root, adminPassword)
	roles := func(roles ...string) {
		t.Helper()
		h.Call("PATCH", "/api/users/"+ada.ID, functiontest.Nobody, m{"roles": roles},
			"Authorization", root, "Ebb-Step-Up", rootProof).Expect(200)
	}
	roles("admin", "customer")
	var token string
	for range 20 {
		token = login("largest@example.com", password)
	}
	proof := prove(token, password)
	for n := range 100 {
		var k struct{ ID string }
		h.Call("POST", "/api/api-keys", functiontest.Nobody, m{
			"name": fmt.Sprint("robot ", n), "roles": []string{"admin", "customer"}, "scopes": []string{"users:read"},
		}, "Authorization", token, "Ebb-Step-Up", proof).Expect(201).JSON(&k)
		if n < 50 { // it stays on the list
			h.Call("DELETE", "/api/api-keys/"+k.ID, functiontest.Nobody, nil, "Authorization", token).Expect(204)
		}
	}
	portions := func(what string) {
		t.Helper()
		commands := 0
		for more := true; more; {
			more = false
			for _, e := range h.Emitted() {
				if e.Type() != event.APIKeysNarrow.Name() {
					continue
				}
				more, commands = true, commands+1
				if r := h.Receive(e); !r[0].OK() {
					t.Fatalf("%s: got %+v", what, r)
				}
			}
		}
		if commands == 0 {
			t.Errorf("%s fits one commit: the test shows nothing", what)
		}
		t.Logf("%s: %d commands for the rest", what, commands)
	}
	h.Emitted()
	roles("customer")
	portions("a demotion")
	h.Call("DELETE", "/api/users/"+ada.ID, functiontest.Nobody, nil,
		"Authorization", root, "Ebb-Step-Up", rootProof).Expect(204)
	portions("a deletion")
	counted.mu.Lock()
	defer counted.mu.Unlock()
	if n := counted.largest["users"]; n > 100 || n < 50 {
		t.Errorf("the largest commit has %d actions", n)
	}
}
