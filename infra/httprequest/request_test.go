package httprequest_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/httprequest"
)

func TestCheckRefusesInvalidText(t *testing.T) {
	for target, ok := range map[string]bool{
		"/api/stock/a":                        true,
		"/api/stock/%C3%A9?q=%C3%A9&r=a+b":    true,
		"/api/stock/a%2Fb":                    true,
		"/api/stock/%ff":                      false,
		"/api/stock/a%00b":                    false,
		"/%c3/stock":                          false,
		"/a?q=%ff":                            false,
		"/a?%ff=q":                            false,
		"/a?q=%00":                            false,
		"/a?q=%zz":                            false,
		"/a?q=1;r=2":                          false,
		"/a?q=\xff":                           false,
		"/a?" + strings.Repeat("q=1&", 99):    true,
		"/a?" + strings.Repeat("q=1&", 16000): false,
	} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		err = httprequest.Check(&http.Request{URL: u})
		if (err == nil) != ok || err != nil && fault.HTTPStatus(err) != http.StatusBadRequest {
			t.Errorf("%.40q: got %v, want ok %t", target, err, ok)
		}
	}
}

// A list in two lines becomes one line; two lines of a field that is not a list are refused.
func TestCheckJoinsLists(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = http.Header{
		"If-None-Match": {`"1"`, `W/"2", "3"`}, "Prefer": {"respond-async", "wait=5"}, "Cookie": {"a=1", "b=2"},
		"Accept":        {"text/plain"},
		"Authorization": {"Bearer a", "Bearer b"},
	}
	if err := httprequest.Check(r); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"If-None-Match": `"1", W/"2", "3"`, "Prefer": "respond-async, wait=5", "Cookie": "a=1; b=2", "Accept": "text/plain",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if len(r.Header["Authorization"]) != 2 {
		t.Error("two credentials became one")
	}
	for _, name := range []string{"Content-Type", "Idempotency-Key"} {
		r.Header = http.Header{name: {"a", "a"}}
		if err := httprequest.Check(r); fault.HTTPStatus(err) != http.StatusBadRequest {
			t.Errorf("two %s: got %v", name, err)
		}
	}
}

func TestJSON(t *testing.T) {
	for said, ok := range map[string]bool{
		"application/json": true, "Application/JSON": true, "application/json; charset=UTF-8": true,
		`application/json;Charset="utf-8"`: true,
		"application/merge-patch+json":     true, "application/json;version=1": true,
		"": false, "text/plain": false, "application/json; charset=latin1": false, "application/json; charset": false,
		"json":        false,
		"text/x+json": false, "application/json, text/plain": false, "application/x-www-form-urlencoded": false,
	} {
		h := http.Header{}
		h.Set("Content-Type", said)
		err := httprequest.JSON(h)
		if (err == nil) != ok || err != nil && fault.HTTPStatus(err) != http.StatusUnsupportedMediaType {
			t.Errorf("%q: got %v, want ok %t", said, err, ok)
		}
	}
}

// RFC 9110 sections 8.8.3 and 13.1: If-None-Match compares weakly, If-Match strongly, and a tag may have a comma.
func TestEntityTags(t *testing.T) {
	for _, c := range []struct {
		field, tag     string
		strong, weakly bool
	}{
		{`"1"`, `"1"`, true, true},
		{`W/"1"`, `"1"`, false, true},
		{`"1"`, `W/"1"`, false, true},
		{`W/"1"`, `W/"1"`, false, true},
		{`"2", W/"3","1"`, `"1"`, true, true},
		{` ,"2",, "1" ,`, `"1"`, true, true},
		{`"a,b"`, `"a,b"`, true, true},
		{`"a,b"`, `"a`, false, false},
		{`*`, `"1"`, true, true},
		{` * `, `"1"`, true, true},
		{`"*"`, `"1"`, false, false},
		{`"2", *`, `"1"`, false, false},
		{``, `"1"`, false, false},
		{`1`, `"1"`, false, false},
		{`"1`, `"1"`, false, false},
		{`"2" "1"`, `"1"`, false, false},
		{`w/"1"`, `"1"`, false, false},
	} {
		if got := httprequest.NoneMatch(c.field, c.tag); got != c.weakly {
			t.Errorf("If-None-Match: %s of %s: got %t", c.field, c.tag, got)
		}
		if got := httprequest.Match(c.field, c.tag); got != c.strong {
			t.Errorf("If-Match: %s of %s: got %t", c.field, c.tag, got)
		}
	}
}
