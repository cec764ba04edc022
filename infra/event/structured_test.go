package event_test

import (
	"encoding/json"
	"testing"

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
		`{"specversion":"1.0","data_base64":0}`, `{"id":"1","specversion":"1.0","n":1,"b":true,"n":2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := event.FromJSON(text)
		if err != nil || e.Validate() != nil {
			return
		}
		written, err := json.Marshal(e)
		if err != nil {
			return // an attribute that the SDK reads and does not write
		}
		again, err := event.FromJSON(written)
		if err != nil || again.ID() != e.ID() || again.Type() != e.Type() || len(again.Extensions()) != len(e.Extensions()) {
			t.Errorf("got %s, then %s, %v", written, again, err)
		}
	})
}
