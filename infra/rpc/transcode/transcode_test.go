package transcode_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/problem"
	"github.com/ebb-dev/ebb/infra/rpc/transcode"
)

// notes is the file of the service that the tests call.
const notes = `
file {
  name: "notes.proto" package: "test.v1" syntax: "proto3"
  dependency: "google/api/annotations.proto" dependency: "google/protobuf/timestamp.proto"
  message_type {
    name: "Note"
    field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "id" }
    field { name: "byte_size" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL json_name: "byteSize" }
    field { name: "lines" number: 3 type: TYPE_MESSAGE type_name: ".test.v1.Line" label: LABEL_REPEATED
      json_name: "lines" }
    field { name: "written_at" number: 4 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp"
      label: LABEL_OPTIONAL json_name: "writtenAt" }
    field { name: "data" number: 5 type: TYPE_BYTES label: LABEL_OPTIONAL json_name: "data" }
    field { name: "ratio" number: 6 type: TYPE_DOUBLE label: LABEL_OPTIONAL json_name: "ratio" }
    field { name: "kind" number: 7 type: TYPE_ENUM type_name: ".test.v1.Kind" label: LABEL_OPTIONAL json_name: "kind" }
    field { name: "counts" number: 8 type: TYPE_MESSAGE type_name: ".test.v1.Note.CountsEntry" label: LABEL_REPEATED
      json_name: "counts" }
    field { name: "numbers" number: 9 type: TYPE_INT32 label: LABEL_REPEATED json_name: "numbers" }
    nested_type {
      name: "CountsEntry" options { map_entry: true }
      field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "key" }
      field { name: "value" number: 2 type: TYPE_UINT64 label: LABEL_OPTIONAL json_name: "value" }
    }
  }
  message_type {
    name: "Line" field { name: "text" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "text" }
  }
  message_type {
    name: "GetNoteRequest"
    field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "id" }
    field { name: "limit" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL json_name: "limit" }
  }
  enum_type { name: "Kind" value { name: "KIND_UNSPECIFIED" number: 0 } value { name: "KIND_SHORT" number: 1 } }
  service {
    name: "NoteService"
    method {
      name: "GetNote" input_type: ".test.v1.GetNoteRequest" output_type: ".test.v1.Note"
      options { [google.api.http] { get: "/api/notes/{id}" } }
    }
    method {
      name: "AddNote" input_type: ".test.v1.Note" output_type: ".test.v1.Note"
      options { [google.api.http] { post: "/api/notes" body: "*" } }
    }
  }
}`

const getNote, addNote = "/test.v1.NoteService/GetNote", "/test.v1.NoteService/AddNote"

// service returns the service with changes to the text of its file: pairs of what is replaced and its replacement.
func service(t testing.TB, change ...string) manifest.Service {
	t.Helper()
	var set descriptorpb.FileDescriptorSet
	text := strings.NewReplacer(change...).Replace(notes)
	if err := prototext.Unmarshal([]byte(text), &set); err != nil {
		t.Fatal(err)
	}
	schema, err := proto.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Service{Name: "test.v1.NoteService", Schema: schema}
}

func handler(t testing.TB, operations http.HandlerFunc) *transcode.Handler {
	t.Helper()
	h, err := transcode.New([]manifest.Service{service(t)}, operations)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// call posts a message by Connect, in JSON.
func call(h http.Handler, path, message string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(message))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// An operation gets a request as a client of its own would send it, and the caller the header of the response.
func TestRequest(t *testing.T) {
	var got *http.Request
	var body string
	h := handler(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		got, body = r, string(data)
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("X-Frame-Options", "DENY")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"n","byte_size":9007199254740993}`)
	})
	const message = `{"id":"n","byteSize":"9007199254740993","lines":[{"text":"a\"<"},{}],
		"writtenAt":"2026-11-30T00:00:00Z","data":"AQI=","ratio":0.5,"kind":"KIND_SHORT","counts":{"a":"1"},"numbers":[1,2]}`
	w := call(h, addNote, message, "Authorization", "Bearer t", "Idempotency-Key", "k", "If-None-Match", `"1"`,
		"Accept-Encoding", "gzip", "Connect-Timeout-Ms", "60000")
	const want = `{"id":"n","byte_size":9007199254740993,"lines":[{"text":"a\"\u003c"},{}],` +
		`"written_at":"2026-11-30T00:00:00Z","data":"AQI=","ratio":0.5,"kind":"KIND_SHORT","counts":{"a":1},` +
		`"numbers":[1,2]}`
	if body != want || got.ContentLength != int64(len(want)) {
		t.Errorf("got the body %s, want %s", body, want)
	}
	if got.Method != http.MethodPost || got.URL.Path != "/api/notes" || got.RequestURI != "/api/notes" {
		t.Errorf("got %s %s", got.Method, got.RequestURI)
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer t", "Idempotency-Key": "k", "Content-Type": "application/json", "If-None-Match": "",
		"Accept-Encoding": "", "Connect-Timeout-Ms": "", "Connect-Protocol-Version": "", "X-Server-Timeout": "",
	} {
		if got := got.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if w.Code != http.StatusOK || w.Body.String() != `{"id":"n","byte_size":9007199254740993}` ||
		w.Header().Get("Etag") != `"1"` || w.Header().Get("X-Frame-Options") != "" {
		t.Errorf("got %d %s %v", w.Code, w.Body, w.Header())
	}

	call(h, getNote, `{"id":"a/../ü?b","limit":5}`)
	if got.Method != http.MethodGet || got.RequestURI != "/api/notes/a%2F..%2F%C3%BC%3Fb?limit=5" ||
		got.URL.Path != "/api/notes/a/../ü?b" || got.Body != http.NoBody || got.Header.Get("Content-Type") != "" {
		t.Errorf("got %s %q %q %v", got.Method, got.RequestURI, got.URL.Path, got.Header)
	}
}

// Each kind of failure has one code, whether a function tells it or its status does. The problem document is a detail.
func TestFailures(t *testing.T) {
	for kind, want := range map[fault.Kind]connect.Code{
		fault.Internal: connect.CodeInternal, fault.Invalid: connect.CodeInvalidArgument,
		fault.Unauthenticated: connect.CodeUnauthenticated, fault.Denied: connect.CodePermissionDenied,
		fault.NotFound: connect.CodeNotFound, fault.NotYet: connect.CodeNotFound, fault.Conflict: connect.CodeAborted,
		fault.Exhausted: connect.CodeResourceExhausted, fault.Unavailable: connect.CodeUnavailable,
		fault.Timeout: connect.CodeDeadlineExceeded, fault.TooLarge: connect.CodeResourceExhausted,
	} {
		h := handler(t, func(w http.ResponseWriter, r *http.Request) {
			problem.Write(w, r, fault.New(kind, "so it is").With(fault.Detail{Message: "m"}).After(1500*time.Millisecond))
		})
		w := call(h, getNote, `{"id":"n"}`)
		var got struct {
			Code    connect.Code
			Details []struct {
				Type  string
				Debug json.RawMessage
				Value string
			}
		}
		err := json.Unmarshal(w.Body.Bytes(), &got)
		if err != nil || got.Code != want || transcode.CodeOf(kind.HTTPStatus()) != want || len(got.Details) != 2 ||
			got.Details[0].Type != "google.protobuf.Struct" || got.Details[1].Type != "google.rpc.RetryInfo" {
			t.Errorf("%v: got %s, %v; want the code %v", kind, w.Body, err, want)
		}
	}
}

// A response without a body is an empty message, and one that is no problem document has a code all the same.
func TestOtherResponses(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   string
		code   int
	}{
		{204, "", "{}", 200},
		{200, "", "{}", 200},
		{304, "", `{"code":"unknown","message":"Not Modified"}`, 500},
		{502, "<html>", `{"code":"unavailable","message":"Bad Gateway"}`, 503},
		{418, "[]", `{"code":"invalid_argument","message":"I'm a teapot"}`, 400},
	} {
		h := handler(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		if w := call(h, getNote, `{}`); w.Body.String() != c.want || w.Code != c.code {
			t.Errorf("%d %q: got %d %s, want %d %s", c.status, c.body, w.Code, w.Body, c.code, c.want)
		}
	}
	h := handler(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"id":"`+strings.Repeat("a", 5<<20)+`"}`)
	})
	if w := call(h, getNote, `{}`); !strings.Contains(w.Body.String(), `"resource_exhausted"`) {
		t.Errorf("a large response: got %d %.100s", w.Code, w.Body)
	}
	pieces := handler(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, strings.Repeat("a", 3<<20)) // a handler may ignore the error
		}
	})
	if w := call(pieces, getNote, `{}`); !strings.Contains(w.Body.String(), "the response is over 4194304 bytes") {
		t.Errorf("a large response in pieces: got %d %.100s", w.Code, w.Body)
	}
}

// A message with a number that JSON does not have reaches no operation, and its call fails.
func TestNoNumber(t *testing.T) {
	h := handler(t, func(http.ResponseWriter, *http.Request) { t.Error("it reaches the operation") })
	for _, ratio := range []string{"NaN", "Infinity", "-Infinity"} {
		w := call(h, addNote, `{"ratio":"`+ratio+`"}`)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"invalid_argument"`) {
			t.Errorf("%s: got %d %q", ratio, w.Code, w.Body)
		}
	}
}

// When the time of a call is over, its request is cancelled without a deadline: the time of a client says nothing about
// the function. An operation that has succeeded all the same is told.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		late := handler(t, func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			cause = r.Context().Err()
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		began := time.Now()
		w := call(late, getNote, `{}`, "Connect-Timeout-Ms", "1500")
		if took := time.Since(began); took != 1500*time.Millisecond || cause != context.Canceled ||
			!strings.Contains(w.Body.String(), `"code":"deadline_exceeded"`) {
			t.Errorf("got %s after %v, %v", w.Body, took, cause)
		}
		done := handler(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		if w := call(done, getNote, `{}`, "Connect-Timeout-Ms", "1500"); w.Code != http.StatusOK {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		// A header field of that name is not the time of a call.
		quick := handler(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			w.WriteHeader(http.StatusConflict)
		})
		if w := call(quick, getNote, `{}`, "X-Server-Timeout", "0.1"); !strings.Contains(w.Body.String(), "aborted") {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}

// grpc posts a message by gRPC-Web, with the length that its prefix promises.
func grpc(h http.Handler, path string, message []byte, length uint32, encoding string) *httptest.ResponseRecorder {
	prefix := binary.BigEndian.AppendUint32([]byte{0}, length)
	r := httptest.NewRequest(http.MethodPost, path, io.MultiReader(bytes.NewReader(prefix), bytes.NewReader(message)))
	r.Header.Set("Content-Type", "application/grpc-web+proto")
	if encoding != "" {
		prefix[0] = 1
		r.Header.Set("Grpc-Encoding", encoding)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A small request makes no large use of memory, and does not reach the operation.
func TestAttacks(t *testing.T) {
	reached := false
	h := handler(t, func(http.ResponseWriter, *http.Request) { reached = true })
	grpc(h, getNote, nil, 0, "") // the first call makes tables
	if !reached {
		t.Fatal("no call reaches the operation")
	}
	reached = false

	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.CopyN(z, zeros{}, 256<<20)
	_ = z.Close()
	var lines, packed []byte
	for range 500_000 {
		lines = append(lines, 3<<3|byte(protowire.BytesType), 0)
	}
	packed = protowire.AppendBytes(protowire.AppendTag(nil, 9, protowire.BytesType), make([]byte, 1<<20))

	for name, call := range map[string]func() *httptest.ResponseRecorder{
		"gzip bomb": func() *httptest.ResponseRecorder {
			return grpc(h, addNote, zipped.Bytes(), uint32(zipped.Len()), "gzip")
		},
		"empty lines":    func() *httptest.ResponseRecorder { return grpc(h, addNote, lines, uint32(len(lines)), "") },
		"packed numbers": func() *httptest.ResponseRecorder { return grpc(h, addNote, packed, uint32(len(packed)), "") },
		"promise":        func() *httptest.ResponseRecorder { return grpc(h, addNote, nil, 4<<20, "") },
		"large promise":  func() *httptest.ResponseRecorder { return grpc(h, addNote, nil, 1<<31, "") },
		"cut off":        func() *httptest.ResponseRecorder { return grpc(h, addNote, []byte{10, 200}, 2, "") },
		"empty lines in JSON": func() *httptest.ResponseRecorder {
			return call(h, addNote, `{"lines":[`+strings.Repeat("{},", 300_000)+`{}]}`)
		},
		"deep JSON": func() *httptest.ResponseRecorder {
			return call(h, addNote, `{"lines":`+strings.Repeat("[", 500_000)+strings.Repeat("]", 500_000)+`}`)
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w := call()
		runtime.ReadMemStats(&after)
		end := w.Header().Get("Grpc-Status")
		failed := w.Code != http.StatusOK || end != "" && end != "0"
		// A buffer that grows to the 4 MiB of a message takes a multiple of it in all; the race detector's pools keep none.
		if used := after.TotalAlloc - before.TotalAlloc; !failed || reached || used > 64<<20 {
			t.Errorf("%s: got %d %.200q with %d bytes, reached %t", name, w.Code, w.Body, used, reached)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Check finds what would fail at the first call only.
func TestCheck(t *testing.T) {
	routes := []manifest.Route{{Method: "GET", Path: "/api/notes/{id}"}, {Method: "POST", Path: "/api/notes"}}
	for _, c := range []struct {
		change []string
		want   string
	}{
		{nil, ""},
		{[]string{`post: "/api/notes"`, `post: "/api/notizen"`}, "no operation POST /api/notizen"},
		{[]string{`post: "/api/notes"`, `put: "/api/notes"`}, "no operation PUT /api/notes"},
		{[]string{`options { [google.api.http] { post: "/api/notes" body: "*" } }`, ""}, "want a google.api.http option"},
		{[]string{`get: "/api/notes/{id}"`, `get: "/api/notes/{id}" body: "*"`}, "want a message field as the body"},
		{[]string{`post: "/api/notes" body: "*"`, `post: "/api/notes" body: "id"`}, `want a message as the field "id"`},
		{[]string{`post: "/api/notes" body: "*"`, `post: "/api/notes" body: "none"`}, `want a message as the field "none"`},
		{[]string{`post: "/api/notes" body: "*"`, `post: "/api/notes"`}, `want [json_name = "byte_size"]`},
		{[]string{`name: "AddNote"`, `name: "AddNote" server_streaming: true`}, "do not stream"},
		{[]string{`name: "NoteService"`, `name: "OtherService"`}, "the service is not in it"},
		{[]string{`dependency: "google/api/annotations.proto"`, `dependency: "none.proto"`}, "invalid schema"},
	} {
		err := transcode.Check(manifest.Function{
			Name: "notes", Routes: routes, Services: []manifest.Service{service(t, c.change...)},
		})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: got %v, want %q", c.change, err, c.want)
		}
	}
	if _, err := transcode.New([]manifest.Service{{Name: "test.v1.NoteService", Schema: []byte("no")}}, nil); err == nil {
		t.Error("a schema that is none is taken")
	}
}
