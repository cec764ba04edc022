package lambda_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/lambda"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
)

// The variables of a sandbox: the file of its database, and where it tells that a handler waits.
const (
	databaseVariable = "EBB_TEST_LAMBDA_DATABASE"
	waitingVariable  = "EBB_TEST_LAMBDA_WAITING"
)

// TestMain is also the program of the sandboxes.
func TestMain(m *testing.M) {
	if path := os.Getenv(databaseVariable); path != "" {
		f := counter(path, os.Getenv(waitingVariable))
		lambda.New(f.Instance(), lambda.Config{}).Serve()
	}
	os.Exit(m.Run())
}

type orderRef struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

var orderShip = event.Define(event.NewNamespace("com.example", "https://example.com/schemas/"),
	"inventory.ship", 1, event.Command, "Ship an order.", orderRef{OrderID: "o1"})

type count struct {
	N int `json:"n"`
}

type countOutput struct{ Body count }

type textOutput struct{ Body struct{ Text string } }

type nowhere struct{}

func (nowhere) Publish(context.Context, ...ce.Event) error { return nil }

// counter is a function that counts shipped orders in a file. The order "wait" is handled when its sandbox is killed,
// and "poison" never.
func counter(path, waiting string) *function.Function {
	f := function.New("inventory", function.Env{
		Store: func(ctx context.Context, _ string, schema store.Schema) (store.Driver, error) {
			return sqlite.Open(ctx, path, schema)
		},
		Publisher: nowhere{},
	})
	counts := function.Collection[count](f, "counts")
	function.On(f, orderShip, func(ctx context.Context, tx *function.Tx, cmd orderRef) error {
		switch cmd.OrderID {
		case "wait":
			if _, err := http.Get(waiting); err != nil {
				return err
			}
		case "poison":
			return fault.New(fault.Invalid, "poison")
		}
		c, _, err := counts.Find(ctx, tx, "all")
		if err != nil {
			return err
		}
		c.N++
		return counts.Put(ctx, tx, "all", c)
	})
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/count", Summary: "How many", Access: function.Public,
	}, func(ctx context.Context, tx *function.Tx, _ *struct{}) (*countOutput, error) {
		c, _, err := counts.Find(ctx, tx, "all")
		return &countOutput{Body: c}, err
	})
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/large", Summary: "Too large", Access: function.Public,
	}, func(context.Context, *function.Tx, *struct{}) (*textOutput, error) {
		var out textOutput
		out.Body.Text = strings.Repeat("x", 6<<20)
		return &out, nil
	})
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/slow", Summary: "Too slow", Access: function.Public,
	}, func(ctx context.Context, _ *function.Tx, _ *struct{}) (*countOutput, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	return f
}

// ship returns the text of an event.
func ship(t *testing.T, order string) string {
	t.Helper()
	d := orderShip.New(uuid.NewString(), orderRef{OrderID: order})
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e := ce.New()
	e.SetID(uuid.NewString())
	e.SetSource("/functions/orders")
	e.SetType(d.Info.Name)
	e.SetTime(time.Now())
	if err := e.SetData(ce.ApplicationJSON, data); err != nil {
		t.Fatal(err)
	}
	text, err := event.ToJSON(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// platform is the Lambda service: its runtime API and extensions API, and the one sandbox that it runs.
type platform struct {
	t        *testing.T
	server   *httptest.Server
	database string

	invocations chan invocation
	answers     chan answer
	waiting     chan struct{} // a handler waits
	registered  chan string   // extensions
	lose        chan struct{} // has one element for each answer that the platform does not take

	sandbox *exec.Cmd
	log     *logged
}

type invocation struct {
	payload  []byte
	deadline time.Time
}

// answer is what a sandbox has answered; Kind is response or error.
type answer struct{ kind, body string }

// logged collects what a sandbox writes.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // has room for one
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newPlatform(t *testing.T) *platform {
	p := &platform{
		t: t, database: filepath.Join(t.TempDir(), "db"), invocations: make(chan invocation), answers: make(chan answer),
		waiting: make(chan struct{}), registered: make(chan string, 10), lose: make(chan struct{}, 1),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", p.next)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/{kind}", p.answer)
	mux.HandleFunc("POST /2020-01-01/extension/register", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Lambda-Extension-Identifier", "1")
		p.registered <- r.Header.Get("Lambda-Extension-Name")
	})
	mux.HandleFunc("GET /2020-01-01/extension/event/next", func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	mux.HandleFunc("GET /waiting", func(_ http.ResponseWriter, r *http.Request) {
		p.waiting <- struct{}{}
		<-r.Context().Done()
	})
	p.server = httptest.NewServer(mux)
	t.Cleanup(func() {
		p.kill()
		p.server.Close()
	})
	return p
}

func (p *platform) next(w http.ResponseWriter, r *http.Request) {
	select {
	case in := <-p.invocations:
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", uuid.NewString())
		w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(in.deadline.UnixMilli()))
		_, _ = w.Write(in.payload)
	case <-r.Context().Done():
	}
}

func (p *platform) answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	select {
	case <-p.lose:
		p.waiting <- struct{}{}
		<-r.Context().Done()
		return
	default:
	}
	w.WriteHeader(http.StatusAccepted)
	p.answers <- answer{r.PathValue("kind"), string(body)}
}

// start starts a sandbox.
func (p *platform) start() {
	p.t.Helper()
	program, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	p.log = &logged{more: make(chan struct{}, 1)}
	p.sandbox = exec.Command(program)
	p.sandbox.Env = append(os.Environ(), databaseVariable+"="+p.database, waitingVariable+"="+p.server.URL+"/waiting",
		"AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(p.server.URL, "http://"))
	p.sandbox.Stderr = p.log
	if err := p.sandbox.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the sandbox as a power cut would.
func (p *platform) kill() {
	if p.sandbox != nil {
		_ = p.sandbox.Process.Kill()
		_ = p.sandbox.Wait()
		p.sandbox = nil
	}
}

// send hands an invocation to the sandbox.
func (p *platform) send(payload any, limit time.Duration) {
	p.t.Helper()
	data, err := json.Marshal(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	p.invocations <- invocation{data, time.Now().Add(limit)}
}

// invoke returns the sandbox's answer to an invocation.
func (p *platform) invoke(payload any, limit time.Duration) string {
	p.t.Helper()
	p.send(payload, limit)
	a := <-p.answers
	if a.kind != "response" {
		p.t.Errorf("got %+v\n%s", a, p.log)
	}
	return a.body
}

func (p *platform) get(path string, limit time.Duration) (out events.APIGatewayV2HTTPResponse) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(p.invoke(request(http.MethodGet, path), limit)), &out); err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *platform) wantCount(n int) {
	p.t.Helper()
	if got, want := p.get("/api/count", time.Minute).Body, fmt.Sprintf(`"n":%d`, n); !strings.Contains(got, want) {
		p.t.Errorf("got %s, want %s", got, want)
	}
}

func (p *platform) wantFailures(batch events.SQSEvent, ids ...string) {
	p.t.Helper()
	var out events.SQSEventResponse
	if err := json.Unmarshal([]byte(p.invoke(batch, time.Minute)), &out); err != nil {
		p.t.Fatal(err)
	}
	got := []string{}
	for _, f := range out.BatchItemFailures {
		got = append(got, f.ItemIdentifier)
	}
	same(p.t, "failures", got, ids...)
}

// orders returns a batch of messages m1, m2, … of a FIFO queue, each in a group of its own.
func orders(t *testing.T, names ...string) (batch events.SQSEvent) {
	for i, name := range names {
		id := fmt.Sprint("m", i+1)
		batch.Records = append(batch.Records, message("inventory.fifo", id, id, ship(t, name), 1))
	}
	return batch
}

// The program of a sandbox, on a runtime API, does what the platform asks, and what it is killed in the middle of is
// done once when the platform asks again.
func TestRuntime(t *testing.T) {
	p := newPlatform(t)
	p.start()
	p.wantCount(0)
	if name := <-p.registered; name == "" {
		t.Error("no extension is registered, so that Lambda sends no SIGTERM")
	}
	p.wantFailures(orders(t, "a", "b", "c"))
	p.wantFailures(orders(t, "a", "poison", "c"), "m2")
	p.wantCount(5)

	killed := orders(t, "a", "wait", "c")
	p.send(killed, time.Minute)
	<-p.waiting
	p.kill()
	p.start()
	p.wantCount(5)
	killed.Records[1].Body = ship(t, "b")
	p.wantFailures(killed)
	p.wantCount(8)

	lost := orders(t, "a", "b")
	p.lose <- struct{}{}
	p.send(lost, time.Minute)
	<-p.waiting
	p.kill()
	p.start()
	p.wantCount(10)
	p.wantFailures(lost)
	p.wantCount(10)

	if got := p.get("/api/large", time.Minute); got.StatusCode != 500 || !strings.Contains(got.Body, "Lambda carries") {
		t.Errorf("a large response: got %d %.200s", got.StatusCode, got.Body)
	}
	if got := p.get("/api/slow", time.Second); got.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("a slow one: got %d %.200s", got.StatusCode, got.Body)
	}
	p.send(map[string]int{"x": 1}, time.Minute)
	if a := <-p.answers; a.kind != "error" || !strings.Contains(a.body, "unknown invocation") {
		t.Errorf("an unknown invocation: got %+v", a)
	}
	p.wantCount(10)

	if err := p.sandbox.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(p.log.String(), "the function has stopped") {
		<-p.log.more
	}
}
