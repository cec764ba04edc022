package run_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/ebb-dev/ebb/infra/auth/authtest"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/run"
	"github.com/ebb-dev/ebb/infra/system"
)

type note struct {
	Text string `json:"text" minLength:"1" maxLength:"100"`
}

var written = event.Define(event.NewNamespace("com.example", "https://example.com/schemas/"),
	"desk.written", 1, event.Fact, "A note was written.", note{Text: "hello"})

type noteInput struct{ Body note }

// desk is a product: writer emits notes, reader refuses those that say "poison", and sink takes dead letters.
func desk(seen chan<- string) system.System {
	writer := func(env function.Env) (*function.Function, error) {
		f := function.New("writer", env)
		function.Emits(f, written)
		function.Serve(f, function.Operation{Method: "POST", Path: "/api/notes", Access: function.Public},
			func(ctx context.Context, tx *function.Tx, in *noteInput) (*struct{}, error) {
				tx.Emit(written.New("note", in.Body))
				return nil, nil
			})
		return f, nil
	}
	reader := func(env function.Env) (*function.Function, error) {
		f := function.New("reader", env)
		function.On(f, written, func(_ context.Context, _ *function.Tx, n note) error {
			if n.Text == "poison" {
				return fault.New(fault.Invalid, "this note cannot be read")
			}
			seen <- "read " + n.Text
			return nil
		})
		return f, nil
	}
	sink := func(env function.Env) (*function.Function, error) {
		f := function.New("sink", env)
		tried := false
		function.OnDeadLetter(f, func(_ context.Context, _ *function.Tx, e ce.Event) error {
			if !tried {
				tried = true
				return fault.New(fault.Invalid, "the first attempt fails")
			}
			seen <- fmt.Sprint("dead ", e.Extensions()[broker.ErrorDest], " ", e.Extensions()[broker.ErrorCode])
			return nil
		})
		return f, nil
	}
	return system.System{Name: "desk", Functions: []system.Definition{
		{Name: "writer", New: writer}, {Name: "reader", New: reader}, {Name: "sink", New: sink},
	}}
}

// lines is a log that a test reads while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

// eventually waits until ok reports true, for at most a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// serve hosts a function of the desk until the test ends, and returns its address and its log.
func serve(t *testing.T, sys system.System, name, brokerURL string) (string, *lines) {
	t.Helper()
	_, keys := authtest.Keys(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log, done := &lines{}, make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		done <- run.ServeOn(ctx, sys, config.Map(map[string]string{
			"FUNCTION": name, "EBB_STORE": "memory:", "EBB_BROKER": brokerURL, "EBB_VERIFICATION_KEYS": keys,
		}), log, run.Machine{Listener: l})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	return "http://" + l.Addr().String(), log
}

func ready(url string) bool {
	r, err := http.Get(url + "/health/readiness")
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// Functions in processes of their own exchange events over the broker of EBB_BROKER. Until it can be reached they are
// not ready and say why. An event reaches a function that is started after it was published, and one that fails for
// good reaches the function that takes dead letters, which is asked until it does.
func TestBroker(t *testing.T) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := port.Addr().(*net.TCPAddr)
	seen := make(chan string, 10)
	sys := desk(seen)
	url := fmt.Sprintf("nats://user:hunter2@%s?name=desk", at)
	port.Close() // nothing answers there now
	var s *server.Server
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() }) // after the functions
	writer, log := serve(t, sys, "writer", url)
	eventually(t, "it says why", func() bool { return log.has("no NATS server can be reached") })
	if ready(writer) || log.has("hunter2") {
		t.Error("it is ready without its broker, or its log has the password")
	}
	s, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: at.Port, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Username: "user", Password: "hunter2",
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	eventually(t, "it is ready", func() bool { return ready(writer) })
	for _, text := range []string{"one", "poison", "two"} {
		r, err := http.Post(writer+"/api/notes", "application/json", strings.NewReader(fmt.Sprintf(`{"text":%q}`, text)))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		if r.Body.Close(); r.StatusCode >= 300 {
			t.Fatalf("got %d %s", r.StatusCode, body)
		}
	}
	serve(t, sys, "reader", url)
	expect(t, seen, "read one")
	expect(t, seen, "read two")
	serve(t, sys, "sink", url)
	expect(t, seen, "dead /functions/reader 422")
}

func expect(t *testing.T, seen <-chan string, want string) {
	t.Helper()
	select {
	case got := <-seen:
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("waited in vain for %q", want)
	}
}

// Settings of the broker that cannot be used are named, without the password.
func TestBrokerSettings(t *testing.T) {
	for want, settings := range map[string]map[string]string{
		"EBB_BROKER has an unknown scheme; did you mean nats:?": {"EBB_BROKER": "natz://u:hunter2@a"},
		"EBB_BROKER and K_SINK exclude each other":              {"EBB_BROKER": "nats://a", "K_SINK": "http://b"},
		"K_SINK is no topic of Pub/Sub; want pubsub:projects/":  {"K_SINK": "pubsub:hunter2"},
	} {
		settings["FUNCTION"], settings["EBB_STORE"] = "writer", "memory:"
		err := run.Serve(t.Context(), desk(nil), config.Map(settings), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
