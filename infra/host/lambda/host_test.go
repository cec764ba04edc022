package lambda_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/host/lambda"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// fake is an instance whose parts a test sets.
type fake struct {
	declared manifest.Declaration
	serve    http.HandlerFunc
	receive  func(ctx context.Context, batch []ce.Event) []broker.Result
	start    func() error
	ticks    int
	starts   int
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.serve(w, r) }
func (f *fake) Declaration() *manifest.Declaration               { return &f.declared }
func (f *fake) Stop(context.Context) error                       { return nil }

func (f *fake) Start(context.Context) error {
	f.starts++
	if f.start == nil {
		return nil
	}
	return f.start()
}

func (f *fake) Receive(ctx context.Context, batch []ce.Event) []broker.Result {
	return f.receive(ctx, batch)
}

func (f *fake) Tick(context.Context, time.Time) (bool, error) {
	f.ticks++
	return f.ticks < 3, nil
}

func host(f *fake, cfg lambda.Config) *lambda.Host {
	f.declared.Name = "inventory"
	f.declared.Subscription.Subscriber = "/functions/inventory"
	if f.declared.Subscription.Batch == 0 {
		f.declared.Subscription.Batch = 10
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	return lambda.New(f, cfg)
}

// invoke returns the answer to an invocation in JSON.
func invoke(t *testing.T, h *lambda.Host, payload any) (string, error) {
	t.Helper()
	data, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.Invoke(t.Context(), data)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), nil
}

// request returns the payload of a request to an HTTP API.
func request(method, path string) events.APIGatewayV2HTTPRequest {
	r := events.APIGatewayV2HTTPRequest{
		Version: "2.0", RawPath: path, Headers: map[string]string{"host": "api.example.com"},
		RequestContext: events.APIGatewayV2HTTPRequestContext{Stage: "$default"},
	}
	r.RequestContext.HTTP.Method, r.RequestContext.HTTP.SourceIP = method, "203.0.113.9"
	return r
}

func respond(t *testing.T, h *lambda.Host, payload any) (r events.APIGatewayV2HTTPResponse) {
	t.Helper()
	text, err := invoke(t, h, payload)
	if err == nil {
		err = json.Unmarshal([]byte(text), &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A request arrives as the client has sent it, and the response leaves as the handler has written it.
func TestRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	f := &fake{serve: func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Add("Vary", "Accept")
		w.Header().Add("Vary", "Origin")
		w.Header().Set("Content-Length", "3")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("<ö>"))
	}}
	in := request(http.MethodPost, "/api/things/a%2Fb%20c")
	in.RawQueryString = "x=1&x=2&y=%20"
	in.Cookies = []string{"s=1", "t=2"}
	in.Headers["accept"] = "text/html, application/json"
	in.Headers["authorization"] = "Bearer abc"
	in.Headers["x-forwarded-for"] = "203.0.113.9"
	in.Body, in.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte("\xff\x00")), true
	out := respond(t, host(f, lambda.Config{}), in)

	for what, pair := range map[string][2]string{
		"method": {got.Method, "POST"}, "path": {got.URL.Path, "/api/things/a/b c"},
		"escaped": {got.URL.EscapedPath(), "/api/things/a%2Fb%20c"}, "query": {got.URL.RawQuery, "x=1&x=2&y=%20"},
		"cookie": {got.Header.Get("Cookie"), "s=1; t=2"}, "accept": {got.Header.Get("Accept"), "text/html, application/json"},
		"token": {got.Header.Get("Authorization"), "Bearer abc"}, "host": {got.Host, "api.example.com"},
		"address": {got.RemoteAddr, "203.0.113.9:0"}, "body": {string(body), "\xff\x00"},
		"status": {fmt.Sprint(out.StatusCode), "201"}, "cookies": {fmt.Sprint(out.Cookies), "[a=1 b=2]"},
		"vary": {out.Headers["Vary"], "Accept, Origin"}, "length": {out.Headers["Content-Length"], ""},
		"type": {out.Headers["Content-Type"], "text/plain; charset=utf-8"}, "answer": {out.Body, "<ö>"},
		"length in": {fmt.Sprint(got.ContentLength), "2"}, "base64": {fmt.Sprint(out.IsBase64Encoded), "false"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %q, want %q", what, pair[0], pair[1])
		}
	}
}

// A path is also taken as it is where it is not percent-encoded.
func TestPlainPath(t *testing.T) {
	var path string
	h := host(&fake{serve: func(_ http.ResponseWriter, r *http.Request) { path = r.URL.Path }}, lambda.Config{})
	for raw, want := range map[string]string{"/a b": "/a b", "/100%": "/100%", "/%C3%B6": "/ö"} {
		if respond(t, h, request(http.MethodGet, raw)); path != want {
			t.Errorf("%s: got %s, want %s", raw, path, want)
		}
	}
}

// The stage of an HTTP API is not a part of the function's path.
func TestStage(t *testing.T) {
	var path string
	h := host(&fake{serve: func(_ http.ResponseWriter, r *http.Request) { path = r.URL.Path }}, lambda.Config{})
	for raw, want := range map[string]string{"/prod/api": "/api", "/prod": "/", "/production": "/production"} {
		in := request(http.MethodGet, raw)
		in.RequestContext.Stage = "prod"
		if respond(t, h, in); path != want {
			t.Errorf("%s: got %s, want %s", raw, path, want)
		}
	}
}

// A body that is not text, or coded, travels in base64.
func TestBinaryResponse(t *testing.T) {
	for coding, body := range map[string]string{"": "\xff\x00", "gzip": "text"} {
		out := respond(t, host(&fake{serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			_, _ = w.Write([]byte(body))
		}}, lambda.Config{}), request(http.MethodGet, "/"))
		if got, _ := base64.StdEncoding.DecodeString(out.Body); !out.IsBase64Encoded || string(got) != body {
			t.Errorf("%q: got %+v", body, out)
		}
	}
}

// A request that cannot be served is answered with a problem document, and the sandbox goes on.
func TestRefusals(t *testing.T) {
	broken := request(http.MethodPost, "/")
	broken.Body, broken.IsBase64Encoded = "%", true
	for name, c := range map[string]struct {
		in     events.APIGatewayV2HTTPRequest
		serve  http.HandlerFunc
		start  error
		status int
		says   string
	}{
		"no base64":  {in: broken, status: 422, says: "base64"},
		"no path":    {in: request(http.MethodGet, "x"), status: 422, says: "path"},
		"no method":  {in: request("GE T", "/"), status: 422},
		"not ready":  {in: request(http.MethodGet, "/"), start: errors.New("no database"), status: 503, says: "not ready"},
		"panic":      {in: request(http.MethodGet, "/"), serve: panics, status: 500},
		"over 6 MB":  {in: request(http.MethodGet, "/"), serve: write(6<<20 + 1), status: 500, says: "6291456 at most"},
		"under 6 MB": {in: request(http.MethodGet, "/"), serve: write(6<<20 - 200), status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{serve: c.serve, start: func() error { return c.start }}
			out := respond(t, host(f, lambda.Config{}), c.in)
			if out.StatusCode != c.status || !strings.Contains(out.Body, c.says) {
				t.Errorf("got %d %.200s", out.StatusCode, out.Body)
			}
		})
	}
}

func panics(http.ResponseWriter, *http.Request) { panic("x") }

func write(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", n)) }
}

// A streamed response leaves in parts, while the handler still writes.
func TestStream(t *testing.T) {
	read := make(chan struct{})
	f := &fake{serve: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "a=1")
		_, _ = io.WriteString(w, "one ")
		<-read
		_, _ = io.WriteString(w, "two")
		if r.Context().Err() != nil {
			_, _ = io.WriteString(w, " ended")
		}
	}}
	data, err := json.Marshal(request(http.MethodGet, "/"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	out, err := host(f, lambda.Config{Stream: true}).Invoke(ctx, data)
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	stream := out.(io.Reader)
	first := make([]byte, 1024)
	n, _ := stream.Read(first) // the prelude
	m, _ := stream.Read(first[n:])
	close(read)
	rest, err := io.ReadAll(stream)
	got := string(first[:n+m]) + string(rest)
	if want := `{"statusCode":200,"cookies":["a=1"]}` + strings.Repeat("\x00", 8) + "one two"; got != want || err != nil {
		t.Errorf("got  %q, %v\nwant %q", got, err, want)
	}
}

// A handler that panics before it has written anything is answered with 500, also where responses are streamed.
func TestStreamedPanic(t *testing.T) {
	data, err := json.Marshal(request(http.MethodGet, "/"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := host(&fake{serve: panics}, lambda.Config{Stream: true}).Invoke(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(out.(io.Reader))
	if !strings.HasPrefix(string(text), `{"statusCode":500,`) {
		t.Errorf("got %q, %v", text, err)
	}
}

// structured returns an event in the structured mode.
func structured(id, key string) string {
	e := ce.New()
	e.SetID(id)
	e.SetSource("/functions/orders")
	e.SetType("com.example.inventory.ship.v1")
	if key != "" {
		e.SetExtension(event.PartitionKey, key)
	}
	text, _ := event.ToJSON(e)
	return string(text)
}

// message returns a message of an SQS queue.
func message(queue, id, group, body string, receives int) events.SQSMessage {
	return events.SQSMessage{
		MessageId: id, Body: body, EventSource: "aws:sqs", EventSourceARN: "arn:aws:sqs:eu-central-1:1:" + queue,
		Attributes: map[string]string{"ApproximateReceiveCount": fmt.Sprint(receives), "MessageGroupId": group},
	}
}

// failing returns a Receive that answers as a function does: an event with one of the ids has the status, and later
// events of its key are skipped. It notes the ids that it was given.
func failing(seen *[]string, status map[string]int) func(context.Context, []ce.Event) []broker.Result {
	return func(_ context.Context, batch []ce.Event) []broker.Result {
		out, failed := make([]broker.Result, len(batch)), map[string]bool{}
		for i, e := range batch {
			key := event.Extension(e, event.PartitionKey)
			if key != "" && failed[key] {
				out[i].Skipped = true
				continue
			}
			*seen = append(*seen, e.ID())
			out[i] = broker.Result{Status: 200}
			if s := status[e.ID()]; s != 0 {
				out[i] = broker.Result{Status: s, Message: "because\x00"}
				failed[key] = true
			}
		}
		return out
	}
}

// failures returns the messages of a batch that the host reports as failed.
func failures(t *testing.T, h *lambda.Host, batch ...events.SQSMessage) []string {
	t.Helper()
	text, err := invoke(t, h, events.SQSEvent{Records: batch})
	var out events.SQSEventResponse
	if err == nil {
		err = json.Unmarshal([]byte(text), &out)
	}
	if err != nil || !strings.Contains(text, `"batchItemFailures":[`) {
		t.Fatalf("got %s, %v", text, err)
	}
	ids := []string{}
	for _, f := range out.BatchItemFailures {
		ids = append(ids, f.ItemIdentifier)
	}
	return ids
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// The failures of a FIFO batch are the first of a message group and everything after it in that group; other groups go
// on. That holds across units of work, and for a message that is no event.
func TestFIFO(t *testing.T) {
	var seen []string
	f := &fake{receive: failing(&seen, map[string]int{"2": 503})}
	f.declared.Subscription.Batch = 2
	f.declared.Subscription.Delivery.Retry = 10
	h := host(f, lambda.Config{})
	const q = "inventory.fifo"
	got := failures(t, h,
		message(q, "m1", "a", structured("1", "a"), 1), message(q, "m2", "a", structured("2", "a"), 1),
		message(q, "m3", "b", structured("3", "b"), 1), message(q, "m4", "a", structured("4", "a"), 1),
		message(q, "m5", "c", "no event", 1), message(q, "m6", "c", structured("6", "c"), 1),
		message(q, "m7", "a", structured("7", "another key"), 1), message(q, "m8", "b", structured("8", "b"), 1),
	)
	same(t, "failures", got, "m2", "m4", "m5", "m6", "m7")
	same(t, "tried", seen, "1", "2", "3", "8")
}

// A standard queue keeps the order of a partition key within a batch only.
func TestStandardQueue(t *testing.T) {
	var seen []string
	f := &fake{receive: failing(&seen, map[string]int{"1": 503})}
	h := host(f, lambda.Config{})
	got := failures(t, h,
		message("inventory", "m1", "", structured("1", "a"), 1), message("inventory", "m2", "", structured("2", ""), 1),
		message("inventory", "m3", "", structured("3", "a"), 1), message("inventory", "m4", "", "{}", 1),
		message("inventory", "m5", "", structured("5", ""), 1),
	)
	same(t, "failures", got, "m1", "m3", "m4")
	same(t, "tried", seen, "1", "2", "5")
}

// A message that fails holds up no message of another key, also where a unit of work has one event.
func TestFailureHoldsUpNoOther(t *testing.T) {
	for _, queue := range []string{"inventory", "inventory.fifo"} {
		var seen []string
		f := &fake{receive: failing(&seen, map[string]int{"1": 422, "4": 503})}
		f.declared.Subscription.Batch = 1
		h := host(f, lambda.Config{})
		got := failures(t, h,
			message(queue, "m1", "a", structured("1", "a"), 1), message(queue, "m2", "b", structured("2", "b"), 1),
			message(queue, "m3", "a", structured("3", "a"), 1), message(queue, "m4", "c", structured("4", "c"), 1),
			message(queue, "m5", "d", structured("5", "d"), 1),
		)
		same(t, queue+": failures", got, "m1", "m3", "m4")
		same(t, queue+": tried", seen, "1", "2", "4", "5")
	}
}

// An event that has failed for good goes to the dead-letter sink, with the extensions, and those behind it are handled
// in the same invocation. When the sink does not take it, it stays first of its group.
func TestDeadLetter(t *testing.T) {
	for _, sinkDown := range []bool{false, true} {
		var seen []string
		var dead []ce.Event
		f := &fake{receive: failing(&seen, map[string]int{"1": 422, "3": 503, "4": 503})}
		f.declared.Subscription.Delivery.Retry = 2
		h := host(f, lambda.Config{DeadLetter: func(_ context.Context, e ce.Event) error {
			if sinkDown {
				return errors.New("down")
			}
			dead = append(dead, e)
			return nil
		}})
		const q = "inventory.fifo"
		got := failures(t, h,
			message(q, "m1", "a", structured("1", "a"), 1), message(q, "m2", "a", structured("2", "a"), 1),
			message(q, "m3", "b", structured("3", "b"), 2), message(q, "m4", "c", structured("4", "c"), 3),
		)
		if sinkDown {
			same(t, "failures", got, "m1", "m2", "m3", "m4")
			continue
		}
		same(t, "failures", got, "m3")
		same(t, "tried", seen, "1", "3", "4", "2")
		if len(dead) != 2 || dead[1].ID() != "4" {
			t.Fatalf("got %d dead letters", len(dead))
		}
		for name, want := range map[string]string{
			broker.ErrorDest: "/functions/inventory", broker.ErrorCode: "422", broker.ErrorData: "because",
		} {
			if got := event.Extension(dead[0], name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	}
}

// gone is the error of an event whose data is not there any more.
type gone struct{ e ce.Event }

func (g gone) Error() string { return "gone" }

func (g gone) Refused() (ce.Event, broker.Result) {
	return g.e, broker.Result{Status: http.StatusGone, Message: "its data is gone"}
}

// An event whose data is gone is a dead letter that says so, and the function does not get it. Without a sink, and when
// the data cannot be read just now, it waits, and so do those behind it.
func TestDataGone(t *testing.T) {
	for name, c := range map[string]struct {
		sink           bool
		err            func(ce.Event) error
		failures, seen []string
	}{
		"gone":         {true, func(e ce.Event) error { return gone{e} }, nil, []string{"2", "3"}},
		"without sink": {false, func(e ce.Event) error { return gone{e} }, []string{"m1", "m2"}, []string{"3"}},
		"away": {true, func(ce.Event) error { return fault.New(fault.Unavailable, "away") }, []string{"m1", "m2"},
			[]string{"3"}},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			var dead []ce.Event
			cfg := lambda.Config{Decode: func(body []byte) (ce.Event, func(context.Context) (ce.Event, error), error) {
				e, err := event.FromJSON(body)
				return e, func(context.Context) (ce.Event, error) {
					if e.ID() == "1" {
						return e, c.err(e)
					}
					return e, nil
				}, err
			}}
			if c.sink {
				cfg.DeadLetter = func(_ context.Context, e ce.Event) error { dead = append(dead, e); return nil }
			}
			const q = "inventory.fifo"
			got := failures(t, host(&fake{receive: failing(&seen, nil)}, cfg),
				message(q, "m1", "a", structured("1", "a"), 1), message(q, "m2", "a", structured("2", "a"), 1),
				message(q, "m3", "b", structured("3", "b"), 1),
			)
			same(t, "failures", got, c.failures...)
			same(t, "seen", seen, c.seen...)
			if name == "gone" && (len(dead) != 1 || event.Extension(dead[0], broker.ErrorData) != "its data is gone" ||
				event.Extension(dead[0], broker.ErrorCode) != "410") {
				t.Errorf("got the dead letters %v", dead)
			}
		})
	}
}

// A message that no function gets fails those behind it in its group, and not those before it, which were handled.
func TestRefusedFailsNoneBefore(t *testing.T) {
	for name, err := range map[string]error{"no event": fault.New(fault.Invalid, "no event"), "gone": gone{ce.New()}} {
		var seen []string
		cfg := lambda.Config{Decode: func(body []byte) (ce.Event, func(context.Context) (ce.Event, error), error) {
			if string(body) == "bad" {
				return ce.Event{}, nil, err
			}
			e, err := event.FromJSON(body)
			return e, nil, err
		}}
		const q = "inventory.fifo"
		got := failures(t, host(&fake{receive: failing(&seen, nil)}, cfg),
			message(q, "m1", "a", structured("1", "a"), 1), message(q, "m2", "a", "bad", 1),
			message(q, "m3", "a", structured("3", "a"), 1), message(q, "m4", "b", structured("4", "b"), 1),
		)
		same(t, name+": failures", got, "m2", "m3")
		same(t, name+": seen", seen, "1", "4")
	}
}

// What a streamed response has recorded is exported before the response has ended: the sandbox is frozen then.
func TestStreamFlushes(t *testing.T) {
	var mu sync.Mutex
	var exported strings.Builder
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		exported.Write(body)
	}))
	defer collector.Close()
	watch, err := telemetry.Start(t.Context(), telemetry.Config{Service: "x", Log: io.Discard, Lookup: config.Map(
		map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
			"OTEL_METRIC_EXPORT_INTERVAL": "3600000",
		},
	)})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Shutdown(context.Background())
	f := &fake{serve: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "one")
		watch.DeadLettered("recorded-while-streaming")
	}}
	data, err := json.Marshal(request(http.MethodGet, "/"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := host(f, lambda.Config{Stream: true, Telemetry: watch}).Invoke(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(out.(io.Reader)); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(exported.String(), "recorded-while-streaming") {
		t.Error("it was not exported when the response had ended")
	}
}

// What SQS has handed out behind a failing message was no attempt of it.
func TestSkippedIsNoAttempt(t *testing.T) {
	var seen []string
	status := map[string]int{"1": 503, "2": 503}
	dead := 0
	f := &fake{receive: failing(&seen, status)}
	f.declared.Subscription.Delivery.Retry = 1
	h := host(f, lambda.Config{DeadLetter: func(context.Context, ce.Event) error { dead++; return nil }})
	const q = "inventory.fifo"
	second := func(receives int) events.SQSMessage { return message(q, "m2", "a", structured("2", "a"), receives) }
	same(t, "first", failures(t, h, message(q, "m1", "a", structured("1", "a"), 1), second(1)), "m1", "m2")
	delete(status, "1")
	same(t, "second", failures(t, h, message(q, "m1", "a", structured("1", "a"), 2), second(2)), "m2")
	if dead != 0 {
		t.Error("it is dead-lettered after its first attempt")
	}
	same(t, "third", failures(t, h, second(3)))
	if dead != 1 {
		t.Errorf("%d are dead-lettered after its second attempt", dead)
	}
}

// A function that cannot start leaves every message where it is, and starts when it can.
func TestNotReady(t *testing.T) {
	var seen []string
	down := true
	f := &fake{receive: failing(&seen, nil), start: func() error {
		if down {
			return fault.New(fault.Unavailable, "the database does not answer")
		}
		return nil
	}}
	h := host(f, lambda.Config{})
	m := message("inventory.fifo", "m1", "a", structured("1", "a"), 1)
	same(t, "down", failures(t, h, m), "m1")
	down = false
	same(t, "up", failures(t, h, m))
	same(t, "again", failures(t, h, m))
	if f.starts != 2 {
		t.Errorf("it was started %d times", f.starts)
	}
}

// A package whose declaration differs from the deployed one does nothing.
func TestMismatch(t *testing.T) {
	f := &fake{}
	h := host(f, lambda.Config{Manifest: "another"})
	err := h.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "differs from the manifest") || f.starts > 0 {
		t.Errorf("got %v", err)
	}
}

// The archive gets what a redrive policy has moved as a dead letter.
func TestRedriven(t *testing.T) {
	var got ce.Event
	f := &fake{receive: func(_ context.Context, batch []ce.Event) []broker.Result {
		got = batch[0]
		return []broker.Result{{Status: 200}}
	}}
	f.declared.DeadLetters = true
	m := message("dead-letters.fifo", "m1", "a", structured("1", "a"), 1)
	m.Attributes["DeadLetterQueueSourceArn"] = "arn:aws:sqs:eu-central-1:1:shop-inventory.fifo"
	same(t, "failures", failures(t, host(f, lambda.Config{}), m))
	if dest := event.Extension(got, broker.ErrorDest); dest != "shop-inventory" {
		t.Errorf("got %q", dest)
	}
}

// Events of SNS and EventBridge are handled; a failure makes the invocation fail, so that Lambda repeats it.
func TestInvocations(t *testing.T) {
	sns := func(ids ...string) events.SNSEvent {
		var e events.SNSEvent
		for _, id := range ids {
			e.Records = append(e.Records, events.SNSEventRecord{
				EventSource: "aws:sns", SNS: events.SNSEntity{Message: structured(id, "")},
			})
		}
		return e
	}
	bus := func(detail string) events.EventBridgeEvent {
		return events.EventBridgeEvent{Source: "ebb", DetailType: "x", Detail: json.RawMessage(detail)}
	}
	for name, c := range map[string]struct {
		payload any
		tried   []string
		fails   string
	}{
		"notifications":        {payload: sns("1", "2"), tried: []string{"1", "2"}},
		"a failing one":        {payload: sns("1", "bad"), tried: []string{"1", "bad"}, fails: "status 503"},
		"EventBridge":          {payload: bus(structured("1", "")), tried: []string{"1"}},
		"EventBridge, failing": {payload: bus(structured("bad", "")), tried: []string{"bad"}, fails: "status 503"},
		"no event":             {payload: bus(`{"a":1}`), fails: "no CloudEvent"},
		"SNS in SQS": {
			payload: events.SQSEvent{Records: []events.SQSMessage{message("q", "m", "", envelope(structured("1", "")), 1)}},
			tried:   []string{"1"},
		},
		"unknown": {payload: map[string]any{"x": 1}, fails: "unknown invocation"},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			h := host(&fake{receive: failing(&seen, map[string]int{"bad": 503})}, lambda.Config{})
			_, err := invoke(t, h, c.payload)
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("got %v", err)
			}
			same(t, "tried", seen, c.tried...)
		})
	}
}

func envelope(message string) string {
	text, _ := json.Marshal(map[string]string{"Type": "Notification", "Message": message})
	return string(text)
}

// The Scheduler's event and EventBridge's scheduled one tick until no work is left.
func TestTick(t *testing.T) {
	for _, payload := range []any{
		map[string]string{"ebb": "tick"}, events.EventBridgeEvent{DetailType: "Scheduled Event", Source: "aws.events"},
	} {
		f := &fake{}
		if _, err := invoke(t, host(f, lambda.Config{}), payload); err != nil || f.ticks != 3 {
			t.Errorf("%d ticks, %v", f.ticks, err)
		}
	}
}

// A handler's context ends before Lambda's deadline.
func TestMargin(t *testing.T) {
	var left time.Duration
	h := host(&fake{serve: func(_ http.ResponseWriter, r *http.Request) {
		end, _ := r.Context().Deadline()
		left = time.Until(end)
	}}, lambda.Config{Margin: 40 * time.Second})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	data, _ := json.Marshal(request(http.MethodGet, "/"))
	if _, err := h.Invoke(ctx, data); err != nil || left > 20*time.Second || left <= 0 {
		t.Errorf("%s are left, %v", left, err)
	}
}

// An event that the trigger's filters do not let through counts as handled and is not handed to the function. A dead
// letter of such an event is, where the function stores dead letters.
func TestFilters(t *testing.T) {
	var seen []string
	f := &fake{receive: failing(&seen, nil)}
	f.declared.DeadLetters = true
	f.declared.Subscription.Filters = []broker.Filter{
		{Exact: map[string]string{"type": "com.example.inventory.ship.v1", "source": "/functions/orders"}},
	}
	h := host(f, lambda.Config{})
	other := func(id string, extensions map[string]any) string {
		e := ce.New()
		e.SetID(id)
		e.SetSource("/functions/payments")
		e.SetType("com.example.inventory.ship.v1")
		for name, value := range extensions {
			e.SetExtension(name, value)
		}
		text, err := event.ToJSON(e)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const q = "inventory.fifo"
	got := failures(t, h,
		message(q, "m1", "a", structured("1", "a"), 1), message(q, "m2", "a", other("2", nil), 1),
		message(q, "m3", "b", other("3", map[string]any{broker.ErrorDest: "orders"}), 1),
	)
	same(t, "failures", got)
	same(t, "tried", seen, "1", "3")
}

// The data of a large event is read only for an event that the trigger's filters let through. When that of another one
// is gone, or cannot be read, nobody waits for it.
func TestDataAfterFilters(t *testing.T) {
	var seen, read []string
	f := &fake{receive: failing(&seen, nil)}
	f.declared.Subscription.Filters = []broker.Filter{{Exact: map[string]string{"subject": "mine"}}}
	cfg := lambda.Config{Decode: func(body []byte) (ce.Event, func(context.Context) (ce.Event, error), error) {
		e, err := event.FromJSON(body)
		e.SetSubject(string(e.ID()[1:]))
		return e, func(context.Context) (ce.Event, error) {
			read = append(read, e.ID())
			if e.Subject() == "mine" {
				return e, nil
			}
			return e, fault.New(fault.Unavailable, "away")
		}, err
	}}
	const q = "inventory.fifo"
	got := failures(t, host(f, cfg), message(q, "m1", "a", structured("1other", "a"), 1),
		message(q, "m2", "a", structured("2mine", "a"), 1))
	same(t, "failures", got)
	same(t, "seen", seen, "2mine")
	same(t, "read", read, "2mine")
}

// A function whose filters are not valid takes no event, and says why.
func TestInvalidFilters(t *testing.T) {
	f := &fake{}
	f.declared.Subscription.Filters = []broker.Filter{{CESQL: "type ="}}
	h := host(f, lambda.Config{})
	if err := h.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "filters[0]") {
		t.Errorf("got %v", err)
	}
}
