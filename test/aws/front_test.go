package aws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/store/dynamodb/dynamodbtest"
)

// front stands before the emulator. It adds what the emulator does not give back, so that Terraform sees what it has
// set, and it sees the calls of sandboxes to the runtime API.
type front struct {
	proxy *httputil.ReverseProxy

	mu       sync.Mutex
	queues   map[string]map[string]string // attributes of queues by name
	mappings map[string]json.RawMessage   // function_response_types of event source mappings by UUID
	counts   map[string]int               // calls of AWS by target
	backed   map[string]bool              // tables whose backups are enabled
	rules    map[string][]byte            // lifecycles by the path of the bucket

	// next is called when a sandbox of a function asks for its next invocation, and respond before its response is
	// handed on; it reports whether it is.
	next    func(function string)
	respond func(function string) bool
}

// unechoed are the attributes of queues that the emulator does not give back.
var unechoed = []string{
	"RedriveAllowPolicy", "SqsManagedSseEnabled", "DeduplicationScope", "FifoThroughputLimit", "KmsMasterKeyId",
}

var queueActions = []string{"CreateQueue", "SetQueueAttributes", "GetQueueAttributes"}

func newFront(emulator *url.URL) *front {
	f := &front{
		queues: map[string]map[string]string{}, mappings: map[string]json.RawMessage{}, counts: map[string]int{},
		backed: map[string]bool{}, rules: map[string][]byte{},
		next: func(string) {}, respond: func(string) bool { return true },
	}
	f.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(emulator)
			r.Out.Host = r.In.Host
		},
		Transport: newApart(), FlushInterval: -1, ModifyResponse: f.complete,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	return f
}

// apart carries requests for DynamoDB, and those for other services, by connections of their own. The emulator's
// command looks at the first request of a connection, and carries all of one for DynamoDB byte by byte: without the
// PublishBatch that it adds.
type apart struct{ dynamoDB, others *http.Transport }

func newApart() apart {
	own := http.DefaultTransport.(*http.Transport)
	return apart{own.Clone(), own.Clone()}
}

func (a apart) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB") {
		return a.dynamoDB.RoundTrip(r)
	}
	return a.others.RoundTrip(r)
}

// sent is the body of a request, which its response is completed by.
type sent struct{}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/_runtime/"); ok {
		f.runtime(w, r, rest)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	target := r.Header.Get("X-Amz-Target")
	if target == "" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, _ := url.ParseQuery(string(body))
		target = form.Get("Action")
	}
	f.count(target, 1)
	if action := "DynamoDB_20120810.TransactWriteItems"; target == action {
		var commit struct{ TransactItems []json.RawMessage }
		_ = json.Unmarshal(body, &commit) // the emulator refuses what is none
		f.count(action+" actions", len(commit.TransactItems))
	}
	if strings.HasSuffix(target, "ContinuousBackups") {
		f.backups(w, strings.HasSuffix(target, "UpdateContinuousBackups"), body)
		return
	}
	if r.URL.Query().Has("lifecycle") {
		f.lifecycle(w, r, body)
		return
	}
	f.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sent{}, body)))
}

// backups serves the two calls about the backups of tables, which the emulator lacks.
func (f *front) backups(w http.ResponseWriter, update bool, asked []byte) {
	var in struct {
		TableName                        string
		PointInTimeRecoverySpecification struct{ PointInTimeRecoveryEnabled bool }
	}
	if err := json.Unmarshal(asked, &in); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if update {
		f.backed[in.TableName] = in.PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled
	}
	state := map[string]any{"PointInTimeRecoveryStatus": "DISABLED"}
	if f.backed[in.TableName] {
		state = map[string]any{"PointInTimeRecoveryStatus": "ENABLED", "RecoveryPeriodInDays": 35}
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	_ = json.NewEncoder(w).Encode(map[string]any{"ContinuousBackupsDescription": map[string]any{
		"ContinuousBackupsStatus": "ENABLED", "PointInTimeRecoveryDescription": state,
	}})
}

// lifecycle serves the calls about the lifecycle of a bucket's objects, which the emulator lacks.
func (f *front) lifecycle(w http.ResponseWriter, r *http.Request, asked []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("X-Amz-Transition-Default-Minimum-Object-Size", "all_storage_classes_128K")
	switch rules := f.rules[r.URL.Path]; {
	case r.Method == http.MethodPut:
		f.rules[r.URL.Path] = asked
	case r.Method == http.MethodDelete:
		delete(f.rules, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	case rules == nil:
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<Error><Code>NoSuchLifecycleConfiguration</Code></Error>"))
	default:
		_, _ = w.Write(rules)
	}
}

func (f *front) count(target string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[target] += n
}

// counted returns the numbers of calls.
func (f *front) counted() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts)
}

// runtime serves the runtime API by the emulator's, and the extension API, which the emulator lacks.
func (f *front) runtime(w http.ResponseWriter, r *http.Request, rest string) {
	function, call, _ := strings.Cut(rest, "/")
	switch {
	case strings.HasSuffix(call, "/extension/register"):
		w.Header().Set("Lambda-Extension-Identifier", "1")
		return
	case strings.HasSuffix(call, "/extension/event/next"):
		<-r.Context().Done()
		return
	case strings.HasSuffix(call, "/invocation/next"):
		f.count("invocations", 1)
		f.next(function)
	case strings.HasSuffix(call, "/response") && !f.respond(function):
		return
	}
	f.proxy.ServeHTTP(w, r)
}

// complete adds to a response of the emulator what was set and is not in it.
func (f *front) complete(w *http.Response) error {
	asked, _ := w.Request.Context().Value(sent{}).([]byte)
	service, action, _ := strings.Cut(w.Request.Header.Get("X-Amz-Target"), ".")
	switch {
	case service == "AmazonSQS" && slices.Contains(queueActions, action):
		return f.queue(w, action, asked)
	case strings.Contains(w.Request.URL.Path, "/event-source-mappings"):
		return f.mapping(w, asked)
	}
	return nil
}

func (f *front) queue(w *http.Response, action string, asked []byte) error {
	var in struct {
		QueueName, QueueUrl string
		Attributes          map[string]string
	}
	if err := json.Unmarshal(asked, &in); err != nil {
		return err
	}
	name := in.QueueName + path.Base("/"+in.QueueUrl)
	if in.QueueName != "" {
		name = in.QueueName
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.queues[name] == nil {
		f.queues[name] = map[string]string{}
	}
	for _, attribute := range unechoed {
		if value, ok := in.Attributes[attribute]; ok {
			f.queues[name][attribute] = value
		}
	}
	if action != "GetQueueAttributes" || w.StatusCode != http.StatusOK {
		return nil
	}
	return change(w, func(out map[string]json.RawMessage) error {
		attributes := map[string]string{}
		if len(out["Attributes"]) > 0 {
			if err := json.Unmarshal(out["Attributes"], &attributes); err != nil {
				return err
			}
		}
		maps.Copy(attributes, f.queues[name])
		text, err := json.Marshal(attributes)
		out["Attributes"] = text
		return err
	})
}

func (f *front) mapping(w *http.Response, asked []byte) error {
	list := path.Base(w.Request.URL.Path) == "event-source-mappings" && w.Request.Method == http.MethodGet
	if w.StatusCode/100 != 2 || list {
		return nil
	}
	var in struct{ FunctionResponseTypes json.RawMessage }
	_ = json.Unmarshal(asked, &in) // a request to read has no body
	return change(w, func(out map[string]json.RawMessage) error {
		uuid := string(out["UUID"])
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(in.FunctionResponseTypes) > 0 {
			f.mappings[uuid] = in.FunctionResponseTypes
		}
		if types, ok := f.mappings[uuid]; ok {
			out["FunctionResponseTypes"] = types
		}
		return nil
	})
}

// change replaces members of the JSON object of a response.
func change(w *http.Response, by func(map[string]json.RawMessage) error) error {
	text, err := io.ReadAll(w.Body)
	if err != nil {
		return err
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(text, &out); err != nil {
		return err
	}
	if err := by(out); err != nil {
		return err
	}
	if text, err = json.Marshal(out); err != nil {
		return err
	}
	w.Body = io.NopCloser(bytes.NewReader(text))
	w.ContentLength = int64(len(text))
	w.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}

// A batch of events is published also when DynamoDB was asked before it.
func TestFront(t *testing.T) {
	dynamodbtest.Need(t)
	emulator, err := url.Parse(os.Getenv("AWS_ENDPOINT_URL"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newFront(emulator))
	defer server.Close()
	send := func(service, mediaType, target, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", mediaType)
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20261130/us-east-1/"+service+
			"/aws4_request, SignedHeaders=host, Signature=x")
		if target != "" {
			r.Header.Set("X-Amz-Target", target)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d %s, %v", service, response.StatusCode, text, err)
		}
	}
	const form = "application/x-www-form-urlencoded"
	listTables := func() { send("dynamodb", "application/x-amz-json-1.0", "DynamoDB_20120810.ListTables", "{}") }
	listTables() // the connection's first request
	send("sns", form, "", "Action=CreateTopic&Version=2010-03-31&Name=front.fifo"+
		"&Attributes.entry.1.key=FifoTopic&Attributes.entry.1.value=true")
	for range 5 {
		listTables()
		send("sns", form, "", "Action=PublishBatch&Version=2010-03-31&TopicArn=arn:aws:sns:us-east-1:000000000000:front.fifo"+
			"&PublishBatchRequestEntries.member.1.Id=0&PublishBatchRequestEntries.member.1.Message=x"+
			"&PublishBatchRequestEntries.member.1.MessageGroupId=g"+
			"&PublishBatchRequestEntries.member.1.MessageDeduplicationId=d")
	}
}
