package event_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
)

// JSON that the SDK panics at is refused like any other that is not an event.
func TestFromJSONRefuses(t *testing.T) {
	for _, text := range []string{``, `{`, `[]`, `{}`, `{"specversion":"1.0","data_base64":0}`} {
		if e, err := event.FromJSON([]byte(text)); err == nil && e.Validate() == nil {
			t.Errorf("%s was read as %v", text, e)
		}
	}
	e, err := event.FromJSON([]byte(`{"specversion":"1.0","id":"1","source":"x","type":"t","data_base64":"aGk="}`))
	if err != nil || string(e.Data()) != "hi" {
		t.Errorf("got %v, %v", e, err)
	}
}

// Any text is refused, or is an event that is the same after it is written and read again.
func FuzzFromJSON(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"1","source":"/functions/orders","type":"dev.ebb.orders.placed.v1",` +
			`"datacontenttype":"application/json","data":{"a":[1,null]},"partitionkey":"k","sequence":"3"}`,
		`{"specversion":"0.3","id":"1","source":"x:y","type":"t","schemaurl":"a",` +
			`"datacontentencoding":"base64","data":"AAE="}`,
		`{"specversion":"1.0","id":"1","source":"/empty#","type":"t","datacontenttype":null,"data":"\ud83d"}`,
		`{"specversion":"1.0","id":"1","source":"x","type":"t","datacontenttype":"a/b+json","data_base64":"/w=="}`,
		`{"specversion":"1.0","data_base64":0}`, `{"id":"1","specversion":"1.0","n":1,"b":true,"n":2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := event.FromJSON(text)
		if err != nil || e.Validate() != nil || e.SpecVersion() != ce.CloudEventsVersionV1 {
			return
		}
		written, err := event.ToJSON(e)
		if err != nil {
			t.Fatal(err)
		}
		again, err := event.FromJSON(written)
		if err != nil || again.ID() != e.ID() || again.Type() != e.Type() || again.Source() != e.Source() ||
			!json.Valid(written) || len(again.Extensions()) != len(e.Extensions()) {
			t.Errorf("got %s, then %s, %v", written, again, err)
		}
	})
}

// Data of any bytes comes back the same, and never breaks the JSON that it is a part of.
func FuzzToJSON(f *testing.F) {
	for _, content := range []string{"", "application/json", "application/vnd.x+json", "text/plain", "a/b; c"} {
		for _, data := range []string{"", "{", "\xff", `{"a":1}`, "1 2", "null", "\x00"} {
			f.Add(content, []byte(data), false)
			f.Add(content, []byte(data), true)
		}
	}
	f.Fuzz(func(t *testing.T, content string, data []byte, inBase64 bool) {
		e := ce.New()
		e.SetID("1")
		e.SetSource("/s")
		e.SetType("t")
		if content != "" {
			e.SetDataContentType(content)
		}
		e.DataEncoded, e.DataBase64 = data, inBase64
		if e.Validate() != nil {
			return
		}
		written, err := event.ToJSON(e)
		if err != nil || !json.Valid(written) {
			t.Fatalf("got %s, %v", written, err)
		}
		again, err := event.FromJSON(written)
		trimmed := bytes.Trim(data, " \t\r\n") // white space around a JSON value is not a part of it
		if err != nil || !bytes.Equal(bytes.Trim(again.Data(), " \t\r\n"), trimmed) ||
			again.DataContentType() != strings.ToValidUTF8(e.DataContentType(), "\ufffd") {
			t.Errorf("%s: got %q %q, want %q %q, %v", written, again.DataContentType(), again.Data(), content, data, err)
		}
	})
}
