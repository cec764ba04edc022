package conformance

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const (
	sectionIngress = "Knative Broker, Data Plane: ingress"
	sectionBinding = "CloudEvents 1.0 and its HTTP binding"
)

func ingressCases() []Case {
	c := func(id string, level Level, sentence string, run func(*trial)) Case {
		return Case{ID: id, Section: sectionIngress, Level: level, Sentence: sentence, run: run}
	}
	cases := []Case{
		c("ingress-binary", Must, "an event in the binary mode is accepted with 2xx and delivered", ingressBinary),
		c("ingress-structured", Must, "an event in the structured mode is accepted with 2xx and delivered",
			ingressStructured),
		c("ingress-content-types", Must, "in the binary mode the data may be of any content type", ingressContentTypes),
		c("ingress-methods", Must, "a produce request with a method other than POST is refused with 405", ingressMethods),
		c("ingress-options", Must, "OPTIONS, where it is supported, names POST in Allow", ingressOptions),
		c("ingress-old-version", Should, "an event of CloudEvents 0.3 is refused, or delivered as 0.3: never upgraded",
			ingressOld),
		c("ingress-duplicate", Must, "an event that was accepted before is accepted again", ingressDuplicate),
		c("ingress-nobody", Must, "an event that passes no trigger is accepted", ingressNoTrigger),
	}
	for _, b := range badEvents {
		cases = append(cases, c("ingress-refuses-"+b.id, b.level, b.what+" is refused with 4xx, and nothing is delivered",
			func(t *trial) { t.refusesEvent(b.make) }))
	}
	return cases
}

func ingressBinary(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("subject", "s", "datacontenttype", "application/json", "data", `{"n":1}`)
	t.send(m)
	t.checkSame(m, t.one(k, m.id()))
}

func ingressStructured(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("subject", "s", "datacontenttype", "application/json", "data", `{"n":1}`, "myext", "v")
	t.sendStructured(m)
	t.checkSame(m, t.one(k, m.id()))
}

func ingressContentTypes(t *trial) {
	k := t.subscribe(nil, nil)
	for _, ct := range []string{"application/json", "text/plain; charset=utf-8", "application/octet-stream",
		"application/xml"} {
		m := t.event().with("datacontenttype", ct, "data", `{"n":1}`)
		t.send(m)
		t.checkSame(m, t.one(k, m.id()))
	}
}

func ingressMethods(t *trial) {
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		header, body := t.event().binary()
		r, err := t.request(method, t.cfg.URL, header, body)
		if err != nil {
			t.stop("an answer", "%v", err)
		}
		t.check(r.status == http.StatusMethodNotAllowed, method+" answers 405", "%v", r)
	}
}

func ingressOptions(t *trial) {
	r, err := t.request(http.MethodOptions, t.cfg.URL, http.Header{"Webhook-Request-Origin": {"conformance.ebb.dev"}}, "")
	if err != nil {
		t.stop("an answer", "%v", err)
	}
	if r.accepted() {
		allow := strings.Join(r.header.Values("Allow"), ",")
		t.check(strings.Contains(allow, "POST"), "Allow names POST", "%q", allow)
	}
}

func ingressOld(t *trial) {
	k := t.subscribe(nil, nil)
	old := t.event().with("specversion", "0.3")
	r := t.post(old.binary())
	last := t.event()
	t.send(last)
	t.await(k, last.id(), 1)
	if !r.accepted() {
		t.check(r.refused(), "4xx when it is not accepted", "%v", r)
		t.waitQuiet()
		t.never(k, old.id(), "the refused event is not delivered")
		return
	}
	got, _ := t.one(k, old.id()).text("specversion")
	t.check(got == "0.3", "specversion 0.3, as it was produced", "%s", got)
}

func ingressDuplicate(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event()
	t.send(m)
	t.send(m)
	t.one(k, m.id())
}

func ingressNoTrigger(t *trial) { t.send(t.event()) }

// badEvent is a request without a valid event.
type badEvent struct {
	id    string
	level Level
	what  string
	make  func(m message) (http.Header, string)
}

func without(name string) func(message) (http.Header, string) {
	return func(m message) (http.Header, string) { return m.with(name, nil).binary() }
}

func changed(name, value string) func(message) (http.Header, string) {
	return func(m message) (http.Header, string) {
		return contentType(structuredType), m.with(name, value).json()
	}
}

func raw(ct, format string) func(message) (http.Header, string) {
	return func(m message) (http.Header, string) {
		body := format
		if strings.Contains(format, "%s") {
			body = fmt.Sprintf(format, strings.Trim(m.json(), "{}"))
		}
		return contentType(ct), body
	}
}

var badEvents = []badEvent{
	{"no-id", Must, "an event without id", without("id")},
	{"no-source", Must, "an event without source", without("source")},
	{"no-type", Must, "an event without type", without("type")},
	{"no-specversion", Must, "an event without specversion", without("specversion")},
	{"no-id-structured", Must, "a structured event without id", func(m message) (http.Header, string) {
		return contentType(structuredType), m.with("id", nil).json()
	}},
	{"no-specversion-structured", Must, "a structured event without specversion", func(m message) (http.Header, string) {
		return contentType(structuredType), m.with("specversion", nil).json()
	}},
	{"empty-id", Must, "an event with an empty id", changed("id", "")},
	{"empty-source", Must, "an event with an empty source", changed("source", "")},
	{"empty-type", Must, "an event with an empty type", changed("type", "")},
	{"empty-subject", Must, "an event with an empty subject", changed("subject", "")},
	{"bad-source", Must, "an event whose source is no URI reference", changed("source", "http://a b/%zz")},
	{"bad-time", Must, "an event whose time is no RFC 3339 timestamp", changed("time", "yesterday")},
	{"bad-extension", Must, "an event with an attribute whose name is not of lower-case letters and digits",
		changed("not-ok", "x")},
	{"control-character", Must, "an event with a control character in an attribute", changed("subject", "a\u0007b")},
	{"unknown-version", Must, "an event of a version that does not exist", func(m message) (http.Header, string) {
		return m.with("specversion", "19.0").binary()
	}},
	{"broken-json", Must, "a structured event that is no JSON", raw(structuredType, "{%s")},
	{"json-array", Must, "a structured event that is no JSON object", raw(structuredType, "[{%s}]")},
	{"bad-base64", Must, "a structured event whose data_base64 is no base64", changed("data_base64", "!!!")},
	{"float", Must, "a structured event with a number that is not an integer", raw(structuredType, `{%s,"myext":1.5}`)},
	{"two-data", Must, "a structured event with both data and data_base64",
		raw(structuredType, `{%s,"data":1,"data_base64":"AAE="}`)},
	{"no-event", Must, "a request that holds no event at all", raw("application/json", "{%s}")},
	{"empty", Must, "an empty request", func(message) (http.Header, string) { return nil, "" }},
}

// refusesEvent checks that the ingress refuses the request and delivers nothing for it. It waits for a valid event
// that it posts afterwards.
func (t *trial) refusesEvent(make func(message) (http.Header, string)) {
	k := t.subscribe(nil, nil)
	id := t.event()
	r := t.post(make(id))
	t.check(r.refused(), "4xx", "%v", r)
	last := t.event()
	t.send(last)
	t.await(k, last.id(), 1)
	t.waitQuiet()
	got, _ := k.deliveries("")
	for _, d := range got {
		if d.event == nil || d.event.ID() != last.id() {
			t.fail("the refused event is not delivered", fmt.Sprintf("a delivery: %.200s", d.body))
		}
	}
}

func bindingCases() []Case {
	c := func(id string, level Level, sentence string, run func(*trial)) Case {
		return Case{ID: id, Section: sectionBinding, Level: level, Sentence: sentence, run: run}
	}
	batch := func(c Case) Case { c.Needs = []Feature{Batch}; return c }
	return []Case{
		c("binding-case", Must, "names of header fields are case-insensitive", bindingCase),
		c("binding-percent-in", Must, "an attribute in a header field is percent-decoded", bindingPercentIn),
		c("binding-percent-out", Must, "an attribute of any characters arrives unchanged, percent-encoded in a header field",
			bindingPercentOut),
		c("binding-base64", Must, "data in data_base64 arrives as the bytes it stands for", bindingBase64),
		c("binding-quoted", Must, "a quoted value of a header field is unescaped before it is percent-decoded",
			bindingQuoted),
		c("binding-source", Must, "a source arrives as it was written: a URI reference is not normalized", bindingSource),
		c("binding-tracestate", Must, "an event with a tracestate is delivered with it", bindingTracestate),
		c("binding-bytes", Must, "data in the binary mode arrives byte by byte, also when it is not what its type says",
			bindingBytes),
		c("binding-json-suffix", Must, "in the JSON format data of a type that ends with +json is a JSON value",
			bindingJSONSuffix),
		c("binding-null", Must, "in the JSON format an attribute that is null is as if it were missing", bindingNull),
		c("binding-implied-json", Should,
			"JSON data without a datacontenttype is delivered in the binary mode as application/json", bindingImpliedJSON),
		c("binding-gzip", Should, "a body with a Content-Encoding is unpacked, or refused with 415", bindingGzip),
		c("binding-64k", Must, "an event of 64 KiB is forwarded", binding64k),
		c("binding-too-large", Must,
			"an event that is larger than the broker takes is refused with 4xx, and the largest that is taken arrives "+
				"whole", bindingTooLarge),
		batch(c("batch-accepted", Must, "a batch is accepted with 2xx, and each of its events is delivered", batchAccepted)),
		batch(c("batch-empty", Must, "an empty batch is valid", batchEmpty)),
		c("batch-all-or-nothing", Should, "a batch with one bad event is refused with 4xx, and none of it is delivered",
			batchBad),
	}
}

func bindingCase(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("subject", "s")
	header, body := m.binary()
	odd := http.Header{}
	for name, values := range header {
		odd[strings.ToUpper(name)] = values
	}
	if r := t.post(odd, body); !r.accepted() {
		t.stop("2xx", "%v", r)
	}
	t.checkSame(m, t.one(k, m.id()))
}

// awkward is a value that exposes wrong encoding: spaces, quotes, text that looks encoded, several planes of Unicode.
const awkward = `50%25 "Größe" € 😀`

func bindingPercentIn(t *trial) {
	k := t.subscribe(nil, nil, exact("subject", awkward))
	m := t.event().with("subject", awkward)
	t.send(m)
	t.checkSame(m, t.one(k, m.id()))
}

func bindingPercentOut(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("subject", awkward, "myext", awkward)
	t.sendStructured(m)
	t.checkSame(m, t.one(k, m.id()))
}

func bindingBase64(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("datacontenttype", "application/octet-stream", "data_base64", "AAEC/w==")
	t.sendStructured(m)
	got := t.one(k, m.id()).event.Data()
	t.check(string(got) == "\x00\x01\x02\xff", "the bytes 00 01 02 ff", "% x", got)
}

func bindingQuoted(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event()
	header, body := m.binary()
	header.Set("Ce-Subject", `"a \"b\" \\ %41"`)
	if r := t.post(header, body); !r.accepted() {
		t.stop("2xx", "%v", r)
	}
	t.checkSame(m.with("subject", `a "b" \ A`), t.one(k, m.id()))
}

// bindingSource compares the header field itself where the delivery is in the binary mode.
func bindingSource(t *trial) {
	k := t.subscribe(nil, nil)
	for _, source := range []string{"/conformance#", "HTTP://Example.com/Conformance", "/conformance/a%20b?"} {
		m := t.event().with("source", source)
		t.send(m)
		d := t.one(k, m.id())
		got := percentDecode(d.header.Get("Ce-Source"))
		if got == "" {
			var members struct{ Source string }
			_ = json.Unmarshal(d.body, &members)
			got = members.Source
		}
		t.check(got == source, "source "+source, "%q", got)
	}
}

func bindingTracestate(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with(
		"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01", "tracestate", "ebb=1,x=2")
	t.send(m)
	got, _ := t.one(k, m.id()).text("tracestate")
	t.check(strings.Contains(got, "ebb=1"), "tracestate ebb=1,x=2", "%q", got)
}

func bindingBytes(t *trial) {
	k := t.subscribe(nil, nil)
	for _, ct := range []string{"application/json", "text/plain", "application/vnd.ebb+json"} {
		m := t.event().with("datacontenttype", ct, "data", "\xff\x00{")
		t.send(m)
		t.checkSame(m, t.one(k, m.id()))
	}
}

func bindingJSONSuffix(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("datacontenttype", "application/vnd.ebb+json", "data", `{"n":1}`)
	t.sendStructured(m)
	t.checkSame(m, t.one(k, m.id()))
}

func bindingNull(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("data", `{"n":1}`)
	body := strings.TrimSuffix(m.json(), "}") + `,"datacontenttype":null,"subject":null,"time":null,"myext":null}`
	if r := t.post(contentType(structuredType), body); !r.accepted() {
		t.stop("2xx", "%v", r)
	}
	d := t.one(k, m.id())
	t.checkSame(m, d)
	for _, name := range []string{"subject", "time", "myext"} {
		got, there := d.text(name)
		t.check(!there, "no "+name, "%q", got)
	}
}

func bindingImpliedJSON(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("data", `{"implied":true}`)
	t.sendStructured(m)
	d := t.one(k, m.id())
	t.checkSame(m.with("datacontenttype", "application/json"), d)
}

func bindingGzip(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("datacontenttype", "application/json", "data", `{"n":1}`)
	header, body := m.binary()
	var packed strings.Builder
	w := gzip.NewWriter(&packed)
	_, _ = io.WriteString(w, body) // a strings.Builder takes everything
	_ = w.Close()
	header.Set("Content-Encoding", "gzip")
	r := t.post(header, packed.String())
	if !r.accepted() {
		t.check(r.status == http.StatusUnsupportedMediaType, "2xx or 415", "%v", r)
		return
	}
	t.checkSame(m, t.one(k, m.id()))
}

func binding64k(t *trial) {
	k := t.subscribe(nil, nil)
	m := t.event().with("datacontenttype", "text/plain", "data", strings.Repeat("0123456789abcdef", 4096-32))
	t.send(m)
	t.checkSame(m, t.one(k, m.id()))
}

// bindingTooLarge doubles the size until the broker refuses, up to 16 MiB.
func bindingTooLarge(t *trial) {
	k := t.subscribe(nil, nil)
	var largest message
	for size := 256 << 10; size <= 16<<20; size *= 2 {
		m := t.event().with("datacontenttype", "text/plain", "data", strings.Repeat("x", size))
		header, body := m.binary()
		header.Set("Expect", "100-continue")
		r, err := t.request(http.MethodPost, t.cfg.URL, header, body)
		if err == nil && r.accepted() {
			largest = m
			continue
		}
		if largest != nil {
			t.checkSame(largest, t.one(k, largest.id()))
		}
		t.check(err == nil && r.refused(), fmt.Sprintf("4xx for an event of %d bytes", size), "%v, %v", r, err)
		t.waitQuiet()
		t.never(k, m.id(), "the refused event is not delivered")
		return
	}
	t.checkSame(largest, t.one(k, largest.id()))
	t.skip("no limit found: 16 MiB are accepted")
}

const batchType = "application/cloudevents-batch+json"

func batchOf(all ...message) string {
	texts := make([]string, len(all))
	for i, m := range all {
		texts[i] = m.json()
	}
	return "[" + strings.Join(texts, ",") + "]"
}

func batchAccepted(t *trial) {
	k := t.subscribe(nil, nil)
	all := []message{t.event().with("subject", "1"), t.event().with("subject", "2"),
		t.event().with("data", `{"n":3}`, "datacontenttype", "application/json")}
	if r := t.post(contentType(batchType), batchOf(all...)); !r.accepted() {
		t.stop("2xx", "%v", r)
	}
	for _, m := range all {
		t.checkSame(m, t.one(k, m.id()))
	}
}

func batchEmpty(t *trial) {
	r := t.post(contentType(batchType), "[]")
	t.check(r.accepted(), "2xx", "%v", r)
}

func batchBad(t *trial) {
	t.refusesEvent(func(m message) (http.Header, string) {
		return contentType(batchType), batchOf(m, t.event().with("type", nil), t.event())
	})
}
