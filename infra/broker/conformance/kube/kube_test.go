package kube_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker/conformance"
	"github.com/ebb-dev/ebb/infra/broker/conformance/kube"
	"github.com/ebb-dev/ebb/infra/broker/httpapi"
	"github.com/ebb-dev/ebb/infra/broker/memory"
	"github.com/ebb-dev/ebb/infra/fault"
)

// cluster is a fake API server for Trigger objects. It makes a subscription at a broker for each, as Knative's
// controller would.
type cluster struct {
	*httptest.Server
	url string

	mu       sync.Mutex
	triggers map[string]*trigger
	busy     int // the number of requests to answer with 429
}

type trigger struct {
	subscription string
	polls        int
	body         map[string]any
}

const triggersPath = "/apis/eventing.knative.dev/v1/namespaces/shop/triggers"

func newCluster(t *testing.T) *cluster {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	b := memory.New(memory.WithLogger(quiet), memory.WithMaxEvent(1<<20+httpapi.Headroom))
	f, err := httpapi.New(t.Context(), b, httpapi.Config{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(f)
	c := &cluster{url: server.URL, triggers: map[string]*trigger{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+triggersPath, c.create)
	mux.HandleFunc("GET "+triggersPath+"/{name}", c.get)
	mux.HandleFunc("DELETE "+triggersPath+"/{name}", c.remove)
	c.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.busy--
		busy := c.busy >= 0
		c.mu.Unlock()
		if busy {
			failure(w, 429, "too many requests")
			return
		}
		if r.Header.Get("Authorization") != "Bearer secret" {
			failure(w, 401, "Unauthorized")
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		c.Close()
		f.Close(context.Background())
		server.Close()
		b.Close(context.Background())
	})
	return c
}

func failure(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "message": message})
}

// create checks and stores a trigger, as Knative's webhook and controller would.
func (c *cluster) create(w http.ResponseWriter, r *http.Request) {
	var o struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
		Spec             struct {
			Broker     string
			Filter     *struct{ Attributes map[string]string }
			Filters    []any
			Subscriber struct{ URI string }
			Delivery   any
		}
	}
	text, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(text, &o); err != nil || o.Kind != "Trigger" || o.Spec.Broker != "main" {
		failure(w, 422, fmt.Sprint("no Trigger of the broker main: ", err))
		return
	}
	s := map[string]any{"sink": o.Spec.Subscriber.URI, "protocol": "HTTP", "filters": o.Spec.Filters,
		"config": o.Spec.Delivery}
	if o.Spec.Filter != nil {
		s["filters"] = []any{map[string]any{"exact": o.Spec.Filter.Attributes}}
	}
	body, _ := json.Marshal(s)
	answer, err := http.Post(c.url+"/subscriptions", "application/json", strings.NewReader(string(body)))
	if err != nil {
		failure(w, 500, err.Error())
		return
	}
	defer answer.Body.Close()
	var made struct{ ID, Detail string }
	json.NewDecoder(answer.Body).Decode(&made)
	if answer.StatusCode != 201 {
		failure(w, 403, `admission webhook "validation.webhook.eventing.knative.dev" denied the request: `+made.Detail)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	tr := &trigger{subscription: made.ID}
	json.Unmarshal(text, &tr.body)
	c.triggers[o.Metadata.Name] = tr
	w.WriteHeader(201)
	w.Write(text)
}

// get reports the trigger as Ready from the second request on.
func (c *cluster) get(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tr := c.triggers[r.PathValue("name")]
	if tr == nil {
		failure(w, 404, "not found")
		return
	}
	tr.polls++
	status := map[bool]string{true: "True", false: "Unknown"}[tr.polls > 1]
	json.NewEncoder(w).Encode(map[string]any{"status": map[string]any{"conditions": []any{
		map[string]any{"type": "SubscriberResolved", "status": "True"}, map[string]any{"type": "Ready", "status": status},
	}}})
}

func (c *cluster) remove(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	tr := c.triggers[r.PathValue("name")]
	delete(c.triggers, r.PathValue("name"))
	c.mu.Unlock()
	if tr == nil {
		failure(w, 404, "not found")
		return
	}
	request, _ := http.NewRequest("DELETE", c.url+"/subscriptions/"+tr.subscription, nil)
	answer, err := http.DefaultClient.Do(request)
	if err == nil {
		answer.Body.Close()
	}
	w.Write([]byte("{}"))
}

// kubeconfig writes a kubeconfig for the cluster and the user, and returns its path.
func (c *cluster) kubeconfig(t *testing.T, cluster, user string) string {
	t.Helper()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: c.Certificate().Raw}))
	text := fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: here
contexts:
- name: here
  context: {cluster: c, user: u, namespace: shop}
- name: nowhere
  context: {cluster: missing, user: u}
clusters:
- name: c
  cluster:
    server: %s
    certificate-authority-data: %s
    %s
users:
- name: u
  user:
    %s
`, c.URL, ca, cluster, user)
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *cluster) open(t *testing.T) *kube.Triggers {
	t.Helper()
	a, err := kube.Load(c.kubeconfig(t, "", "token: secret"), "")
	if err != nil {
		t.Fatal(err)
	}
	return kube.New(a, kube.Config{Broker: "main"})
}

// The suite runs with Trigger objects and leaves none behind. Cases that need features missing in Knative are skipped,
// with the reason.
func TestSuiteWithTriggers(t *testing.T) {
	c := newCluster(t)
	report, err := conformance.Run(t.Context(), conformance.Config{
		URL: c.url, Triggers: c.open(t),
		Only: regexp.MustCompile("^(ingress-binary|batch|delivery|dead|reply|filter|" +
			"retry-after|api|cesql-(equal|parse-error))"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		want := conformance.Held
		for _, need := range r.Needs {
			switch need {
			case conformance.Batch, conformance.Order, conformance.RetryAfter, conformance.Subscriptions:
				want = conformance.Skipped
			}
		}
		if r.Outcome != want || (want == conformance.Skipped) != strings.HasPrefix(r.Why, "needs ") {
			t.Errorf("%s: %s %s %v, want %s", r.ID, r.Outcome, r.Why, r.Failures, want)
		}
	}
	if report.Count(conformance.Skipped) == 0 || len(c.triggers) != 0 {
		t.Errorf("%d skipped, %d triggers left", report.Count(conformance.Skipped), len(c.triggers))
	}
}

// Create writes a Trigger object with durations in ISO 8601 and waits until it is Ready.
func TestCreate(t *testing.T) {
	c := newCluster(t)
	retry := 2
	id, err := c.open(t).Create(t.Context(), conformance.Trigger{
		Sink: "http://sink.example/x", Filters: []conformance.Filter{{"exact": map[string]string{"type": "t"}}},
		Delivery: &conformance.Delivery{Retry: &retry, BackoffPolicy: "linear", BackoffDelay: "PT0.1S",
			DeadLetterSink: &conformance.Destination{URI: "http://dead.example/"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(c.triggers[id].body["spec"])
	want := `{"broker":"main","delivery":{"backoffDelay":"PT0.1S","backoffPolicy":"linear",` +
		`"deadLetterSink":{"uri":"http://dead.example/"},"retry":2},` +
		`"filters":[{"exact":{"type":"t"}}],"subscriber":{"uri":"http://sink.example/x"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if c.triggers[id].polls < 2 {
		t.Error("Create did not wait until the trigger was Ready")
	}
}

// A request that the API server answers with 429 is sent again.
func TestBusy(t *testing.T) {
	c := newCluster(t)
	c.busy = 2
	if _, err := c.open(t).Create(t.Context(), conformance.Trigger{Sink: "http://sink.example/"}); err != nil {
		t.Error(err)
	}
}

// An error of the webhook about a trigger is a Refused; an error about the credentials is not.
func TestRefusals(t *testing.T) {
	c := newCluster(t)
	_, err := c.open(t).Create(t.Context(), conformance.Trigger{Sink: "http://sink.example/",
		Filters: []conformance.Filter{{"regex": "x"}}})
	if _, ok := err.(conformance.Refused); !ok || !strings.Contains(err.Error(), "webhook") {
		t.Errorf("a bad filter: %v, want a refusal", err)
	}
	a, err := kube.Load(c.kubeconfig(t, "", "token: wrong"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kube.New(a, kube.Config{Broker: "main"}).Create(t.Context(),
		conformance.Trigger{Sink: "http://sink.example/"}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a wrong token: %v, want fault.Unauthenticated", err)
	}
	if err := c.open(t).Delete(t.Context(), "missing"); err != nil {
		t.Errorf("deleting a missing trigger: %v", err)
	}
}

// Load tells why it cannot use a kubeconfig, and never skips the verification of the server.
func TestLoadRefuses(t *testing.T) {
	c := newCluster(t)
	for name, test := range map[string]struct{ path, context, want string }{
		"no file":        {"/nowhere/config", "", "cannot read"},
		"no context":     {c.kubeconfig(t, "", "token: x"), "there", `unknown context "there"`},
		"no cluster":     {c.kubeconfig(t, "", "token: x"), "nowhere", "no server"},
		"not verified":   {c.kubeconfig(t, "insecure-skip-tls-verify: true", "token: x"), "", "verify"},
		"a plug-in":      {c.kubeconfig(t, "", "exec: {command: login}"), "", "kubectl proxy"},
		"no certificate": {c.kubeconfig(t, "", "client-certificate: none.pem"), "", "none.pem"},
	} {
		if _, err := kube.Load(test.path, test.context); !fault.Is(err, fault.Invalid) ||
			!strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	a, err := kube.Load(c.kubeconfig(t, "tls-server-name: elsewhere.example", "token: secret"), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := kube.New(a, kube.Config{}).Delete(t.Context(), "x"); err == nil {
		t.Error("the client accepted a certificate for another name")
	}
}

// In a pod the driver uses the service account, and reads its token for each request.
func TestInCluster(t *testing.T) {
	c := newCluster(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"token": "secret\n", "namespace": "shop",
		"ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := strings.Cut(strings.TrimPrefix(c.URL, "https://"), ":")
	a, err := kube.InCluster(host, port, dir)
	if err != nil {
		t.Fatal(err)
	}
	triggers := kube.New(a, kube.Config{Broker: "main"})
	if _, err := triggers.Create(t.Context(), conformance.Trigger{Sink: "http://sink.example/"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := triggers.Create(t.Context(), conformance.Trigger{Sink: "http://sink.example/"}); !fault.Is(err,
		fault.Unauthenticated) {
		t.Errorf("the token was not read again: %v", err)
	}
	if _, err := kube.InCluster(host, port, t.TempDir()); !fault.Is(err, fault.Invalid) {
		t.Errorf("no service account: %v, want fault.Invalid", err)
	}
}
