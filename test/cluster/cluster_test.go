package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/bench/load"
	"github.com/ebb-dev/ebb/test/shop"
)

// TestCluster runs its steps in order: each step uses the result of the previous one.
func TestCluster(t *testing.T) {
	s := newSuite(t)
	e := s.newEnvironment(t, "ebb-e2e")
	ok := true
	step := func(name string, do func(t *testing.T)) bool {
		ok = ok && t.Run(name, do)
		return ok
	}
	step("apply", func(t *testing.T) { s.row(t, "apply, from nothing to all ready", "%.0f s", e.up(t).Seconds()) })
	if !s.Keep {
		defer func() {
			t.Run("destroy", func(t *testing.T) { e.destroyed(t) })
			s.print(t)
		}()
	} else {
		defer s.print(t)
	}
	step("an order is confirmed", func(t *testing.T) { e.first(t) })
	step("a bare service beside it", e.bare)
	if step = t.Run; !ok { // the following steps are independent
		return
	}
	step("a second apply changes nothing", e.unchanged)
	step("an order from zero", e.fromZero)
	step("memory", e.memory)
	step("declined and refused", e.declinedAndRefused)
	step("a poison event is a dead letter, mended and replayed", e.poison)
	step("policies", e.policies)
	step("an image rolls by percentage, and back", e.roll)
	step("two environments side by side", e.sideBySide)
	step("pods are killed", e.kills)
	step("cold starts", e.coldStarts)
}

func (s *suite) print(t *testing.T) {
	var b strings.Builder
	for _, r := range s.table {
		fmt.Fprintf(&b, "\n%-58s %s", r[0], r[1])
	}
	t.Log(b.String())
}

// newSpree makes a spree with customers of its own.
func newSpree(ctx context.Context, url string) (*shop.Spree, error) {
	return shop.NewSpreeOf(ctx, url, fmt.Sprintf("customer-%08x-", rand.Uint32()))
}

func (e *environment) first(t *testing.T) *shop.Spree {
	var spree *shop.Spree
	insist(t, "sign in, register, add products", func(ctx context.Context) (err error) {
		spree, err = newSpree(ctx, e.proxy.URL)
		return err
	})
	if err := spree.Place(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ended, err := spree.AwaitEnds(t.Context())
	if err != nil || ended["confirmed"] != 1 {
		t.Fatalf("got %v, %v", ended, err)
	}
	return spree
}

// unchanged plans again. Terraform exits with 2 when it would change something.
func (e *environment) unchanged(t *testing.T) {
	if out, err := e.terraform(t, "plan", "-no-color", "-input=false", "-detailed-exitcode"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

const elsewhere = "ebb-e2e-elsewhere"

// bare deploys a bare net/http service into another namespace, and a pod that makes requests.
func (e *environment) bare(t *testing.T) {
	e.apply(t, object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": elsewhere}})
	e.apply(t, object{"apiVersion": "serving.knative.dev/v1", "kind": "Service",
		"metadata": object{"name": "bare", "namespace": elsewhere,
			"labels": object{"networking.knative.dev/visibility": "cluster-local"}},
		"spec": object{"template": object{"spec": object{"containers": []any{object{
			"image": e.Probe, "imagePullPolicy": e.Pull, "ports": []any{object{"containerPort": 8080}},
			"readinessProbe": object{"periodSeconds": 1, "httpGet": object{"path": "/"}},
			"resources":      object{"requests": object{"cpu": "25m", "memory": "32Mi"}},
		}}}}}})
	e.kubectl(t, "-n", elsewhere, "wait", "ksvc/bare", "--for=condition=Ready", "--timeout=120s")
	e.probePod(t, elsewhere, "stranger", nil)
}

// start returns the latency of a request from within the cluster, in milliseconds.
func (e *environment) start(t *testing.T, host, path string) float64 {
	q := get("http://" + host + path)
	q.Set("timeout", "60s")
	a := e.from(t, elsewhere+"/stranger", q)
	if a.Status != http.StatusOK {
		t.Fatalf("%s: got %+v", host, a)
	}
	return a.Millis
}

func (e *environment) host(name string) string {
	return name + "." + e.namespace + ".svc.cluster.local"
}

const bareHost = "bare." + elsewhere + ".svc.cluster.local"

// fromZero places orders while no function runs, each with one request that waits for the order's end.
func (e *environment) fromZero(t *testing.T) {
	ctx := t.Context()
	by, product := e.customer(t, 10)
	var bare, order []float64
	for n := range 3 {
		e.awaitZero(t)
		bare = append(bare, e.start(t, bareHost, "/"))
		began := time.Now()
		o, err := e.client.Place(ctx, by, fmt.Sprint("from-zero-", n), "tok_ok", 60,
			shop.Line{ProductID: product, Quantity: 1})
		if err == nil {
			o, err = e.client.AwaitOrder(ctx, by, o.ID)
		}
		if err != nil || o.Status != "confirmed" {
			t.Fatalf("got %+v, %v", o, err)
		}
		order = append(order, float64(time.Since(began).Milliseconds()))
	}
	e.row(t, "a bare net/http service, from zero", "%s", quantiles(bare))
	e.row(t, "an order to confirmed, from zero", "%s, %.1f × the bare service", quantiles(order),
		median(order)/median(bare))
}

func median(v []float64) float64 { return quantile(v, 0.5) }

func quantile(v []float64, q float64) float64 {
	return load.Quantile(slices.Sorted(slices.Values(v)), q)
}

func quantiles(v []float64) string {
	return fmt.Sprintf("p50 %.2f s, p95 %.2f s (%d)", quantile(v, 0.5)/1000, quantile(v, 0.95)/1000, len(v))
}

// memory records the memory of the functions' containers as the kubelet reports it.
func (e *environment) memory(t *testing.T) {
	var summary struct {
		Pods []struct {
			Ref        struct{ Name, Namespace string } `json:"podRef"`
			Containers []struct {
				Name   string
				Memory struct {
					RSS int64 `json:"rssBytes"`
				}
			}
		}
	}
	for _, node := range strings.Fields(e.kubectl(t, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")) {
		out := e.kubectl(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/stats/summary")
		if err := json.Unmarshal([]byte(out), &summary); err != nil {
			t.Fatal(err)
		}
		for _, p := range summary.Pods {
			for _, c := range p.Containers {
				if p.Ref.Namespace == e.namespace && c.Name == "function" && c.Memory.RSS > 0 {
					e.row(t, "memory of "+strings.Split(p.Ref.Name, "-")[0], "%.0f MB resident", float64(c.Memory.RSS)/1e6)
				}
			}
		}
	}
}

// customer registers a customer, and adds a product with the available stock.
func (e *environment) customer(t *testing.T, available int) (shop.Customer, string) {
	t.Helper()
	ctx := t.Context()
	admin, err := e.client.Login(ctx, shop.AdminEmail, shop.AdminPassword)
	if err != nil {
		t.Fatal(err)
	}
	product, err := e.client.AddProduct(ctx, admin, "rare", 500, available)
	if err != nil {
		t.Fatal(err)
	}
	by, err := e.client.Register(ctx, fmt.Sprint("customer", rand.IntN(1e9)))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.client.ProductsKnown(ctx, by, product); err != nil {
		t.Fatal(err)
	}
	return by, product
}

func (e *environment) declinedAndRefused(t *testing.T) {
	ctx := t.Context()
	by, product := e.customer(t, 1)
	for _, c := range []struct {
		card     string
		quantity int
		reason   string
	}{{"tok_declined", 1, "declin"}, {"tok_ok", 2, "stock"}, {"tok_ok", 1, ""}} {
		o, err := e.client.Place(ctx, by, fmt.Sprint("e2e-", c.card, c.quantity), c.card, 0,
			shop.Line{ProductID: product, Quantity: c.quantity})
		if err != nil {
			t.Fatal(err)
		}
		if o, err = e.client.AwaitOrder(ctx, by, o.ID); err != nil {
			t.Fatal(err)
		}
		want := "cancelled"
		if c.reason == "" {
			want = "confirmed"
		}
		if o.Status != want || !strings.Contains(o.Reason, c.reason) {
			t.Errorf("%s, %d of 1: got %s, %q", c.card, c.quantity, o.Status, o.Reason)
		}
	}
}

// ebb runs the command ebb against the environment.
func (e *environment) ebb(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.run(e.root, []string{"EBB_URL=" + e.proxy.URL, "EBB_ADMIN_EMAIL=" + shop.AdminEmail,
		"EBB_ADMIN_PASSWORD=" + shop.AdminPassword}, filepath.Join(e.root, "bin/ebb"), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// poison publishes an event whose data fails its schema.
func (e *environment) poison(t *testing.T) {
	id := fmt.Sprint("poison-", rand.IntN(1e9))
	e.publish(t, id, "dev.ebb.inventory.release.v1", `{"order_id":7}`)
	var letter string
	insist(t, "the dead letter", func(context.Context) error {
		for line := range strings.Lines(e.ebb(t, "dlq")) {
			if strings.Contains(line, id) || strings.Contains(line, "inventory.release") {
				letter = strings.Fields(line)[0]
				return nil
			}
		}
		return fmt.Errorf("no dead letter")
	})
	if shown := e.ebb(t, "dlq", "show", letter); !strings.Contains(shown, id) || !strings.Contains(shown, "422") {
		t.Errorf("the dead letter lacks the reason: %s", shown)
	}
	admin, err := e.client.Login(t.Context(), shop.AdminEmail, shop.AdminPassword)
	if err != nil {
		t.Fatal(err)
	}
	mended := object{"data": object{"order_id": "01900000-0000-7000-8000-000000000000"}}
	if err := e.client.Do(t.Context(), http.MethodPut, "/api/archive/dead-letters/"+letter, admin, mended,
		nil); err != nil {
		t.Fatal(err)
	}
	e.ebb(t, "dlq", "replay", letter)
	insist(t, "its replay", func(context.Context) error {
		if list := e.ebb(t, "events", "--type", "dev.ebb.inventory.released.v1"); !strings.Contains(list,
			"01900000-0000-7000-8000-000000000000") && !strings.Contains(list, "inventory.released") {
			return fmt.Errorf("no event caused by it: %s", list)
		}
		return nil
	})
}

// publish posts an event to the broker as a service account of the namespace.
func (e *environment) publish(t *testing.T, id, eventType, data string) {
	t.Helper()
	header := map[string]string{
		"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Source": "/functions/orders",
		"Ce-Type": eventType,
		"Ce-Time": time.Now().UTC().Format(time.RFC3339), "Ce-Subject": "x", "Ce-Partitionkey": "x",
	}
	if e.APIServer != "" {
		audience := e.kubectl(t, "-n", e.namespace, "get", "broker", "default", "-o", "jsonpath={.status.address.audience}")
		header["Authorization"] = "Bearer " + e.kubectl(t, "-n", e.namespace, "create", "token", "orders", "--audience",
			audience)
	}
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	address := e.kubectl(t, "-n", e.namespace, "get", "broker", "default", "-o", "jsonpath={.status.address.url}")
	a := e.from(t, elsewhere+"/stranger", url.Values{"method": {http.MethodPost}, "url": {address}, "body": {data},
		"header": {string(h)}, "timeout": {"20s"}})
	if a.Status != http.StatusAccepted {
		t.Fatalf("the broker answered %+v", a)
	}
}

// policies tries connections that the manifest does not declare, pod by pod. Then it removes the policies to check that
// they were the reason.
func (e *environment) policies(t *testing.T) {
	// Pods that the policies treat as pods of functions.
	for _, f := range []string{"payments", "gateway"} {
		e.probePod(t, e.namespace, "as-"+f, map[string]string{"serving.knative.dev/service": f})
		t.Cleanup(func() { e.kubectl(t, "-n", e.namespace, "delete", "pod", "as-"+f, "--now") })
	}
	payments, gateway, stranger := e.namespace+"/as-payments", e.namespace+"/as-gateway", elsewhere+"/stranger"
	store := net.JoinHostPort(e.Host, e.port(t))
	outside, err := net.Listen("tcp", net.JoinHostPort(e.Host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = outside.Close() }()
	broker := e.kubectl(t, "-n", e.namespace, "get", "broker", "default", "-o", "jsonpath={.status.address.url}")
	pod := func() string {
		e.start(t, e.host("orders"), "/health/readiness") // it may be scaled to zero
		return e.kubectl(t, "-n", e.namespace, "get", "pods", "-l", "serving.knative.dev/service=orders",
			"--field-selector=status.phase=Running", "-o", "jsonpath={.items[0].status.podIP}")
	}
	const orders = "a-pod-of-orders:8012"
	// The pod may have changed.
	ask := func(from string, query url.Values) probeAnswer {
		q, now := url.Values{}, net.JoinHostPort(pod(), "8012")
		for k, v := range query {
			q.Set(k, strings.ReplaceAll(v[0], orders, now))
		}
		return e.from(t, from, q)
	}
	forged, err := json.Marshal(map[string]string{
		"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Id": "forged", "Ce-Source": "/functions/payments",
		"Ce-Type": "dev.ebb.payments.authorized.v1",
	})
	if err != nil {
		t.Fatal(err)
	}
	forgery := func(address string) url.Values {
		return url.Values{"method": {http.MethodPost}, "url": {address + "/events"}, "body": {`{}`},
			"header": {string(forged)}}
	}
	cases := []struct {
		name, from string
		query      url.Values
		through    bool
	}{
		{"a function to its store", payments, dial(store), true},
		{"a function to the broker", payments, get(broker), true},
		{"the gateway to a function", gateway, get("http://" + e.host("orders") + "/health/readiness"), true},
		{"a function to another, by its route", payments, get("http://" + e.host("orders") + "/health/readiness"), false},
		{"a function to another, by its pod", payments, dial(orders), false},
		{"one that stores nothing to a store", gateway, dial(store), false},
		{"a function to the outside", payments, dial(outside.Addr().String()), false},
		{"an outsider to a function's pod", stranger, dial(orders), false},
		{"a forged event to a function's pod", stranger, forgery("http://" + orders), false},
		{"a forged event from another function", payments, forgery("http://" + e.host("orders")), false},
	}
	for _, c := range cases {
		if a := ask(c.from, c.query); a.Status > 0 != c.through || !c.through && !a.Timeout {
			t.Errorf("%s: got %+v", c.name, a)
		}
	}
	if e.APIServer != "" {
		q := forgery("http://" + e.host("orders"))
		q.Set("timeout", "60s") // it may be scaled to zero
		if a := e.from(t, stranger, q); a.Status != http.StatusUnauthorized {
			t.Errorf("a forged event through Knative's own gateway: got %+v", a)
		}
	}
	// The control: without the policies, the requests that timed out succeed.
	e.kubectl(t, "-n", e.namespace, "delete", "networkpolicy", "--all")
	defer func() {
		if _, err := e.terraform(t, "apply", "-no-color", "-input=false", "-auto-approve", "-parallelism=30"); err != nil {
			t.Error(err)
		}
	}()
	for _, c := range cases {
		if c.through {
			continue
		}
		insist(t, "without policies: "+c.name, func(context.Context) error {
			if a := ask(c.from, c.query); a.Status == 0 {
				return fmt.Errorf("got %+v", a)
			}
			return nil
		})
	}
}

// roll gives another image half of the traffic of orders, then all of it, and rolls back, while orders are placed.
func (e *environment) roll(t *testing.T) {
	ctx := t.Context()
	spree, err := newSpree(ctx, e.proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	rolling, stop := context.WithCancel(ctx)
	var placing sync.WaitGroup
	placed := 0
	placing.Go(func() { placed = e.place(rolling, t, spree, math.MaxInt) })
	revisions := map[string]bool{}
	for _, c := range []struct {
		canary any
		image  string
	}{{object{"image": e.Next, "percent": 50}, ""}, {nil, e.Next}, {object{"image": e.Image, "percent": 50}, e.Next},
		{nil, ""}} {
		delete(e.canaries, "orders")
		delete(e.images, "orders")
		if c.canary != nil {
			e.canaries["orders"] = c.canary
		}
		if c.image != "" {
			e.images["orders"] = c.image
		}
		out, err := e.terraform(t, "apply", "-no-color", "-input=false", "-auto-approve", "-parallelism=30")
		if err != nil {
			t.Error(err)
			break
		}
		if !strings.Contains(out, "0 added") || strings.Contains(out, "must be replaced") &&
			strings.Contains(out, "kubectl_manifest.service") {
			t.Logf("the apply: %s", out[max(len(out)-600, 0):])
		}
		for _, r := range strings.Fields(e.kubectl(t, "-n", e.namespace, "get", "ksvc", "orders", "-o",
			"jsonpath={.status.traffic[*].revisionName}")) {
			revisions[r] = true
		}
		time.Sleep(3 * time.Second)
	}
	stop()
	placing.Wait()
	if len(revisions) != 2 {
		t.Errorf("revisions: %v; want one for each image, also after the rollback", revisions)
	}
	ended, err := spree.AwaitEnds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := spree.Repeated(); n > 0 {
		t.Errorf("%d requests were lost or refused while the image rolled", n)
	}
	e.row(t, "orders placed while the image rolled there and back", "%d, %d requests repeated, ended %v", placed,
		spree.Repeated(), ended)
}

// place places orders with all customers, each one after the other, up to a number of orders or until the context ends.
// Each order that is not accepted fails the test.
func (e *environment) place(ctx context.Context, t *testing.T, spree *shop.Spree, most int) (placed int) {
	var next atomic.Int64
	var customers sync.WaitGroup
	for range e.Customers {
		customers.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= most {
					return
				}
				if err := spree.Follow(context.WithoutCancel(ctx), n); err != nil {
					t.Errorf("order %d does not end: %v", n, err)
				}
			}
		})
	}
	customers.Wait()
	return min(int(next.Load()), most)
}

// sideBySide applies a second environment and checks that neither receives the other's events.
func (e *environment) sideBySide(t *testing.T) {
	other := e.newEnvironment(t, "ebb-e2e-two")
	defer other.destroyed(t)
	e.row(t, "apply of a second environment", "%.0f s", other.up(t).Seconds())
	spree := other.first(t)
	for _, id := range spree.Acknowledged() {
		if tree := other.ebb(t, "events", "tree", id); !strings.Contains(tree, "orders.confirmed") &&
			!strings.Contains(tree, "confirmed") {
			t.Errorf("its own archive lacks the order: %s", tree)
		}
		if list := e.ebb(t, "events", "--order", id); strings.Contains(list, id) {
			t.Errorf("the first environment received events of the second's order: %s", list)
		}
	}
}

// kills deletes pods at random, without grace, while orders are placed. Then it audits all stores.
func (e *environment) kills(t *testing.T) {
	ctx := t.Context()
	spree, err := newSpree(ctx, e.proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	killing, stop := context.WithCancel(ctx)
	killed := 0
	var killer sync.WaitGroup
	killer.Go(func() {
		for killing.Err() == nil {
			time.Sleep(time.Duration(rand.ExpFloat64() * float64(time.Minute) / e.Kills))
			pods := e.pods(t, e.namespace, "serving.knative.dev/service")
			if len(pods) == 0 {
				continue
			}
			if _, err := e.run(e.root, nil, "kubectl", "-n", e.namespace, "delete", "pod", pods[rand.IntN(len(pods))],
				"--grace-period=0", "--force"); err == nil {
				killed++
			}
		}
	})
	began := time.Now()
	e.place(ctx, t, spree, e.Orders)
	stop()
	killer.Wait()
	ended, err := spree.AwaitEnds(ctx)
	if err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	var faults []string
	for until := time.Now().Add(4 * time.Minute); time.Now().Before(until); time.Sleep(5 * time.Second) {
		for name, m := range e.manifest { // a function that starts publishes its outbox
			if len(m.Collections) > 0 {
				e.start(t, e.host(name), "/health/readiness")
			}
		}
		books, err := shop.ReadBooksOf(ctx, e.store)
		if err != nil {
			t.Fatal(err)
		}
		books.Outbox = nil // published entries remain until the next unit of work removes them
		if faults = books.Audit(spree.Acknowledged()); len(faults) == 0 {
			break
		}
	}
	for _, f := range faults {
		t.Error(f)
	}
	e.row(t, fmt.Sprintf("%d orders while %d pods were killed", e.Orders, killed), "%v in %.0f s, %d invariants broken",
		ended, took.Seconds(), len(faults))
}

// coldStarts measures a request to every function from zero, and to the bare service, one after the other. Earlier ones
// scale down meanwhile.
func (e *environment) coldStarts(t *testing.T) {
	took := map[string][]float64{}
	for range e.Cold {
		e.awaitNone(t, elsewhere, "serving.knative.dev/service=bare", 3*time.Minute)
		took["bare"] = append(took["bare"], e.start(t, bareHost, "/"))
		for name := range e.manifest {
			if name == "clock" && len(e.pods(t, e.namespace, "serving.knative.dev/service=clock")) > 0 {
				continue // a tick has started it already
			}
			e.awaitNone(t, e.namespace, "serving.knative.dev/service="+name, 3*time.Minute)
			took[name] = append(took[name], e.start(t, e.host(name), "/health/readiness"))
		}
	}
	bare := median(took["bare"])
	e.row(t, "cold start of a bare net/http service", "%s", quantiles(took["bare"]))
	delete(took, "bare")
	var all []float64
	for _, name := range slices.Sorted(maps.Keys(took)) {
		all = append(all, took[name]...)
		e.row(t, "cold start of "+name, "%s, %.2f × the bare service", quantiles(took[name]), median(took[name])/bare)
	}
	e.row(t, "cold start of any function", "%s, %.2f × the bare service", quantiles(all), median(all)/bare)
}

// destroyed destroys the environment and checks that nothing is left.
func (e *environment) destroyed(t *testing.T) {
	t.Helper()
	e.row(t, "destroy of "+e.namespace, "%.0f s", e.down(t).Seconds())
	if left := e.kubectl(t, "get", "namespace", e.namespace, "--ignore-not-found", "-o", "name"); left != "" {
		t.Errorf("%s is left", left)
	}
	if state, err := e.terraform(t, "state", "list"); err != nil || strings.TrimSpace(state) != "" {
		t.Errorf("the state has %s (%v)", state, err)
	}
}
