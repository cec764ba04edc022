package cli

import (
	"net/http"
	"testing"
)

// The command finds the sagas of every function in the operations of the system, and acts on the one with the id.
func TestSagas(t *testing.T) {
	f := newFake(t)
	f.mux = http.NewServeMux()
	f.answer("POST /api/sessions", 201, `{"access_token":"sesame"}`)
	f.answer("GET /openapi.json", 200, `{"paths":{"/api/sagas/order":{"get":{"operationId":"a"}},
		"/api/sagas/trip":{"get":{"operationId":"b"}},"/api/sagas/trip/{id}":{"get":{"operationId":"c"}}}}`)
	f.answer("GET /api/sagas/order", 200, `{"items":[{"id":"o1","saga":"order","version":2,"status":"undoing",
		"step":"reserve","again":7,"reason":"declined","stuck":{"step":"reserve","reason":"its undo is not answered"}}]}`)
	f.answer("GET /api/sagas/trip", 200, `{"items":[{"id":"t1","saga":"trip","status":"running","step":"fly"}]}`)
	one := `{"id":"t1","saga":"trip","version":1,"status":"running","step":"fly","assignee":"ann",
		"steps":[{"name":"fly","state":"running"},{"name":"pay","state":"todo","after":["fly"]}]}`
	f.answer("GET /api/sagas/order/{id}", 404, `{"detail":"there is no order t1"}`)
	f.answer("GET /api/sagas/trip/{id}", 200, one)
	for _, act := range []string{"retry", "skip", "cancel", "end", "hand-over"} {
		f.answer("POST /api/sagas/trip/{id}/"+act, 200, one)
	}
	f.steps(t, map[string]step{
		"the list": {
			[]string{"sagas"}, 0,
			"o1  order  undoing, stuck  reserve  7           reserve: its undo is not answered",
			"", "GET /api/sagas/trip?limit=50&status=open",
		},
		"one name": {
			[]string{"sagas", "list", "--saga", "order", "--status", "stuck", "-o", "json"}, 0,
			`"reason":"its undo is not answered"`, "", "GET /api/sagas/order?limit=50&status=stuck",
		},
		"an unknown name": {[]string{"sagas", "--saga", "ordre"}, 2, "", `did you mean "order"?`, ""},
		"show": {
			[]string{"sagas", "show", "t1"}, 0, "trip t1 is running\nlooked after by ann\nSTEP  STATE", "",
			"GET /api/sagas/trip/t1",
		},
		"retry": {[]string{"sagas", "retry", "t1"}, 0, "fly   running", "", "POST /api/sagas/trip/t1/retry"},
		"skip": {
			[]string{"sagas", "skip", "t1", "--reason", "by hand"}, 0, "", "",
			`POST /api/sagas/trip/t1/skip Bearer sesame {"reason":"by hand","step":"fly"}`,
		},
		"skip another step": {
			[]string{"sagas", "skip", "t1", "--step", "pay", "--reason", "paid"}, 0, "", "",
			`POST /api/sagas/trip/t1/skip Bearer sesame {"reason":"paid","step":"pay"}`,
		},
		"cancel": {
			[]string{"sagas", "cancel", "t1", "--reason", "a mistake"}, 0, "", "",
			`POST /api/sagas/trip/t1/cancel Bearer sesame {"reason":"a mistake"}`,
		},
		"end": {
			[]string{"sagas", "end", "t1", "--as", "completed", "--reason", "x"}, 0, "", "",
			`POST /api/sagas/trip/t1/end Bearer sesame {"as":"completed","reason":"x"}`,
		},
		"hand over": {
			[]string{"sagas", "hand-over", "t1", "--to", "bob", "--reason", "holiday"}, 0, "", "",
			`POST /api/sagas/trip/t1/hand-over Bearer sesame {"from":"ann","reason":"holiday","to":"bob"}`,
		},
		"hand over to nobody": {
			[]string{"sagas", "hand-over", "t1", "--nobody", "--reason", "x"}, 0, "", "",
			`POST /api/sagas/trip/t1/hand-over Bearer sesame {"from":"ann","reason":"x","to":""}`,
		},
		"hand over to whom": {
			[]string{"sagas", "hand-over", "t1", "--reason", "x"}, 2, "", "needs --to with the id of a person", "",
		},
		"hand over to two": {
			[]string{"sagas", "hand-over", "t1", "--to", "bob", "--nobody", "--reason", "x"}, 2, "", "or --nobody", "",
		},
		"hand over without a reason": {
			[]string{"sagas", "hand-over", "t1", "--to", "bob"}, 2, "", "needs --reason", "",
		},
		"without a reason": {[]string{"sagas", "end", "t1"}, 2, "", "needs --reason", ""},
		"without an id":    {[]string{"sagas", "show"}, 2, "", "wants one id", ""},
	})
}
