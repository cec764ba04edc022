package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/manifest"

	"github.com/ebb-dev/ebb/infra/auth/authtest"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/postgres"
	"github.com/ebb-dev/ebb/infra/store/postgres/pgtest"
	"github.com/ebb-dev/ebb/test/shop"
)

// settings name the cluster. Each setting without a default is required, except EBB_E2E_API_SERVER.
type settings struct {
	Kubeconfig  string   `envconfig:"KUBECONFIG" required:"true" desc:"path of the kubeconfig; its current context is used"`
	Ingress     string   `envconfig:"EBB_E2E_INGRESS" required:"true" desc:"address of Knative's ingress, such as http://127.0.0.1:8081"`
	Domain      string   `envconfig:"EBB_E2E_DOMAIN" required:"true" desc:"Knative's domain in this cluster"`
	Namespaces  []string `envconfig:"EBB_E2E_INGRESS_NAMESPACES" default:"kourier-system" desc:"namespaces of the pods of Knative's ingress"`
	IngressPort int      `envconfig:"EBB_E2E_INGRESS_PORT" default:"8081" desc:"their port for cluster-local routes"`
	Image       string   `envconfig:"EBB_E2E_IMAGE" required:"true" desc:"the image of cmd/function"`
	Next        string   `envconfig:"EBB_E2E_IMAGE_NEXT" required:"true" desc:"another name of it, to roll to"`
	Probe       string   `envconfig:"EBB_E2E_PROBE" required:"true" desc:"an image of test/cluster/probe"`
	Pull        string   `envconfig:"EBB_E2E_PULL" default:"IfNotPresent" desc:"imagePullPolicy"`
	Host        string   `envconfig:"EBB_E2E_HOST" required:"true" desc:"address of this machine as pods see it; a PostgreSQL is started on it"`
	APIServer   string   `envconfig:"EBB_E2E_API_SERVER" desc:"address and port of the API server behind its Service, where Knative's OIDC is on; none: it is off"`
	Cold        int      `envconfig:"EBB_E2E_COLD" default:"20" desc:"cold starts measured of each function"`
	Orders      int      `envconfig:"EBB_E2E_ORDERS" default:"500" desc:"orders while pods are killed"`
	Customers   int      `envconfig:"EBB_E2E_CUSTOMERS" default:"3" desc:"customers who place one order after the other while an image rolls and while pods are killed"`
	Kills       float64  `envconfig:"EBB_E2E_KILLS" default:"10" desc:"pods killed a minute; one that starts takes a second of two processors"`
	Keep        bool     `envconfig:"EBB_E2E_KEEP" desc:"leave the environment as it is at the end, to look at it"`
}

// suite holds what the steps share.
type suite struct {
	settings
	root     string // of the repository
	server   *pgtest.Server
	manifest map[string]manifest.Function
	signing  string
	public   string
	table    [][2]string
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	if os.Getenv("EBB_E2E_INGRESS") == "" {
		t.Skip("there is no cluster: set KUBECONFIG, EBB_E2E_INGRESS and what docs/testing.md says, and run make e2e")
	}
	set, err := config.Load[settings]("", config.Environment)
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{settings: set}
	if s.root, err = filepath.Abs("../.."); err != nil {
		t.Fatal(err)
	}
	var m struct{ Functions map[string]manifest.Function }
	data, err := os.ReadFile(filepath.Join(s.root, "terraform/manifest.json"))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.manifest = m.Functions
	s.signing, s.public = authtest.Keys(t)

	dir := t.TempDir()
	hba := filepath.Join(dir, "hba.conf")
	if err := os.WriteFile(hba, []byte("host all all 0.0.0.0/0 scram-sha-256\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Dir(dir)} { // the server runs as another user
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.server = pgtest.New(t, "listen_addresses=127.0.0.1,"+s.Host, "hba_file="+hba, "max_connections=300")
	return s
}

// row records a figure for the table at the end.
func (s *suite) row(t *testing.T, what, format string, args ...any) {
	s.table = append(s.table, [2]string{what, fmt.Sprintf(format, args...)})
	t.Logf("%s: %s", what, fmt.Sprintf(format, args...))
}

// run runs a command and returns its output.
func (s *suite) run(dir string, environment []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), environment...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

func (s *suite) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.run(s.root, nil, "kubectl", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// apply applies objects to the cluster with kubectl.
func (s *suite) apply(t *testing.T, objects ...any) {
	t.Helper()
	list, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("kubectl", "apply", "-f", "-")
	cmd.Stdin = bytes.NewReader(list)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

// environment is one shop on the cluster.
type environment struct {
	*suite
	namespace string
	prefix    string // the prefix of its roles in the database
	dir       string // a copy of the Terraform files with their own state
	images    map[string]string
	canaries  map[string]any

	proxy  *httptest.Server // forwards to the ingress with the gateway's host name
	client *shop.Client
}

type object = map[string]any

// newEnvironment makes what Terraform does not: roles in the database, and Secrets.
func (s *suite) newEnvironment(t *testing.T, namespace string) *environment {
	t.Helper()
	e := &environment{suite: s, namespace: namespace, prefix: strings.ReplaceAll(namespace, "-", "_") + "_",
		dir: t.TempDir(), images: map[string]string{}, canaries: map[string]any{}}
	s.apply(t, object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": namespace}})
	wrapping := personal.NewKey()
	for name, m := range s.manifest {
		data := object{}
		if len(m.Collections) > 0 {
			password := rand.Text()
			role := e.prefix + name
			pgtest.Exec(t, s.server.URL, "CREATE ROLE "+role+" LOGIN PASSWORD '"+password+"'",
				"CREATE SCHEMA "+role+" AUTHORIZATION "+role)
			data["PGPASSWORD"] = password
		}
		if slices.ContainsFunc(m.Settings, func(s manifest.Setting) bool { return s.Variable == personal.Variable }) {
			data[personal.Variable] = wrapping
		}
		if name == "users" {
			data["EBB_SIGNING_KEYS"], data["EBB_ADMIN_PASSWORD"] = s.signing, shop.AdminPassword
		}
		s.apply(t, object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": "ebb-" + name,
			"namespace": namespace}, "stringData": data})
	}
	if out, err := exec.Command("cp", "-r", filepath.Join(s.root, "terraform"), e.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	target, err := url.Parse(s.Ingress)
	if err != nil {
		t.Fatal(err)
	}
	e.proxy = httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = "gateway." + namespace + "." + s.Domain
	}})
	t.Cleanup(e.proxy.Close)
	e.client = shop.NewClient(e.proxy.URL, 32)
	return e
}

// port returns the database's port.
func (s *suite) port(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(s.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// terraform runs Terraform in the environment's copy of dev.
func (e *environment) terraform(t *testing.T, args ...string) (string, error) {
	t.Helper()
	vars := object{
		"kubeconfig": e.Kubeconfig, "kube_context": e.kubectl(t, "config", "current-context"), "namespace": e.namespace,
		"domain":  e.Domain,
		"ingress": object{"namespaces": e.Namespaces, "port": e.IngressPort}, "image": e.Image, "image_pull_policy": e.Pull,
		"images": e.images, "canaries": e.canaries,
		"stores": object{"*": object{
			"url": fmt.Sprintf("postgres://%s{function}@%s/postgres?sslmode=disable", e.prefix,
				net.JoinHostPort(e.Host, e.port(t))),
			"cidrs": []string{e.Host + "/32"},
		}},
		"secrets":           object{"*": "ebb-{function}"},
		"settings":          object{"users": object{"EBB_ADMIN_EMAIL": shop.AdminEmail}},
		"sender_identity":   e.identity(t),
		"verification_keys": e.public,
	}
	data, err := json.Marshal(vars)
	if err == nil {
		err = os.WriteFile(filepath.Join(e.dir, "terraform/environments/dev/e2e.auto.tfvars.json"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e.run(filepath.Join(e.dir, "terraform/environments/dev"), []string{"TF_IN_AUTOMATION=1"}, "terraform", args...)
}

func (s *suite) identity(t *testing.T) any {
	t.Helper()
	if s.APIServer == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s.APIServer)
	if err != nil {
		t.Fatal(err)
	}
	return object{"api_server": object{"cidrs": []string{host + "/32"}, "port": port}}
}

// up applies the environment and returns how long that took.
func (e *environment) up(t *testing.T) time.Duration {
	t.Helper()
	if out, err := e.terraform(t, "init", "-no-color", "-input=false", "-plugin-dir="+filepath.Join(e.root,
		"bin/terraform")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	began := time.Now()
	if _, err := e.terraform(t, "apply", "-no-color", "-input=false", "-auto-approve", "-parallelism=30"); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// down destroys the environment and returns how long that took.
func (e *environment) down(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := e.terraform(t, "destroy", "-no-color", "-input=false", "-auto-approve", "-parallelism=30"); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// store opens the database of a function as a superuser.
func (e *environment) store(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
	u, err := url.Parse(e.server.URL)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	q.Set("search_path", e.prefix+name)
	u.RawQuery = q.Encode()
	return postgres.Open(ctx, u.String(), name, schema)
}

// awaitZero waits until neither a function nor the bare service has or wants a pod, which would slow the next start. It
// ignores clock, which a tick starts every minute.
func (e *environment) awaitZero(t *testing.T) {
	t.Helper()
	e.awaitNone(t, e.namespace, "serving.knative.dev/service,serving.knative.dev/service!=clock", 4*time.Minute)
	e.awaitNone(t, elsewhere, "serving.knative.dev/service", 3*time.Minute)
}

// awaitNone waits until the deployments with the labels want and have no pods.
func (s *suite) awaitNone(t *testing.T, namespace, labels string, most time.Duration) {
	t.Helper()
	for until := time.Now().Add(most); ; time.Sleep(500 * time.Millisecond) {
		wanted := s.kubectl(t, "-n", namespace, "get", "deployments", "-l", labels, "-o",
			"jsonpath={.items[*].spec.replicas}")
		pods := s.pods(t, namespace, labels)
		if wanted != "" && strings.Trim(wanted, "0 ") == "" && len(pods) == 0 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("not all of %s are at zero: they want %q pods, and there are %v", namespace, wanted, pods)
		}
	}
}

// pods returns the names of the pods with the labels.
func (s *suite) pods(t *testing.T, namespace, labels string) []string {
	t.Helper()
	return strings.Fields(s.kubectl(t, "-n", namespace, "get", "pods", "-l", labels, "-o",
		"jsonpath={.items[*].metadata.name}"))
}

// insist repeats a call until it succeeds, because the first request may arrive during a start.
func insist(t *testing.T, what string, call func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	for {
		err := call(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// probeAnswer is the result of a request that a probe's pod made.
type probeAnswer struct {
	Status  int
	Body    string
	Error   string
	Timeout bool
	Millis  float64
}

// probePod starts a pod that makes requests.
func (s *suite) probePod(t *testing.T, namespace, name string, labels map[string]string) {
	t.Helper()
	s.apply(t, object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name, "namespace": namespace,
		"labels": labels},
		"spec": object{"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "containers": []any{object{
			"name": "probe", "image": s.Probe, "imagePullPolicy": s.Pull, "ports": []any{object{"containerPort": 8080}},
			"readinessProbe": object{"periodSeconds": 1, "httpGet": object{"path": "/", "port": 8080}},
		}}}})
	s.kubectl(t, "-n", namespace, "wait", "pod/"+name, "--for=condition=Ready", "--timeout=90s")
}

// from makes a request from a pod. The query is that of test/cluster/probe's /fetch.
func (s *suite) from(t *testing.T, pod string, query url.Values) probeAnswer {
	t.Helper()
	namespace, name, _ := strings.Cut(pod, "/")
	out, err := s.run(s.root, nil, "kubectl", "get", "--raw",
		"/api/v1/namespaces/"+namespace+"/pods/"+name+":8080/proxy/fetch?"+query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	var a probeAnswer
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return a
}

func get(address string) url.Values  { return url.Values{"method": {http.MethodGet}, "url": {address}} }
func dial(address string) url.Values { return url.Values{"dial": {address}} }
