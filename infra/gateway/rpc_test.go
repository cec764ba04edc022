package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
	"github.com/ebb-dev/ebb/infra/rpc"
)

// userFile is the file of a service whose calls are operations of users.
const userFile = `
file {
  name: "users.proto" package: "test.v1" syntax: "proto3" dependency: "google/api/annotations.proto"
  message_type { name: "User" field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "id" } }
  service {
    name: "UserService"
    method {
      name: "GetUser" input_type: ".test.v1.User" output_type: ".test.v1.User"
      options { [google.api.http] { get: "/api/users/{id}" } }
    }
    method {
      name: "AddUser" input_type: ".test.v1.User" output_type: ".test.v1.User"
      options { [google.api.http] { post: "/api/users" body: "*" } }
    }
  }
}`

const getUser, addUser = "/test.v1.UserService/GetUser", "/test.v1.UserService/AddUser"

// withService returns the change of a fixture after which users has the service.
func withService(t *testing.T) func(*gateway.Config) {
	t.Helper()
	var set descriptorpb.FileDescriptorSet
	if err := prototext.Unmarshal([]byte(userFile), &set); err != nil {
		t.Fatal(err)
	}
	schema, err := proto.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	f := function.New("users", function.Env{})
	rpc.Serve(f, "test.v1.UserService", schema)
	return func(c *gateway.Config) {
		for _, d := range c.System.Functions {
			if d.Name == "users" {
				d.Services = f.Instance().Declaration().Services
			}
		}
	}
}

// send sends a call by Connect, and returns its status and body.
func (f *fixture) send(path, message string, header ...string) (int, string) {
	f.Helper()
	r := httptest.NewRequestWithContext(f.T.Context(), http.MethodPost, path, strings.NewReader(message))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.gateway.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// The policy of an operation holds for its calls: who may call, how large a body is, how often, for how long. Requests
// and calls are counted together.
func TestCallsHaveThePolicy(t *testing.T) {
	f := newFixture(t, withService(t))
	token := "Bearer " + f.token()
	f.handle("users", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"id":"u1"}`)
	})
	if code, body := f.send(getUser, `{"id":"u1"}`, "Authorization", token); code != 200 || body != `{"id":"u1"}` {
		t.Errorf("got %d %s", code, body)
	}
	if code, body := f.send(getUser, `{"id":"u1"}`); code != 401 || !strings.Contains(body, `"unauthenticated"`) {
		t.Errorf("no token: got %d %s", code, body)
	}
	large := `{"id":"` + strings.Repeat("a", 100) + `"}`
	if code, body := f.send(addUser, large); code != 429 || !strings.Contains(body, "over the limit of 100 bytes") {
		t.Errorf("a large body: got %d %s", code, body)
	}
	err := f.gateway.(*gateway.Gateway).Configure("p", []byte(`
operations:
  GET /api/users/{id}:
    rate: [{name: r, quota: 2, window: 1h, by: user}]
  POST /api/users:
    timeout: 1ms
`))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/users/u1", nil)
	r.Header.Set("Authorization", token)
	f.gateway.ServeHTTP(httptest.NewRecorder(), r)
	f.send(getUser, `{"id":"u1"}`, "Authorization", token)
	code, body := f.send(getUser, `{"id":"u1"}`, "Authorization", token)
	if code != 429 || !strings.Contains(body, `"resource_exhausted"`) || !strings.Contains(body, "RetryInfo") {
		t.Errorf("the third: got %d %s", code, body)
	}
	f.handle("users", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		if r.Context().Err() == context.DeadlineExceeded {
			w.WriteHeader(http.StatusGatewayTimeout)
		}
	})
	if code, body := f.send(addUser, `{}`); code != 504 || !strings.Contains(body, `"deadline_exceeded"`) {
		t.Errorf("a slow function: got %d %s", code, body)
	}
}

// A client that gives its calls no time does not open the breaker of the operation for others.
func TestImpatientClientsDoNotOpenTheBreaker(t *testing.T) {
	f := newFixture(t, withService(t))
	err := f.gateway.(*gateway.Gateway).Configure("p", []byte(`
operations:
  POST /api/users:
    breaker: {failures: 0.5, requests: 3}
`))
	if err != nil {
		t.Fatal(err)
	}
	f.handle("users", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	for range 10 {
		if code, body := f.send(addUser, `{}`, "Connect-Timeout-Ms", "1"); code != 504 {
			t.Fatalf("got %d %s", code, body)
		}
	}
	f.handle("users", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) })
	if code, body := f.send(addUser, `{}`); code != 200 {
		t.Errorf("got %d %s", code, body)
	}
}

// A change that invalidates stored answers is not cancelled when the time of its call is over: its function is told the
// time, and tells what became of the change. Such a call does not open the breaker either.
func TestDeadlineOfAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := function.Operation{Method: "GET", Path: "/api/a", Access: function.Public, Policy: policy.Policy{
			Cache: &policy.Cache{TTL: policy.Duration(time.Hour), InvalidatedBy: []string{"POST /api/users"}},
		}}
		value := "old"
		f := newFixture(t, withService(t), with("a", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, value)
		}, read))
		f.configure("operations: {POST /api/users: {breaker: {failures: 0.5, requests: 1}}}")
		get := func(want string) {
			t.Helper()
			if w := f.call("GET", "/api/a", "", nil); w.Body.String()+" "+w.Header().Get("Cache-Status") != want {
				t.Errorf("got %s %v, want %s", w.Body, w.Header(), want)
			}
		}
		get("old ebb; fwd=miss; stored")
		status := 201
		f.handle("users", func(w http.ResponseWriter, r *http.Request) {
			if told := r.Header.Get("Ebb-Timeout"); told != "1500" {
				t.Errorf("the function is told %q", told)
			}
			time.Sleep(1600 * time.Millisecond)
			if err := r.Context().Err(); err != nil {
				t.Error(err)
			}
			value = "new"
			w.WriteHeader(status)
		})
		f.send(addUser, `{}`, "Connect-Timeout-Ms", "1500")
		get("new ebb; fwd=miss; stored")
		get("new ebb; hit")
		status = 504
		f.send(addUser, `{}`, "Connect-Timeout-Ms", "1500")
		if code, body := f.send(addUser, `{}`, "Connect-Timeout-Ms", "1500"); code != 504 {
			t.Errorf("got %d %s", code, body)
		}
		get("new ebb; fwd=miss; stored")
		get("new ebb; fwd=miss; stored")
	})
}

// What is not a call of a declared service is a request as before.
func TestNotACall(t *testing.T) {
	f := newFixture(t, withService(t))
	for _, path := range []string{"/test.v1.Other/GetUser", getUser + "/", "/test.v1.UserService", "/x" + getUser} {
		if code, body := f.send(path, `{}`); code != 404 || !strings.Contains(body, `"title"`) {
			t.Errorf("%s: got %d %s", path, code, body)
		}
	}
	if code, body := f.send("/test.v1.UserService/Sell", `{}`); code != 501 || !strings.Contains(body, "unimplemented") {
		t.Errorf("an unknown method: got %d %s", code, body)
	}
}

// A function in another process gets a plain HTTP/1.1 request with its length, and no sign of the call.
func TestCallOfAnotherProcess(t *testing.T) {
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"u1"}`)
	}))
	defer server.Close()
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, withService(t), func(c *gateway.Config) {
		other := []discovery.Instance{{ID: "1", Address: address}}
		c.Discovery = static.Discovery{"users": other, "orders": other, "views": other}
	})
	code, body := f.send(addUser, `{"id":"u1"}`, "Connect-Timeout-Ms", "60000", "Idempotency-Key", "k")
	if code != 200 || body != `{"id":"u1"}` {
		t.Fatalf("got %d %s", code, body)
	}
	if got.ProtoMajor != 1 || got.ContentLength != 11 || got.RequestURI != "/api/users" ||
		got.Header.Get("Idempotency-Key") != "k" || got.Header.Get("Connect-Timeout-Ms") != "" ||
		got.Header.Get("X-Server-Timeout") != "" {
		t.Errorf("got %s %s with %d bytes, %v", got.Proto, got.RequestURI, got.ContentLength, got.Header)
	}
}

// A call that becomes no request for an operation has a line in the log as other requests have, and one only.
func TestAccessLogOfCalls(t *testing.T) {
	var out bytes.Buffer
	f := newFixture(t, withService(t), func(cfg *gateway.Config) {
		cfg.AccessLog, cfg.Logger = 1, slog.New(slog.NewJSONHandler(&out, nil))
	})
	for _, c := range []struct {
		path, message string
		route         string
		status        float64
	}{
		{"/grpc.health.v1.Health/Check", "{}", "/grpc.health.v1.Health/", 200},
		{"/grpc.health.v1.Health/Check", `{"service": "none"}`, "/grpc.health.v1.Health/", 404},
		{"/test.v1.UserService/Nothing", "{}", "/test.v1.UserService/", 501},
		{addUser, "[", "/test.v1.UserService/", 400},
		{addUser, "{}", "/api/users", 200},
	} {
		out.Reset()
		r := httptest.NewRequest(http.MethodPost, c.path, strings.NewReader(c.message))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		f.gateway.ServeHTTP(w, r)
		var got map[string]any
		if err := json.Unmarshal(out.Bytes(), &got); err != nil { // it is one line
			t.Errorf("%s %s: %v in %q", c.path, c.message, err, out.String())
			continue
		}
		if got["http.route"] != c.route || got["http.response.status_code"] != c.status || got["duration"] == nil ||
			got["client.address"] != "192.0.2.1" || len(w.Header()["X-Request-Id"]) != 1 ||
			got["request_id"] != w.Header().Get("X-Request-Id") || got["http.request.method"] != "POST" {
			t.Errorf("%s %s: got %v", c.path, c.message, got)
		}
	}
}
