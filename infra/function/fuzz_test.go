package function_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/manifest"

	"github.com/ebb-dev/ebb/infra/problem"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
)

// Whatever a client sends, the function answers: with what it stored, or with a problem document that is the
// client's fault and says so in its status. Nothing that was refused is stored.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "a", "application/json", "key", []byte(`{"by":3}`))
	f.Add("POST", "a", "", "", []byte(`{"by":101}`))
	f.Add("POST", "%2e%2e", "text/plain", `"k"`, []byte(`{"by":1,"by":2}`))
	f.Add("GET", "a", "", "", []byte(nil))
	f.Add("POST", "%20", "application/json", "", []byte(`{"by":1,"By":0}`))
	f.Add("PATCH", "a", "application/cbor", "\x00", []byte{0xa1, 0x62, 'b', 'y', 3})
	f.Add("POST", "a", "application/json", strings.Repeat("k", 256), []byte(`[[[[[[`))
	f.Add("POST", "a?x=y", "application/json;charset=latin1", "", []byte("{\"by\":1}\xff"))
	f.Fuzz(func(t *testing.T, method, name, contentType, key string, body []byte) {
		target := "/api/counters/" + name
		if _, err := url.ParseRequestURI(target); err != nil {
			return // no server takes such a request line
		}
		if decoded, _ := url.PathUnescape(name); strings.HasPrefix(decoded, "panic") ||
			strings.HasPrefix(decoded, "secret") || strings.HasPrefix(decoded, "revoked") {
			return // these fail on purpose
		}
		r, err := http.NewRequest(method, target, strings.NewReader(string(body)))
		if err != nil {
			return
		}
		h := functiontest.New(t, counting)
		r.RequestURI = target
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Idempotency-Key", key)
		r.Header.Set("Authorization", "Bearer "+h.Token(functiontest.As("u1")))
		w := httptest.NewRecorder()
		h.I.ServeHTTP(w, r)
		said := h.Emitted()
		switch {
		case w.Code >= 500:
			t.Errorf("%s %s: status %d: %s", method, target, w.Code, w.Body)
		case w.Code >= 400:
			var p problem.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Title == "" {
				t.Errorf("%s %s: status %d with the document %s, %v", method, target, w.Code, w.Body, err)
			}
			if len(said) > 0 {
				t.Errorf("%s %s: status %d, and %v was said", method, target, w.Code, said)
			}
		case w.Code == http.StatusCreated:
			var c counter
			if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || c.N < 1 {
				t.Errorf("%s %s: stored %s, %v", method, target, w.Body, err)
			}
		}
	})
}

// Whatever event comes in, the function answers each of a batch once, with a status that the broker knows what to
// do with, and an event that is final stays final when it comes again.
func FuzzReceive(f *testing.F) {
	h := functiontest.New(f, counting)
	good, err := json.Marshal(h.Event(ship("a")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(strings.Replace(string(good), "com.example.inventory.ship.v1", "com.example.nobody.knows.v1", 1)))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/functions/orders",` +
		`"type":"com.example.inventory.ship.v1","data":{"order_id":7}}`))
	f.Add([]byte(`{"specversion":"0.3","id":"1","source":"x:y","type":"com.example.inventory.ship.v1",` +
		`"data_base64":"AAE=","sequence":"x"}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/functions/clock","type":"` + event.ClockSwept.Name() +
		`","data":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := event.FromJSON(text)
		if err != nil || e.Validate() != nil {
			return
		}
		switch e.Subject() {
		case "panic", "not-yet", "never":
			return // these fail on purpose
		}
		h := functiontest.New(t, counting)
		first := h.Receive(e, e)
		if len(first) != 2 {
			t.Fatalf("%d answers to 2 events", len(first))
		}
		again := h.Receive(e)
		for _, r := range append(first, again...) {
			if r.Status < 200 || r.Status >= 500 || r.Skipped && r.OK() {
				t.Errorf("%s: got %+v", text, r)
			}
		}
		if first[0].OK() != again[0].OK() {
			t.Errorf("%s: got %+v, then %+v", text, first[0], again[0])
		}
	})
}

// What reads a manifest, as the tools behind it do, gives back what it read.
func FuzzManifest(f *testing.F) {
	h := functiontest.New(f, counting)
	own, err := json.Marshal(h.I.Declaration().Function)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte(`{"name":"x","routes":[{"method":"GET","path":"/","access":"public","max_body":-1}],` +
		`"trigger":{"filters":[{"not":{"cesql":"'"}}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var m, again manifest.Function
		if json.Unmarshal(text, &m) != nil {
			return
		}
		written, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("%s cannot be written again: %v", text, err)
		}
		if err := json.Unmarshal(written, &again); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if rewritten, err := json.Marshal(again); err != nil || !reflect.DeepEqual(written, rewritten) {
			t.Fatalf("got %s, then %s, %v", written, rewritten, err)
		}
	})
}
