// Package strangers_test sends events of unknown senders through every door: the broker's, the Knative host's, and the
// archive's with its list and its replay. Each must refuse an event, or hand on the same attributes and the same bytes.
package strangers_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/infra/broker/httpapi"
	"github.com/ebb-dev/ebb/infra/broker/memory"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/host/knative"
)

// seen is an event as it came out of a door.
type seen struct {
	attributes map[string]string
	data       string
}

func seenOf(e ce.Event) seen {
	s := seen{attributes: map[string]string{"id": e.ID(), "source": e.Source(), "type": e.Type()}, data: string(e.Data())}
	for name, value := range map[string]string{
		"subject": e.Subject(), "datacontenttype": e.DataContentType(), "dataschema": e.DataSchema(),
	} {
		if value != "" {
			s.attributes[name] = value
		}
	}
	if at := e.Time(); !at.IsZero() {
		s.attributes["time"] = types.FormatTime(at)
	}
	for name, value := range e.Extensions() {
		s.attributes[name], _ = types.Format(value)
	}
	return s
}

// maxBody is the most bytes of a request at every door.
const maxBody = 64 << 10

// door sends a request to a door. It returns the answer's status and, unless the event was refused, what came out.
type door func(t *testing.T, header http.Header, body string) (status int, out []seen)

var doors = map[string]door{"broker": throughBroker, "host": throughHost, "archive": throughArchive}

func post(h http.Handler, path string, header http.Header, body string) int {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// throughBroker posts an event to the broker's ingress and returns the delivery to an HTTP sink.
func throughBroker(t *testing.T, header http.Header, body string) (int, []seen) {
	delivered := make(chan seen, 1)
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		s := seen{attributes: map[string]string{}, data: string(data)}
		for name, values := range r.Header {
			if name, ok := strings.CutPrefix(name, "Ce-"); ok && name != "Specversion" {
				s.attributes[strings.ToLower(name)], _ = url.PathUnescape(values[0])
			}
		}
		if contentType := r.Header.Get("Content-Type"); contentType != "" {
			s.attributes["datacontenttype"] = contentType
		}
		delivered <- s
	}))
	defer sink.Close()
	quiet := slog.New(slog.DiscardHandler)
	b := memory.New(memory.WithLogger(quiet))
	defer b.Close(context.Background())
	api, err := httpapi.New(t.Context(), b, httpapi.Config{MaxBody: maxBody, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close(context.Background())
	sub := http.Header{"Content-Type": {"application/json"}}
	if got := post(api, "/subscriptions", sub, `{"sink":"`+sink.URL+`","protocol":"HTTP"}`); got != 201 {
		t.Fatalf("the subscription is answered %d", got)
	}
	status := post(api, "/", header, body)
	if status >= 300 {
		return status, nil
	}
	select {
	case s := <-delivered:
		return status, []seen{s}
	case <-time.After(10 * time.Second):
		t.Fatal("the broker has accepted an event that it does not deliver")
		return status, nil
	}
}

// hosted returns a Knative host of the function under test.
func hosted(t *testing.T, h *functiontest.Harness) *knative.Host {
	host := knative.New(h.I, knative.Config{MaxBody: maxBody, Logger: slog.New(slog.DiscardHandler)})
	host.Start()
	for host.Ready() != nil { // the function is started already
		if t.Context().Err() != nil {
			t.Fatal(host.Ready())
		}
	}
	return host
}

// throughHost posts an event to a function that consumes every event, and returns what its handler gets.
func throughHost(t *testing.T, header http.Header, body string) (int, []seen) {
	var got []seen
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("consumer", env)
		function.OnAny(f, func(_ context.Context, _ *function.Tx, e ce.Event) error {
			got = append(got, seenOf(e))
			return nil
		})
		return f, nil
	}, functiontest.Once())
	return post(hosted(t, h), knative.EventsPath, header, body), got
}

// throughArchive posts an event to the archive, and returns what it lists and what it replays.
func throughArchive(t *testing.T, header http.Header, body string) (int, []seen) {
	h := functiontest.New(t, archive.New)
	status := post(hosted(t, h), knative.EventsPath, header, body)
	if status >= 300 {
		return status, nil
	}
	var page struct {
		Items []struct{ Event json.RawMessage }
	}
	h.Call("GET", "/api/archive/events", functiontest.Admin(), nil).Expect(200).JSON(&page)
	if len(page.Items) != 1 {
		t.Fatalf("the archive lists %d events", len(page.Items))
	}
	listed, err := event.FromJSON(page.Items[0].Event)
	if err != nil {
		t.Fatal(err)
	}
	out := []seen{seenOf(listed)}
	h.MustDeliver(event.ArchiveReplay.New("r", event.ReplayEvents{ReplayID: "r", To: "views"}))
	for done := false; !done; {
		emitted := h.Emitted()
		if len(emitted) == 0 {
			t.Fatal("the replay does not end")
		}
		for _, e := range emitted {
			switch e.Type() {
			case event.ArchiveReplay.Name():
				h.Receive(e)
			case event.ArchiveReplayed.Name():
				done = true
			default:
				e = e.Clone()
				e.SetExtension(event.ReplayTo, nil)
				e.SetExtension(event.Replay, nil)
				out = append(out, seenOf(e))
			}
		}
	}
	return status, out
}

const (
	structured = "application/cloudevents+json"
	required   = `"specversion":"1.0","id":"1","source":"/stranger","type":"com.example.unknown"`
)

// binary returns the header of an event in the binary mode, with more fields in pairs.
func binary(contentType string, more ...string) http.Header {
	h := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/stranger"},
		"Ce-Type": {"com.example.unknown"}}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

func with(h http.Header, name, value string) http.Header {
	h.Add(name, value)
	return h
}

// long is a text that is longer than the entry of an index may be in PostgreSQL, and than an id in Firestore.
var long = strings.Repeat("0123456789abcdef", 250)

func packed(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

// Each door hands on what a stranger sent: the same attributes, and the same bytes.
func TestStrangersEventsAreHandedOn(t *testing.T) {
	inJSON := http.Header{"Content-Type": {structured}}
	for name, c := range map[string]struct {
		header     http.Header
		body       string
		attributes map[string]string // beside the required ones
		data       string
	}{
		"bytes under a JSON type": {
			binary("application/json"), "\xff\x00{", map[string]string{"datacontenttype": "application/json"}, "\xff\x00{",
		},
		"two values under a JSON type": {
			binary("application/json"), `{"a":1} {"b":2}`, map[string]string{"datacontenttype": "application/json"},
			`{"a":1} {"b":2}`,
		},
		"JSON that is not UTF-8": {
			binary("application/json"), "\"\xe4\"", map[string]string{"datacontenttype": "application/json"}, "\"\xe4\"",
		},
		"JSON that is nested deeply": {
			binary("application/json"), strings.Repeat("[", 9990) + strings.Repeat("]", 9990),
			map[string]string{"datacontenttype": "application/json"}, strings.Repeat("[", 9990) + strings.Repeat("]", 9990),
		},
		"null under a JSON type": {
			binary("application/json"), `null`, map[string]string{"datacontenttype": "application/json"}, `null`,
		},
		"bytes under a type of bytes": {
			binary("application/octet-stream"), "\x00\x01\xff", map[string]string{"datacontenttype": "application/octet-stream"},
			"\x00\x01\xff",
		},
		"bytes under a type of text": {
			binary("text/plain; charset=latin1"), "Gr\xf6\xdfe\x00",
			map[string]string{"datacontenttype": "text/plain; charset=latin1"}, "Gr\xf6\xdfe\x00",
		},
		"JSON under a type of bytes": {
			binary("application/octet-stream"), `{"a": 1}`, map[string]string{"datacontenttype": "application/octet-stream"},
			`{"a": 1}`,
		},
		"bytes without a type": {binary(""), "\xff\x00{", nil, "\xff\x00{"},
		"JSON type of a vendor, bytes": {
			binary("application/vnd.x+json"), `{"a":`, map[string]string{"datacontenttype": "application/vnd.x+json"}, `{"a":`,
		},
		"gzip": {
			binary("application/json", "Content-Encoding", "gzip"), packed(`{"a":1}`),
			map[string]string{"datacontenttype": "application/json"}, `{"a":1}`,
		},
		"gzip of a structured event": {
			http.Header{"Content-Type": {structured}, "Content-Encoding": {"GZIP"}},
			packed(`{` + required + `,"datacontenttype":"text/plain","data":"hi"}`),
			map[string]string{"datacontenttype": "text/plain"}, `hi`,
		},
		"JSON type of a vendor": {
			inJSON, `{` + required + `,"datacontenttype":"application/vnd.x+json","data":{"a":1}}`,
			map[string]string{"datacontenttype": "application/vnd.x+json"}, `{"a":1}`,
		},
		"JSON type of a vendor, a string": {
			inJSON, `{` + required + `,"datacontenttype":"application/vnd.x+json","data":"{\"a\":1}"}`,
			map[string]string{"datacontenttype": "application/vnd.x+json"}, `"{\"a\":1}"`,
		},
		"a type of null": {
			inJSON,
			`{"datacontenttype":null,"subject":null,"time":null,"dataschema":null,"x":null,` + required + `,"data":{"a":1}}`,
			map[string]string{"datacontenttype": "application/json"}, `{"a":1}`,
		},
		"implied JSON": {
			inJSON, `{` + required + `,"data":[1]}`, map[string]string{"datacontenttype": "application/json"}, `[1]`,
		},
		"no data": {inJSON, `{` + required + `}`, nil, ``},
		"base64": {
			inJSON, `{` + required + `,"datacontenttype":"application/json","data_base64":"/w=="}`,
			map[string]string{"datacontenttype": "application/json"}, "\xff",
		},
		"a quoted value": {
			binary("", "Ce-Subject", `"a \"b\" \\ %41"`), ``, map[string]string{"subject": `a "b" \ A`}, ``,
		},
		"quotes within a value":   {binary("", "Ce-Subject", `a "b"`), ``, map[string]string{"subject": `a "b"`}, ``},
		"a quote that never ends": {binary("", "Ce-Subject", `"a\"`), ``, map[string]string{"subject": `"a\"`}, ``},
		"a trace": {
			binary("", "Ce-Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Ce-Tracestate", "vendor=1"),
			``, map[string]string{
				"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1",
			}, ``,
		},
		"an integer": {
			inJSON, `{` + required + `,"n":-2147483648,"b":true}`, map[string]string{"n": "-2147483648", "b": "true"}, ``,
		},
		"a time with a zone": {
			binary("", "Ce-Time", "2026-11-30T01:00:00.5+01:00"), ``, map[string]string{"time": "2026-11-30T00:00:00.5Z"}, ``,
		},
		"a time of long ago": {
			binary("", "Ce-Time", "0001-01-01T00:00:01Z"), ``, map[string]string{"time": "0001-01-01T00:00:01Z"}, ``,
		},
		"a time in the far future": {
			binary("", "Ce-Time", "9999-12-31T23:59:59Z"), ``, map[string]string{"time": "9999-12-31T23:59:59Z"}, ``,
		},
		"long texts": {
			binary("", "Ce-Id", "1"+long, "Ce-Subject", long, "Ce-Correlationid", long), ``,
			map[string]string{"id": "1" + long, "subject": long, "correlationid": long}, ``,
		},
		"an empty fragment": {
			inJSON, `{` + strings.Replace(required, "/stranger", "/empty#", 1) + `}`, map[string]string{"source": "/empty#"}, ``,
		},
		"capitals in a source": {
			binary("", "Ce-Source", "HTTP://Example.com/Foo"), ``, map[string]string{"source": "HTTP://Example.com/Foo"}, ``,
		},
		"a source and a schema as they are written": {
			binary("", "Ce-Source", "/a%2520b/../c?#", "Ce-Dataschema", "HTTPS://Example.com/x#"), ``,
			map[string]string{"source": "/a%20b/../c?#", "dataschema": "HTTPS://Example.com/x#"}, ``,
		},
	} {
		for at, through := range doors {
			t.Run(name+"/"+at, func(t *testing.T) {
				status, out := through(t, c.header, c.body)
				if status >= 300 || len(out) == 0 || at == "archive" && len(out) != 2 {
					t.Fatalf("got status %d and %d events", status, len(out))
				}
				want := map[string]string{"id": "1", "source": "/stranger", "type": "com.example.unknown"}
				maps.Copy(want, c.attributes)
				for _, got := range out {
					if !maps.Equal(got.attributes, want) || got.data != c.data {
						t.Errorf("got %v %.100q,\nwant %v %.100q", got.attributes, got.data, want, c.data)
					}
				}
			})
		}
	}
}

// Each door refuses what is not a CloudEvent, with a status that says why.
func TestStrangersEventsAreRefused(t *testing.T) {
	inJSON := http.Header{"Content-Type": {structured}}
	invalid := []int{400, 422}
	for name, c := range map[string]struct {
		header http.Header
		body   string
		want   []int
	}{
		"an unknown coding": {binary("application/json", "Content-Encoding", "br"), `{}`, []int{415}},
		"two codings":       {binary("application/json", "Content-Encoding", "gzip, gzip"), packed(packed(`{}`)), []int{415}},
		"gzip that is none": {binary("application/json", "Content-Encoding", "gzip"), `{}`, invalid},
		"gzip that ends early": {
			binary("application/json", "Content-Encoding", "gzip"), packed(`{"a":1}`)[:20], invalid,
		},
		"gzip that unpacks to too much": {
			binary("text/plain", "Content-Encoding", "gzip"), packed(strings.Repeat("x", maxBody+1)), []int{413},
		},
		"a float":                  {inJSON, `{` + required + `,"n":1.5}`, invalid},
		"a number in another form": {inJSON, `{` + required + `,"n":1e2}`, invalid},
		"an integer of 33 bits":    {inJSON, `{` + required + `,"n":2147483648}`, invalid},
		"an object":                {inJSON, `{` + required + `,"n":{}}`, invalid},
		"the same member twice":    {inJSON, `{` + required + `,"id":"2"}`, invalid},
		"the same extension twice": {inJSON, `{` + required + `,"n":1,"N":2}`, invalid},
		"a member without a name":  {inJSON, `{` + required + `,"":1,"subject":"s"}`, invalid},
		"more than one value":      {inJSON, `{` + required + `} {}`, invalid},
		"half of a surrogate pair": {inJSON, `{` + required + `,"subject":"\ud800"}`, invalid},
		"JSON that is not UTF-8":   {inJSON, `{` + required + ",\"subject\":\"\xff\"}", invalid},
		"a time beyond year 9999": {
			binary("", "Ce-Time", "9999-12-31T23:59:59-01:00"), ``, invalid,
		},
		"a time before year 0": {binary("", "Ce-Time", "0000-01-01T00:00:00+01:00"), ``, invalid},
		"the same field twice": {with(binary("", "Ce-Subject", "a"), "Ce-Subject", "b"), ``, invalid},
		"a batch of null":      {http.Header{"Content-Type": {"application/cloudevents-batch+json"}}, `null`, invalid},
	} {
		for at, through := range doors {
			t.Run(name+"/"+at, func(t *testing.T) {
				if status, out := through(t, c.header, c.body); !slices.Contains(c.want, status) || len(out) > 0 {
					t.Errorf("got status %d and %s, want %d", status, fmt.Sprint(out), c.want)
				}
			})
		}
	}
}
