package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/gateway/greetertest"
	"github.com/ebb-dev/ebb/infra/proxy"
)

// greeter is a gRPC server.
type greeter struct{ *greetertest.Server }

func newGreeter(t *testing.T) *greeter {
	t.Helper()
	s, err := greetertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &greeter{s}
}

func (g *greeter) calls() int {
	_, n := g.Seen()
	return n
}

func (g *greeter) metadata(name string) []string {
	seen, _ := g.Seen()
	return seen[name]
}

// policies returns a policy file with the service, in a folder with its schema.
func (g *greeter) policies(t *testing.T, service, more string) (file string, document []byte) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "greet.binpb"), g.Schema, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, fmt.Appendf(nil, `
upstreams: {greeter: ["http://%s"]}
services: {greet.v1.GreetService: {upstream: greeter, schema: greet.binpb%s}}
%s`, g.Address, service, more)
}

// greeting returns a gateway of the server.
func (g *greeter) greeting(t *testing.T, service, more string) *fixture {
	t.Helper()
	f := newFixture(t)
	if err := f.gateway.(*gateway.Gateway).Configure(g.policies(t, service, more)); err != nil {
		t.Fatal(err)
	}
	return f
}

// compact returns JSON without the spaces that Protobuf puts there by chance.
func compact(t *testing.T, text []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	out, _ := json.Marshal(v)
	return string(out)
}

// A plain JSON request becomes a call of a gRPC server, and its answer or failure that of the request.
func TestJSONToGRPC(t *testing.T) {
	g := newGreeter(t)
	f := g.greeting(t, ", access: public", "operations: {'GET /v1/hello/{name}': {timeout: 100ms}}")
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/hello/ada?times=3", "", 200, `{"saidTimes":"3","text":"hello ada"}`},
		{"GET", "/v1/hello/a%2Fb%20c", "", 200, `{"saidTimes":"0","text":"hello a/b c"}`},
		{"HEAD", "/v1/hello/ada", "", 200, ""},
		{"POST", "/v1/hello", `{"name":"ada","times":"9007199254740993"}`, 200,
			`{"saidTimes":"9007199254740993","text":"hello ada"}`},
		{"GET", "/v1/hello/nobody", "", 404, "there is no such person: ä"},
		{"GET", "/v1/hello/busy", "", 429, "too many"},
		{"GET", "/v1/hello/broken", "", 500, ""},
		{"GET", "/v1/hello/slow", "", 504, ""},
		{"POST", "/v1/hello", `{"name":1}`, 400, "cannot be decoded"},
		{"POST", "/v1/hello", "{", 400, ""},
		{"POST", "/v1/hello", strings.Repeat("[", 10_000), 400, ""},
		{"GET", "/v1/hello/ada?times=x", "", 400, ""},
		{"GET", "/v1/hello/ada?unknown=x", "", 200, `{"saidTimes":"0","text":"hello ada"}`},
		{"GET", "/v1/hello/100%25:%2541", "", 200, `{"saidTimes":"0","text":"hello 100%:%41"}`},
		{"DELETE", "/v1/hello", "", 405, ""},
	} {
		w := f.call(c.method, c.path, "", strings.NewReader(c.body), "Accept-Encoding", "gzip", "Content-Type",
			"application/json; charset=UTF-8", "X-Request-Id", "id-1")
		switch got := w.Body.String(); {
		case c.status >= 400:
			f.problem(w, c.status)
			if !strings.Contains(got, c.want) || strings.Contains(got, "secret") {
				t.Errorf("%s %s: got %s, want %s", c.method, c.path, got, c.want)
			}
		case w.Code != c.status || w.Header().Get("Content-Type") != "application/json":
			t.Errorf("%s %s: got %d %v %s", c.method, c.path, w.Code, w.Header(), got)
		case c.method != "HEAD" && compact(t, w.Body.Bytes()) != c.want:
			t.Errorf("%s %s: got %s, want %s", c.method, c.path, got, c.want)
		}
	}
	if w := f.call("GET", "/v1/hello/busy", "", nil); w.Header().Get("Retry-After") != "2" {
		t.Errorf("got %v", w.Header())
	}
	f.call("GET", "/v1/hello/ada", "", nil, "X-Request-Id", "id-1")
	if got := fmt.Sprint(g.metadata("x-request-id")); got != "[id-1]" {
		t.Errorf("the server saw %s", got)
	}
}

// The policies of the file hold for the operations of a service: who may call, limits, stored answers.
func TestPoliciesOfGRPC(t *testing.T) {
	g := newGreeter(t)
	f := g.greeting(t, "", "")
	f.problem(f.call("GET", "/v1/hello/ada", "", nil), 401)
	if w := f.call("GET", "/v1/hello/ada", f.token(), nil); w.Code != 200 || len(g.metadata("authorization")) != 1 {
		t.Errorf("got %d, or the server saw no token", w.Code)
	}
	f = g.greeting(t, ", access: roles, roles: [admin]", "")
	f.problem(f.call("GET", "/v1/hello/ada", f.token(), nil), 403)
	f = g.greeting(t, ", access: public", `
operations:
  GET /v1/hello/{name}: {cache: {ttl: 1h, invalidated_by: [POST /v1/hello]}, compress: true}
  POST /v1/hello: {rate: [{name: a, quota: 1, window: 1h}], max_body: 100}`)
	before := g.calls()
	for range 3 {
		f.call("GET", "/v1/hello/ada", "", nil)
	}
	if g.calls() != before+1 {
		t.Errorf("%d calls, want one", g.calls()-before)
	}
	f.problem(f.call("POST", "/v1/hello", "", strings.NewReader(strings.Repeat(" ", 101))), 413)
	f.call("GET", "/v1/hello/ada", "", nil)
	f.problem(f.call("POST", "/v1/hello", "", strings.NewReader("{}")), 429)
	f.call("GET", "/v1/hello/ada", "", nil)
	if g.calls() != before+1 {
		t.Errorf("%d calls after refusals, want one", g.calls()-before)
	}
}

// The description of the system has the operations of services, as long as the policies name them.
func TestServicesInOpenAPI(t *testing.T) {
	g := newGreeter(t)
	f := g.greeting(t, "", "operations: {'GET /v1/hello/{name}': {rate: [{name: a, quota: 1, window: 1h}]}}")
	type described struct {
		OperationID string `json:"operationId"`
		Tags        []string
		Security    []map[string][]string
		Parameters  []struct {
			Name, In string
			Required bool
			Schema   map[string]any
		}
		RequestBody struct {
			Content map[string]struct{ Schema map[string]any }
		}
		Responses map[string]struct {
			Content map[string]struct{ Schema map[string]any }
		}
	}
	var doc struct {
		Paths      map[string]map[string]described
		Components struct {
			Schemas map[string]struct{ Properties map[string]map[string]any }
		}
		Tags []struct{ Name string }
	}
	read := func() string {
		doc.Paths = nil
		w := f.call("GET", "/openapi.json", "", nil)
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 200 {
			t.Fatalf("got %d %v", w.Code, err)
		}
		return w.Header().Get("ETag")
	}
	with := read()
	get, post := doc.Paths["/v1/hello/{name}"]["get"], doc.Paths["/v1/hello"]["post"]
	if got := fmt.Sprint(get.OperationID, get.Parameters, get.Security); got != "greet.v1.GreetService.SayHello"+
		"[{name path true map[type:string]} {times query false map[format:int64 type:string]}] [map[bearer:[]]]" {
		t.Errorf("got %s", got)
	}
	const hello = "#/components/schemas/greet.v1.Hello"
	if post.OperationID != "greet.v1.GreetService.SayHello-2" || len(post.Parameters) != 0 ||
		post.RequestBody.Content["application/json"].Schema["$ref"] != hello+"Request" ||
		post.Responses["200"].Content["application/json"].Schema["$ref"] != hello {
		t.Errorf("got %+v", post)
	}
	for _, status := range []string{"400", "401", "403", "429", "503", "504", "default"} {
		if _, ok := get.Responses[status]; !ok {
			t.Errorf("%s is not described", status)
		}
	}
	if got := fmt.Sprint(doc.Components.Schemas["greet.v1.Hello"].Properties); got !=
		"map[saidTimes:map[format:int64 type:string] text:map[type:string]]" {
		t.Errorf("got %s", got)
	}
	if doc.Paths[greetertest.SayHello] != nil || !strings.Contains(fmt.Sprint(doc.Tags), "{greet.v1.GreetService}") {
		t.Errorf("got %v with the tags %v", doc.Paths, doc.Tags)
	}
	if err := f.gateway.(*gateway.Gateway).Configure(g.policies(t, ", access: public", "")); err != nil {
		t.Fatal(err)
	}
	if read(); len(doc.Paths["/v1/hello"]["post"].Security) != 0 {
		t.Error("a public operation needs credentials")
	}
	f.configure("{}")
	if without := read(); doc.Paths["/v1/hello"] != nil || with == without || len(doc.Paths) == 0 {
		t.Errorf("got %v", doc.Paths)
	}
}

// A call by gRPC that has failed leaves a change in doubt, although its status is 200: nothing is stored. One that was
// refused does not.
func TestChangeByCallInDoubt(t *testing.T) {
	g := newGreeter(t)
	f := g.greeting(t, ", access: public", "operations: {'GET /v1/hello/{name}': {cache: {ttl: 1h, "+
		"invalidated_by: [POST /greet.v1.GreetService/SayHello]}}}")
	_, conn := served(t, f)
	for _, c := range []struct {
		name  string
		calls int // of three requests after it
	}{{"ada", 1}, {"nobody", 0}, {"busy", 0}, {"broken", 3}} {
		err := conn.Invoke(t.Context(), greetertest.SayHello, g.Request(c.name), g.Answer())
		before := g.calls()
		for range 3 {
			f.call("GET", "/v1/hello/ada", "", nil)
		}
		if got := g.calls() - before; got != c.calls {
			t.Errorf("%s (%v): %d calls, want %d", c.name, err, got, c.calls)
		}
	}
}

// Reflection and health know the services, as long as the policies name them.
func TestReflectionOfGRPCServer(t *testing.T) {
	g := newGreeter(t)
	f := newFixture(t, withService(t))
	const name = "greet.v1.GreetService"
	if err := f.gateway.(*gateway.Gateway).Configure(g.policies(t, "", "")); err != nil {
		t.Fatal(err)
	}
	_, conn := served(t, f)
	ask := func(r *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		t.Helper()
		stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.CloseSend()
		return answer
	}
	for _, known := range []bool{true, false} {
		listed := fmt.Sprint(ask(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
		}).GetListServicesResponse())
		files := ask(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name},
		}).GetFileDescriptorResponse().GetFileDescriptorProto()
		_, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
		if strings.Contains(listed, name) != known || (len(files) > 0) != known || (err == nil) != known ||
			!strings.Contains(listed, "test.v1.UserService") {
			t.Errorf("known %v: got %s, %d files, %v", known, listed, len(files), err)
		}
		f.configure("{}")
	}
}

// served starts a server of a gateway that takes HTTP/2 without TLS, and returns a client of it.
func served(t *testing.T, f *fixture) (string, *grpc.ClientConn) {
	t.Helper()
	server := httptest.NewUnstartedServer(f.gateway)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	c, err := grpc.NewClient(server.Listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return server.URL, c
}

// Calls reach the server by gRPC, with streams in both directions, by gRPC-Web and by Connect. What the gateway refuses
// is a failure of the protocol.
func TestCallsOfGRPCServer(t *testing.T) {
	g := newGreeter(t)
	f := g.greeting(t, "", "")
	url, conn := served(t, f)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+f.token())
	out := g.Answer()
	err := conn.Invoke(ctx, greetertest.SayHello, g.Request("ada"), out)
	if err != nil || greetertest.Text(out) != "hello ada" {
		t.Errorf("got %v, %v", out, err)
	}
	for name, want := range map[string]codes.Code{"nobody": codes.NotFound, "busy": codes.ResourceExhausted} {
		err := conn.Invoke(ctx, greetertest.SayHello, g.Request(name), g.Answer())
		if s := status.Convert(err); s.Code() != want || name == "busy" && len(s.Details()) != 1 {
			t.Errorf("%s: got %v", name, err)
		}
	}
	err = conn.Invoke(t.Context(), greetertest.SayHello, g.Request("ada"), g.Answer())
	if s := status.Convert(err); s.Code() != codes.Unauthenticated || s.Message() != "this needs a bearer token" {
		t.Errorf("without a token: got %v", err)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, greetertest.Repeat)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // each is answered before the next one is sent
		if err := stream.SendMsg(g.Request(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(out); err != nil || greetertest.Text(out) != fmt.Sprint("hello ", i) {
			t.Fatalf("got %v, %v", out, err)
		}
	}
	if err := errors.Join(stream.CloseSend(), stream.RecvMsg(out)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	answer, err := http.Post(url+greetertest.SayHello, "application/json; charset=utf-8", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil || answer.StatusCode != 401 || !strings.Contains(string(text), `"code":"unauthenticated"`) {
		t.Errorf("a call with nothing but its body: got %d %s, %v", answer.StatusCode, text, err)
	}
	for _, option := range [][]connect.ClientOption{nil, {connect.WithGRPCWeb()}, {connect.WithHTTPGet()}} {
		option = append(option, connect.WithIdempotency(connect.IdempotencyNoSideEffects),
			connect.WithSchema(g.Method()),
			connect.WithResponseInitializer(func(_ connect.Spec, m any) error {
				*m.(*dynamicpb.Message) = *g.Answer()
				return nil
			}))
		client := connect.NewClient[dynamicpb.Message, dynamicpb.Message](http.DefaultClient,
			url+greetertest.SayHello, option...)
		call := connect.NewRequest(g.Request("ada"))
		if _, err := client.CallUnary(t.Context(), call); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("without a token: got %v", err)
		}
		call.Header().Set("Authorization", "Bearer "+f.token())
		answer, err := client.CallUnary(t.Context(), call)
		if err != nil || greetertest.Text(answer.Msg) != "hello ada" {
			t.Errorf("got %v, %v", answer, err)
		}
	}
}

// A call that the server ends before the client has ended its stream ends for the client too.
func TestServerEndsStream(t *testing.T) {
	g := newGreeter(t)
	url, _ := served(t, g.greeting(t, ", access: public", ""))
	client := connect.NewClient[dynamicpb.Message, dynamicpb.Message](
		&http.Client{Transport: proxy.NewHTTP2Transport()}, url+greetertest.Repeat, connect.WithGRPCWeb(),
		connect.WithResponseInitializer(func(_ connect.Spec, m any) error {
			*m.(*dynamicpb.Message) = *g.Answer()
			return nil
		}))
	stream := client.CallBidiStream(t.Context())
	if err := stream.Send(g.Request("ada")); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(g.Request("nobody")); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("got %v", err)
	}
	_ = errors.Join(stream.CloseRequest(), stream.CloseResponse())
}

// A server that cannot be reached is a failure of the request, of each protocol, and opens the breaker.
func TestGRPCServerAway(t *testing.T) {
	g := newGreeter(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.Address = l.Addr().String()
	_ = l.Close()
	f := g.greeting(t, ", access: public",
		"defaults: {breaker: {failures: 0.5, requests: 2, pause: 1h}}")
	f.problem(f.call("GET", "/v1/hello/ada", "", nil), 503)
	_, conn := served(t, f)
	for i, want := range []string{"cannot be reached", "cannot be reached", "too much to do"} {
		err := conn.Invoke(t.Context(), greetertest.SayHello, g.Request("ada"), g.Answer())
		if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), want) {
			t.Errorf("call %d: got %v", i, err)
		}
	}
}

// A caller who gives a call less time than it takes says nothing about the server: a stranger could open the breaker
// for all. The time that the gateway allows does.
func TestGRPCCallersWithoutTime(t *testing.T) {
	g := newGreeter(t)
	for timeout, want := range map[string]int{"10": 200, "": 503} {
		f := g.greeting(t, ", access: public", `
defaults: {breaker: {failures: 0.5, requests: 2, pause: 1h}}
operations: {'POST /greet.v1.GreetService/SayHello': {timeout: 2s}}`)
		if timeout == "" {
			f = g.greeting(t, ", access: public", `
defaults: {breaker: {failures: 0.5, requests: 2, pause: 1h}}
operations: {'POST /greet.v1.GreetService/SayHello': {timeout: 20ms}}`)
		}
		ask := func(name, timeout string) int {
			r := httptest.NewRequest("POST", greetertest.SayHello, strings.NewReader(`{"name":"`+name+`"}`))
			r.Header.Set("Content-Type", "application/json")
			if timeout != "" {
				r.Header.Set("Connect-Timeout-Ms", timeout)
			}
			w := httptest.NewRecorder()
			f.gateway.ServeHTTP(w, r)
			return w.Code
		}
		for range 3 {
			if got := ask("slow", timeout); got != 504 && got != 503 {
				t.Errorf("with %q ms: got %d", timeout, got)
			}
		}
		if got := ask("ada", ""); got != want {
			t.Errorf("after calls with %q ms: got %d, want %d", timeout, got, want)
		}
	}
}

// A file with a service that cannot be served is refused, and the policies before stay.
func TestServicesRefused(t *testing.T) {
	g := newGreeter(t)
	f := g.greeting(t, ", access: public", "")
	const valid = "upstream: greeter, schema: greet.binpb"
	const more = valid + "}}\noperations: {"
	for _, c := range [][2]string{
		{"upstream: none, schema: greet.binpb}}", "services.greet.v1.GreetService.upstream: want the name of an upstream"},
		{"upstream: greeter}}", "schema: want a file"},
		{"upstream: greeter, schema: none.binpb}}", "schema: the file cannot be read: no such file"},
		{"upstream: greeter, schema: policy.yaml}}", "schema: "},
		{valid + ", access: all}}", "access: want public, "},
		{valid + ", roles: [a]}}", "roles: want roles with the access roles"},
		{valid + ", acess: public}}", "acess: unknown field"},
		{valid + "}}\nversions: {path: true, current: '1'}", "begins with a version already"},
		{more + "'GET /v1/hello/{name}': {split: [{function: a}]}}", "want no split and no mirror"},
		{more + "'GET /v1/hello/{name}': {access: public}}", "want authenticated or more"},
		{more + "GET /v1/hallo: {timeout: 1s}}", "unknown entry"},
	} {
		document, want := c[0], c[1]
		file, _ := g.policies(t, "", "")
		if strings.Contains(document, "policy.yaml") {
			if err := os.WriteFile(file, []byte("no schema"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text := "upstreams: {greeter: ['http://" + g.Address + "']}\nservices: {greet.v1.GreetService: {" + document
		err := f.gateway.(*gateway.Gateway).Configure(file, []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", document, err)
		}
	}
	if w := f.call("GET", "/v1/hello/ada", "", nil); w.Code != 200 {
		t.Errorf("got %d", w.Code)
	}
}

// A schema whose paths another operation has already, with other names of parameters, is refused as any fault is.
func TestServiceWithTakenPath(t *testing.T) {
	g := newGreeter(t)
	op := function.Operation{Method: "GET", Path: "/v1/hello/{id}", Access: function.Public}
	f := newFixture(t, with("hello", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }, op))
	file, document := g.policies(t, "", "")
	err := f.gateway.(*gateway.Gateway).Configure(file, document)
	want := file + ":3: services.greet.v1.GreetService.schema: the operation GET /v1/hello/{name} is declared already: " +
		"GET /v1/hello/{id}"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Scripts of a listed origin may make calls.
func TestCallsOfScripts(t *testing.T) {
	g := newGreeter(t)
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Origins = []string{"https://shop.example"} })
	if err := f.gateway.(*gateway.Gateway).Configure(g.policies(t, "", "")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{greetertest.SayHello: "https://shop.example", "/v1/hello": ""} {
		w := f.call("OPTIONS", path, "", nil, "Origin", "https://shop.example", "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "connect-protocol-version,content-type")
		if allowed := w.Header().Get("Access-Control-Allow-Headers"); (allowed != "") != (want != "") {
			t.Errorf("%s: got %v", path, w.Header())
		}
	}
}

// A call that no server understands is refused as its protocol wants it.
func TestCallsNotUnderstood(t *testing.T) {
	f := newGreeter(t).greeting(t, ", access: public", "")
	for _, c := range []struct {
		header []string
		status int
		want   string
	}{
		{[]string{"Content-Type", "text/plain"}, 415, ""},
		{[]string{"Content-Type", "application/json", "Content-Encoding", "br"}, 501, `"code":"unimplemented"`},
		{[]string{"Content-Type", "application/grpc", "Grpc-Encoding", "br"}, 200, ""},
	} {
		w := f.call("POST", greetertest.SayHello, "", strings.NewReader("{}"), c.header...)
		code := w.Header().Get("Grpc-Status")
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || (c.status == 200) != (code == "12") {
			t.Errorf("%s: got %d, %q, %s", c.header, w.Code, code, w.Body)
		}
	}
}
