package httpevent_test

import (
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/internal/httpevent"
)

// texts returns the attributes of an event as header fields have them.
func texts(e ce.Event) map[string]string {
	m := map[string]string{
		"id": e.ID(), "source": e.Source(), "type": e.Type(), "subject": e.Subject(), "schema": e.DataSchema(),
		"content": e.DataContentType(), "time": types.FormatTime(e.Time()),
	}
	for name, value := range e.Extensions() {
		m["x "+name], _ = types.Format(value)
	}
	return m
}

// A message in any mode is refused, or is an event that is the same after it is written and read in each mode.
func FuzzRead(f *testing.F) {
	const required = `{"specversion":"1.0","id":"1","source":"/s","type":"t"`
	f.Add("application/cloudevents+json", "", "", []byte(required+`,"datacontenttype":null,"data":{"a":1}}`))
	f.Add("application/cloudevents+json", "", "", []byte(required+`,"n":1.5}`))
	f.Add("application/cloudevents+json", "", "", []byte(required+`,"datacontenttype":"application/x+json","data":"a"}`))
	f.Add("application/cloudevents-batch+json", "", "", []byte(`[`+required+`,"data_base64":"/w=="}]`))
	f.Add("application/json", `"a \"b\" %41"`, "/empty#", []byte("\xff{"))
	f.Add("text/plain", "%C3%B6", "HTTP://Example.com/Foo", []byte("\x00"))
	f.Add("", "a", "/a b%25", []byte("1"))
	f.Fuzz(func(t *testing.T, contentType, subject, source string, body []byte) {
		header := http.Header{"Content-Type": {contentType}, "Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Type": {"t"}}
		if subject != "" {
			header.Set("Ce-Subject", subject)
		}
		header.Set("Ce-Source", source)
		events, err := httpevent.Read(header, body)
		if err != nil {
			return
		}
		for _, e := range events {
			r, err := httpevent.Request(t.Context(), "http://localhost/", e)
			if err != nil {
				t.Fatal(err)
			}
			written := []byte{}
			if r.Body != nil {
				written, _ = io.ReadAll(r.Body)
			}
			inJSON, err := event.ToJSON(e)
			if err != nil {
				t.Fatal(err)
			}
			structured := http.Header{"Content-Type": {"application/cloudevents+json"}}
			for mode, read := range map[string]func() ([]ce.Event, error){
				"binary":     func() ([]ce.Event, error) { return httpevent.Read(r.Header, written) },
				"structured": func() ([]ce.Event, error) { return httpevent.Read(structured, inJSON) },
			} {
				again, err := read()
				if err != nil || len(again) != 1 {
					t.Fatalf("%s: %v of %v is not read: %v", mode, texts(e), inJSON, err)
				}
				if got, want := texts(again[0]), texts(e); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %q, want %q", mode, got, want)
				}
				// White space around a JSON value is not a part of it.
				got, want := strings.Trim(string(again[0].Data()), " \t\r\n"), strings.Trim(string(e.Data()), " \t\r\n")
				if got != want && e.DataContentType() != "" {
					t.Errorf("%s: got data %q, want %q", mode, got, want)
				}
			}
		}
	})
}
