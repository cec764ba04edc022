package sns_test

import (
	"context"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/files"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/sqs/sns"
	"github.com/ebb-dev/ebb/infra/fault"
)

const topic = "arn:aws:sns:eu-central-1:123456789012:shop-dev.fifo"

// topicServer answers as SNS does, with its limits, which emulators do not have.
type topicServer struct {
	t     *testing.T
	fails func(body string) string // the code with which a message fails; "": it is taken

	mu     sync.Mutex
	bodies []string // of messages that were taken
}

type result struct {
	ID   string `xml:"Id"`
	Code string `xml:"Code,omitempty"`
}

// ServeHTTP implements http.Handler.
func (s *topicServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := r.ParseForm(); err != nil || r.Form.Get("Action") != "PublishBatch" || r.Form.Get("TopicArn") != topic {
		s.t.Errorf("got %v, %v", r.Form, err)
	}
	var answer struct {
		XMLName    xml.Name `xml:"PublishBatchResponse"`
		Successful []result `xml:"PublishBatchResult>Successful>member"`
		Failed     []result `xml:"PublishBatchResult>Failed>member"`
	}
	total, n, groups := 0, 0, map[string]bool{}
	for n = 1; r.Form.Has(entry(n, "Id")); n++ {
		total += s.check(r.Form, n)
		if group := r.Form.Get(entry(n, "MessageGroupId")); groups[group] {
			s.t.Errorf("the group %s is twice in one request", group)
		} else {
			groups[group] = true
		}
		out, body := result{ID: r.Form.Get(entry(n, "Id"))}, r.Form.Get(entry(n, "Message"))
		if s.fails != nil {
			out.Code = s.fails(body)
		}
		if out.Code != "" {
			answer.Failed = append(answer.Failed, out)
			continue
		}
		answer.Successful = append(answer.Successful, out)
		s.bodies = append(s.bodies, body)
	}
	if n-1 > 10 || total > 256<<10 {
		s.t.Errorf("a request of %d messages with %d bytes, want 10 and 262144 at most", n-1, total)
	}
	_ = xml.NewEncoder(w).Encode(answer)
}

func entry(n int, parameter string) string {
	return fmt.Sprintf("PublishBatchRequestEntries.member.%d.%s", n, parameter)
}

// check refuses a message that SNS does not take, and returns its size.
func (s *topicServer) check(form url.Values, n int) int {
	body := form.Get(entry(n, "Message"))
	size := len(body)
	for _, name := range []string{"MessageGroupId", "MessageDeduplicationId"} {
		value := form.Get(entry(n, name))
		if value == "" || len(value) > 128 || strings.Trim(value, printable) != "" {
			s.t.Errorf("invalid %s %q", name, value)
		}
	}
	attributes := 0
	for ; form.Has(entry(n, attribute(attributes+1, "Name"))); attributes++ {
		name := form.Get(entry(n, attribute(attributes+1, "Name")))
		value := form.Get(entry(n, attribute(attributes+1, "Value.StringValue")))
		if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' }) {
			s.t.Errorf("invalid attribute %s %q", name, value)
		}
		size += len(name) + len(form.Get(entry(n, attribute(attributes+1, "Value.DataType")))) + len(value)
	}
	if attributes > 10 || body == "" || strings.ContainsAny(body, "\ufffe\uffff") {
		s.t.Errorf("%d attributes and %d bytes, want 10 at most and some", attributes, len(body))
	}
	return size
}

func attribute(n int, parameter string) string {
	return fmt.Sprintf("MessageAttributes.entry.%d.%s", n, parameter)
}

var printable = func() string {
	var b strings.Builder
	for r := '!'; r <= '~'; r++ {
		b.WriteRune(r)
	}
	return b.String()
}()

// open returns a publisher to the server.
func open(t *testing.T, s *topicServer, query string) *sns.Publisher {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
	} {
		t.Setenv(name, value)
	}
	opener, err := sns.ByURL("sns:" + topic + query)
	if err != nil {
		t.Fatal(err)
	}
	p, err := opener(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ids returns the ids of the events of messages, in order.
func ids(t *testing.T, bodies []string, blobs *blob.Store) (out []string) {
	t.Helper()
	for _, body := range bodies {
		e, err := sns.Decode(t.Context(), []byte(body), blobs)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.ID())
	}
	return out
}

// No request is over a limit of SNS, whatever the events are, and the order of each key is kept.
func TestLimits(t *testing.T) {
	for seed := range uint64(2) {
		random := rand.New(rand.NewPCG(seed, 0))
		keys := []string{"", "a", "b b", "ä", strings.Repeat("k", 500), "0", "key:a", strings.Repeat("k", 124)}
		s := &topicServer{t: t}
		p := open(t, s, "?blobs=file:"+t.TempDir())
		var events []ce.Event
		last := map[string][]string{}
		for i := range 120 {
			key := keys[random.IntN(len(keys))]
			e := brokertest.Event(strconv.Itoa(i), key)
			e.SetSubject([]string{"", "s\u200b", strings.Repeat("s", 2000), "12"}[random.IntN(4)])
			data := strings.Repeat([]string{"x", "\u00e9", "\x00", "\ufffe\uffff", "\xff"}[random.IntN(5)], random.IntN(60_000))
			if err := e.SetData("text/plain", data); err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
			last[key] = append(last[key], e.ID())
		}
		if err := p.Publish(t.Context(), events...); err != nil {
			t.Fatal(seed, err)
		}
		got := ids(t, s.bodies, p.Blobs())
		if len(got) != len(events) {
			t.Fatalf("seed %d: %d events of %d", seed, len(got), len(events))
		}
		for key, want := range last {
			order := slices.DeleteFunc(slices.Clone(got), func(id string) bool { return !slices.Contains(want, id) })
			if key != "" && !slices.Equal(order, want) {
				t.Errorf("seed %d, key %.20q: got %v, want %v", seed, key, order, want)
			}
		}
	}
}

// When SNS takes a part of a request only, no event is taken that stands behind one of its key which was not.
func TestPartialFailure(t *testing.T) {
	s := &topicServer{t: t, fails: func(body string) string {
		if strings.Contains(body, `"id":"a2"`) {
			return "InternalError"
		}
		return ""
	}}
	p := open(t, s, "")
	event := func(id string) ce.Event { return brokertest.Event(id, id[:1]) }
	all := []ce.Event{event("a1"), event("a2"), event("a3"), event("b1"), event("b2")}
	if err := p.Publish(t.Context(), all...); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v, want fault.Unavailable", err)
	}
	if got := ids(t, s.bodies, nil); slices.Contains(got, "a3") || slices.Contains(got, "a2") {
		t.Errorf("taken: %v", got)
	}
	s.fails = func(string) string { return "InvalidParameter" }
	if err := p.Publish(t.Context(), event("c")); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v, want fault.Invalid: it must not be tried again", err)
	}
}

// Without a store of blobs an event that is too large is refused, and nothing is taken.
func TestTooLarge(t *testing.T) {
	s := &topicServer{t: t}
	large := brokertest.Event("large", "")
	if err := large.SetData("text/plain", strings.Repeat("\x01", 100_000)); err != nil { // 600,000 bytes in JSON
		t.Fatal(err)
	}
	err := open(t, s, "").Publish(t.Context(), brokertest.Event("small", ""), large)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Public(err), "need a store of blobs") ||
		len(s.bodies) > 0 {
		t.Errorf("got %v, and %d events were taken", err, len(s.bodies))
	}
}

// A reference to data elsewhere is the publisher's own, and stays.
func TestOtherDataRef(t *testing.T) {
	e := brokertest.Event("1", "k")
	e.SetExtension("dataref", "https://example.com/claims/x")
	e.DataEncoded = nil
	text, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	got, err := sns.Decode(t.Context(), text, nil)
	if err != nil || got.Extensions()["dataref"] != "https://example.com/claims/x" {
		t.Errorf("got %v, %v", got, err)
	}
}

// A store of blobs whose own address has "/claims/" in it gives the data too.
func TestClaimsInFolderOfClaims(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "claims", "x")
	s := &topicServer{t: t}
	p := open(t, s, "?blobs=file:"+folder)
	e := brokertest.Event("1", "k")
	if err := e.SetData("text/plain", strings.Repeat("large", 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	got, err := sns.Decode(t.Context(), []byte(s.bodies[0]), p.Blobs())
	if err != nil || string(got.Data()) != string(e.Data()) || got.Extensions()["dataref"] != nil {
		t.Errorf("got %d bytes, %v, %v", len(got.Data()), got.Extensions(), err)
	}
}

// Data that is not what was stored is not handed out.
func TestChangedData(t *testing.T) {
	d, err := files.Open(files.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	key := "claims/" + strings.Repeat("0", 64)
	if err := d.Put(context.Background(), key, blob.Blob{Data: []byte("other")}); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		d.URI(key):          "is not what was stored there",
		"s3://other/" + key: "is not this function's store",
	} {
		e := brokertest.Event("1", "k")
		e.SetExtension("dataref", ref)
		e.DataEncoded = nil
		text, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		_, err = sns.Decode(t.Context(), text, blob.New(d, blob.Rules{}))
		var gone *sns.Gone
		if !asGone(err, &gone) || !strings.Contains(gone.Cause, want) {
			t.Errorf("%s: got %v", ref, err)
		}
	}
}

func asGone(err error, to **sns.Gone) bool {
	g, ok := err.(*sns.Gone)
	*to = g
	return ok
}

// A URL with a mistake is refused by a predicate without any part of it.
func TestURLs(t *testing.T) {
	for text, want := range map[string]string{
		"sns:":                          "has no ARN of a topic; want sns:arn:aws:sns:REGION:ACCOUNT:NAME.fifo",
		"sns:shop.fifo":                 "has no ARN",
		"sns:arn:aws:sqs:r:1:x.fifo":    "has no ARN",
		"sns:arn:aws:sns:r:1:shop":      "that is not FIFO",
		"sns:" + topic + "?name=x":      "has an unknown parameter (use blobs)",
		"sns:" + topic + "?blobs=x":     "has invalid blobs",
		"sns:" + topic + "?blobs=s3://": "has invalid blobs",
	} {
		if _, err := sns.ByURL(text); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Public(err), want) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}
