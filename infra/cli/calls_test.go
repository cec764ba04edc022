package cli

import (
	"net/http"
	"strings"
	"testing"
)

// step is a run of a command against a fake system.
type step struct {
	args      []string
	code      int
	out, errs string // a part of each
	asked     string // the beginning of the last request
}

func (f *fake) steps(t *testing.T, steps map[string]step) {
	for name, test := range steps {
		t.Run(name, func(t *testing.T) {
			code, out, errs, asked := f.run(t, test.args...)
			last := ""
			if len(asked) > 0 {
				last = asked[len(asked)-1]
			}
			if code != test.code || !strings.Contains(out, test.out) || !strings.Contains(errs, test.errs) ||
				!strings.HasPrefix(last, test.asked) || test.asked == "" && last != "" {
				t.Errorf("got %d\n%s\n%s\n%q", code, out, errs, asked)
			}
		})
	}
}

// The command finds the calls of every function in the operations of the system, and acts on the one that is named.
func TestCalls(t *testing.T) {
	f := newFake(t)
	f.mux = http.NewServeMux()
	f.answer("POST /api/sessions", 201, `{"access_token":"sesame"}`)
	f.answer("GET /openapi.json", 200, `{"paths":{"/api/calls/payments":{"get":{"operationId":"a"}},
		"/api/calls/mail":{"get":{"operationId":"b"}},"/api/calls/mail/{call}/{id}":{"get":{"operationId":"c"}}}}`)
	one := `{"call":"send","id":"a/1","key":"mail/send/a/1","started_at":"2026-01-02T03:04:05Z",
		"due":"2026-01-02T03:05:05Z","attempts":7,"error":"the relay is down"}`
	f.answer("GET /api/calls/payments", 200, `{"items":[]}`)
	f.answer("GET /api/calls/mail", 200, `{"items":[`+one+`]}`)
	f.answer("GET /api/calls/payments/{call}/{id}", 404, `{"detail":"there is none"}`)
	f.answer("GET /api/calls/mail/{call}/{id}", 200, one)
	f.answer("POST /api/calls/mail/{call}/{id}/retry", 200, `{"ended":false,"call":`+one+`}`)
	f.answer("POST /api/calls/mail/{call}/{id}/end", 200, `{"ended":true}`)
	f.steps(t, map[string]step{
		"the list": {
			[]string{"calls"}, 0, "send/a/1", "", "GET /api/calls/payments?limit=50",
		},
		"failing ones of a function": {
			[]string{"calls", "list", "--function", "mail", "--failing", "-o", "json"}, 0, `"error":"the relay is down"`, "",
			"GET /api/calls/mail?failing=true&limit=50",
		},
		"none": {
			[]string{"calls", "--function", "payments"}, 0, "No outside calls", "", "GET /api/calls/payments",
		},
		"an unknown function": {[]string{"calls", "--function", "mial"}, 2, "", `did you mean "mail"?`, ""},
		"show": {
			[]string{"calls", "show", "send/a/1"}, 0, "key: mail/send/a/1", "", "GET /api/calls/mail/send/a%2F1",
		},
		"retry": {
			[]string{"calls", "retry", "send/a/1"}, 0, "the relay is down", "", "POST /api/calls/mail/send/a%2F1/retry",
		},
		"end": {
			[]string{"calls", "end", "send/a/1", "--reason", "moved", "--forget"}, 0, "send/a/1 has ended", "",
			`POST /api/calls/mail/send/a%2F1/end Bearer sesame {"forget":true,"reason":"moved"}`,
		},
		"without a reason": {[]string{"calls", "end", "send/a/1"}, 2, "", "needs --reason", ""},
		"without a call":   {[]string{"calls", "show", "send"}, 2, "", "want CALL/ID", ""},
	})
}
