package aws_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth/authtest"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store/dynamodb/dynamodbtest"
	"github.com/ebb-dev/ebb/test/shop"
)

var (
	deploy = flag.Bool("deploy", false, "deploy the shop to the emulator with Terraform, which takes minutes")
	killed = flag.Int("kill", 5, "kill the sandbox of each how manyth batch")
)

const name = "shop-test"

// step logs what a part of the test took.
func step(t *testing.T, what string, f func() error) {
	t.Helper()
	t.Logf("%s …", what)
	began := time.Now()
	if err := f(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%-60s %s", what, time.Since(began).Round(time.Millisecond))
}

// environment is a copy of the environment aws-dev that has the emulator for AWS.
type environment struct {
	dir string
}

func newEnvironment(t *testing.T, public string) environment {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err = filepath.WalkDir(filepath.Join(root, "terraform"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !entry.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(dir, rel)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, rel), text, 0o644)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	secret := func(variable string) string {
		return "arn:aws:ssm:" + region + ":" + account + ":parameter/" + name + "/" + variable
	}
	variables, err := json.Marshal(map[string]any{
		"account": account, "region": region, "name": name, "package": filepath.Join(root, "bin", "lambda-arm64.zip"),
		"verification_keys": public,
		"secrets": map[string]any{
			"*": map[string]string{personal.Variable: secret(personal.Variable)},
			"users": map[string]string{
				"EBB_SIGNING_KEYS": secret("EBB_SIGNING_KEYS"), "EBB_ADMIN_PASSWORD": secret("EBB_ADMIN_PASSWORD"),
			},
		},
		"settings": map[string]any{"users": map[string]string{"EBB_ADMIN_EMAIL": shop.AdminEmail}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := environment{dir: filepath.Join(dir, "terraform", "environments", "aws-dev")}
	const override = "provider \"aws\" {\n  s3_use_path_style = true\n  skip_metadata_api_check = true\n}\n"
	for file, text := range map[string]string{"test.auto.tfvars.json": string(variables), "test_override.tf": override} {
		if err := os.WriteFile(filepath.Join(e.dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.run("init", "-plugin-dir="+filepath.Join(root, "bin", "terraform")); err != nil {
		t.Fatal(err)
	}
	return e
}

// terraformTimeout is how long one command of Terraform may take. Then it is interrupted, and says where it was.
const terraformTimeout = 15 * time.Minute

func (e environment) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), terraformTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, "terraform", append(args, "-no-color")...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = time.Minute
	c.Dir = e.dir
	c.Env = append(os.Environ(), "TF_IN_AUTOMATION=1", "TF_INPUT=0", "CHECKPOINT_DISABLE=1",
		"TF_CLI_CONFIG_FILE="+os.DevNull)
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("terraform %s: %w\n%s", args[0], err, tail(string(out)))
	}
	return string(out), err
}

// forgotten lists what the emulator does not give back, so that a plan would set it again: by type of resource, the
// attributes. It has no tags of these resources, and of an alarm it has the threshold only.
var forgotten = map[string][]string{
	"aws_cloudwatch_metric_alarm":     {"datapoints_to_alarm", "dimensions", "tags_all", "treat_missing_data"},
	"aws_dynamodb_table":              {"tags_all"},
	"aws_lambda_event_source_mapping": {"tags_all"},
}

// unchanged reports what a plan would change beside that.
func (e environment) unchanged() error {
	if _, err := e.run("plan", "-out=again.plan"); err != nil {
		return err
	}
	text, err := e.run("show", "-json", "again.plan")
	if err != nil {
		return err
	}
	var plan struct {
		Changes []struct {
			Address, Type string
			Change        struct {
				Actions       []string
				Before, After map[string]json.RawMessage
			}
		} `json:"resource_changes"`
	}
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		return err
	}
	var errs []error
	for _, c := range plan.Changes {
		action := strings.Join(c.Change.Actions, " and ")
		if action == "update" {
			action = ""
			for attribute, value := range c.Change.After {
				same := string(value) == string(c.Change.Before[attribute])
				if !same && !slices.Contains(forgotten[c.Type], attribute) {
					action += " " + attribute
				}
			}
		}
		if action != "" && action != "no-op" {
			errs = append(errs, fmt.Errorf("%s: %s", c.Address, action))
		}
	}
	return errors.Join(errs...)
}

func tail(s string) string { return s[max(0, len(s)-6000):] }

// The shop is applied to the emulator as it is to AWS, works through its HTTP API although sandboxes are killed, and
// leaves nothing behind.
func TestDeploy(t *testing.T) {
	if !*deploy {
		t.Skip("make aws runs this")
	}
	dynamodbtest.Need(t)
	emulator, err := url.Parse(os.Getenv("AWS_ENDPOINT_URL"))
	if err != nil {
		t.Fatal(err)
	}
	front := newFront(emulator)
	server := httptest.NewServer(front)
	defer server.Close()
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	t.Setenv("AWS_REGION", region)

	log := &logged{}
	defer func() {
		if t.Failed() {
			t.Logf("the sandboxes have written:\n%s", tail(log.String()))
		}
	}()
	p := &platform{
		t: t, address: server.Listener.Addr().String(), log: log, sandboxes: map[string]*sandbox{},
		program: unpack(t, "../../bin/lambda-"+runtime.GOARCH+".zip"),
	}
	private, public := authtest.Keys(t)
	for variable, value := range map[string]string{
		"EBB_SIGNING_KEYS": private, "EBB_ADMIN_PASSWORD": shop.AdminPassword, personal.Variable: personal.NewKey(),
	} {
		in := map[string]any{"Name": "/" + name + "/" + variable, "Value": value, "Type": "SecureString"}
		if err := p.json("AmazonSSM.PutParameter", in, nil); err != nil {
			t.Fatal(err)
		}
	}

	e := newEnvironment(t, public)
	step(t, "terraform apply", func() error {
		_, err := e.run("apply", "-auto-approve", "-parallelism=40")
		return err
	})
	state, err := e.run("state", "pull")
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{private, shop.AdminPassword} {
		if strings.Contains(state, secret) {
			t.Error("the state has a secret")
		}
	}
	address, err := e.run("output", "-raw", "url")
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	front.next, front.respond = p.next, p.respond
	defer p.stop()
	step(t, "all sandboxes started", func() error { return p.serve(ctx, &running) })
	defer running.Wait()
	defer cancel()

	c := client(p.address, address)
	t.Run("orders", func(t *testing.T) { orders(t, p, c, front) })
	t.Run("poison", func(t *testing.T) { poison(t, p, c) })
	t.Run("gateway", func(t *testing.T) { behind(t, c) })
	lost, inits := p.figures()
	t.Logf("%d sandboxes were killed after their work; start of a process: median %s, longest %s", lost,
		inits[len(inits)/2], inits[len(inits)-1])
	if lost == 0 {
		t.Error("no sandbox was killed")
	}
	cancel()
	running.Wait()

	step(t, "terraform plan has no changes", e.unchanged)
	step(t, "terraform destroy", func() error {
		_, err := e.run("destroy", "-auto-approve", "-parallelism=40")
		return err
	})
	nothing(t, p)
}

// serve starts a sandbox for each function, the mappings of queues and the schedule.
func (p *platform) serve(ctx context.Context, running *sync.WaitGroup) error {
	mappings, err := p.mappings()
	if err != nil {
		return err
	}
	var list struct {
		Functions []struct{ FunctionName string }
	}
	if err := p.lambda(http.MethodGet, "/2015-03-31/functions", nil, &list); err != nil {
		return err
	}
	turns := map[string]*sync.Mutex{}
	for _, f := range list.Functions {
		if err := p.start(f.FunctionName); err != nil {
			return err
		}
		turns[f.FunctionName] = &sync.Mutex{}
	}
	// The emulator answers 500 for a function that no sandbox has served yet.
	err = within(time.Minute, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.inits) < len(p.sandboxes) {
			return fmt.Errorf("%d of %d sandboxes are ready", len(p.inits), len(p.sandboxes))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, m := range mappings {
		running.Go(func() {
			if err := p.poll(ctx, m, turns[last(m.FunctionArn)]); err != nil {
				p.t.Error(err)
			}
		})
	}
	var tick struct{ Target struct{ Arn, Input string } }
	err = p.call(ctx, http.MethodGet, "/schedules/"+name+"-clock", http.Header{}, "scheduler", nil, &tick)
	if err != nil {
		return err
	}
	running.Go(func() {
		every := time.NewTicker(time.Second)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			}
			clock := last(tick.Target.Arn)
			turns[clock].Lock()
			err := p.invoke(ctx, clock, json.RawMessage(tick.Target.Input), nil)
			if err != nil && ctx.Err() == nil {
				p.t.Log("a tick: ", err)
			}
			turns[clock].Unlock()
		}
	})
	return nil
}

// client returns a client of the HTTP API, whose name leads to the emulator.
func client(address, api string) *shop.Client {
	id := regexp.MustCompile(`[a-z0-9-]+`).FindString(strings.TrimPrefix(strings.TrimPrefix(api, "https://"), "http://"))
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	return &shop.Client{
		URL: "http://" + id + ".execute-api.localhost", HTTP: &http.Client{Transport: transport, Timeout: time.Minute},
	}
}

// orders has an order confirmed and another declined, and logs what one costs.
func orders(t *testing.T, p *platform, c *shop.Client, front *front) {
	ctx := t.Context()
	admin, err := c.Login(ctx, shop.AdminEmail, shop.AdminPassword)
	if err != nil {
		t.Fatal(err)
	}
	product, err := c.AddProduct(ctx, admin, "tea", 100, 100)
	if err != nil {
		t.Fatal(err)
	}
	who, err := c.Register(ctx, "ada")
	if err != nil {
		t.Fatal(err)
	}
	step(t, "orders knows the product", func() error { return c.ProductsKnown(ctx, who, product) })
	place := func(key, payment, want string) {
		step(t, "an order that is "+want, func() error {
			o, err := c.Place(ctx, who, key, payment, 0, shop.Line{ProductID: product, Quantity: 1})
			if err == nil {
				o, err = c.AwaitOrder(ctx, who, o.ID)
			}
			if err == nil && o.Status != want {
				err = fmt.Errorf("got %+v", o)
			}
			return err
		})
	}
	before := front.counted()
	for n := range 10 {
		place(fmt.Sprint("ok-", n), "tok_ok", "confirmed")
	}
	after := front.counted()
	for _, target := range slices.Sorted(maps.Keys(after)) {
		if n := after[target] - before[target]; n > 0 && target != "" {
			t.Logf("per order: %5.1f %s", float64(n)/10, target)
		}
	}
	p.kills(*killed)
	for n := range 10 {
		place(fmt.Sprint("killed-", n), "tok_ok", "confirmed")
	}
	place("declined", "tok_declined", "cancelled")

	var took []time.Duration
	for range 101 {
		began := time.Now()
		if err := c.Do(ctx, http.MethodGet, "/api/products/"+product, "", nil, nil); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("a warm request, through the emulator: median %s", took[50])
}

// poison publishes an event whose data fails its schema, mends its dead letter and has it delivered again.
func poison(t *testing.T, p *platform, c *shop.Client) {
	ctx := t.Context()
	const kind, follows = "dev.ebb.inventory.release.v1", "dev.ebb.inventory.released.v1"
	event := `{"specversion":"1.0","id":"poison-1","source":"/functions/orders","type":"` + kind +
		`","subject":"x","partitionkey":"x","time":"2026-11-30T00:00:00Z","datacontenttype":"application/json",` +
		`"data":{"order_id":7}}`
	form := url.Values{
		"Action": {"Publish"}, "Version": {"2010-03-31"},
		"TopicArn": {"arn:aws:sns:" + region + ":" + account + ":" + name + ".fifo"},
		"Message":  {event}, "MessageGroupId": {"x"}, "MessageDeduplicationId": {"poison-1"},
		"MessageAttributes.entry.1.Name": {"type"}, "MessageAttributes.entry.1.Value.DataType": {"String"},
		"MessageAttributes.entry.1.Value.StringValue": {kind},
	}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	if err := p.call(ctx, http.MethodPost, "/", header, "sns", []byte(form.Encode()), nil); err != nil {
		t.Fatal(err)
	}
	admin, err := c.Login(ctx, shop.AdminEmail, shop.AdminPassword)
	if err != nil {
		t.Fatal(err)
	}
	type letter struct{ ID, Function, Code, State string }
	letters := func() (found []letter, err error) {
		var page struct{ Items []letter }
		err = c.Do(ctx, http.MethodGet, "/api/archive/dead-letters", admin, nil, &page)
		for _, l := range page.Items {
			if strings.Contains(l.Function, "inventory") {
				found = append(found, l)
			}
		}
		return found, err
	}
	var id string
	step(t, "the poison event is a dead letter", func() error {
		return within(time.Minute, func() error {
			found, err := letters()
			if err == nil && len(found) == 0 {
				err = errors.New("no dead letter")
			}
			if err == nil {
				id = found[0].ID
			}
			return err
		})
	})
	mended := map[string]any{"data": map[string]any{"order_id": "01900000-0000-7000-8000-000000000000"}}
	if err := c.Do(ctx, http.MethodPut, "/api/archive/dead-letters/"+id, admin, mended, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(ctx, http.MethodPost, "/api/archive/dead-letters/"+id+"/replay", admin, nil, nil); err != nil {
		t.Fatal(err)
	}
	step(t, "mended, it is handled", func() error {
		return within(time.Minute, func() error {
			var text json.RawMessage
			err := c.Do(ctx, http.MethodGet, "/api/archive/events?type="+follows, admin, nil, &text)
			if err == nil && !strings.Contains(string(text), "01900000-0000-7000-8000-000000000000") {
				err = errors.New("no event follows from it")
			}
			return err
		})
	})
}

// behind asks for what the gateway serves.
func behind(t *testing.T, c *shop.Client) {
	var document struct{ Openapi string }
	err := c.Do(t.Context(), http.MethodGet, "/openapi.json", "", nil, &document)
	if err != nil || document.Openapi == "" {
		t.Errorf("the document: got %v, %v", document, err)
	}
	var refused *shop.Status
	err = c.Do(t.Context(), http.MethodGet, "/api/nothing/here", "", nil, nil)
	if !errors.As(err, &refused) || refused.Code != http.StatusNotFound || !strings.Contains(refused.Body, "title") {
		t.Errorf("a path that nothing serves: got %v", err)
	}
}

// nothing checks that nothing is left.
func nothing(t *testing.T, p *platform) {
	t.Helper()
	holds := func(text json.RawMessage) bool { return strings.Contains(string(text), name) }
	for target, member := range map[string]string{
		"AmazonSQS.ListQueues": "QueueUrls", "DynamoDB_20120810.ListTables": "TableNames",
		"Logs_20140328.DescribeLogGroups": "logGroups",
	} {
		var out map[string]json.RawMessage
		if err := p.json(target, map[string]any{}, &out); err != nil || holds(out[member]) {
			t.Errorf("%s: got %s, %v", target, out[member], err)
		}
	}
	for _, c := range []struct{ service, path, member string }{
		{"lambda", "/2015-03-31/functions", "Functions"},
		{"lambda", "/2015-03-31/event-source-mappings", "EventSourceMappings"},
		{"apigateway", "/v2/apis", "items"}, {"scheduler", "/schedules", "Schedules"},
	} {
		var out map[string]json.RawMessage
		err := p.call(t.Context(), http.MethodGet, c.path, http.Header{}, c.service, nil, &out)
		if err != nil || holds(out[c.member]) {
			t.Errorf("%s: got %s, %v", c.path, out[c.member], err)
		}
	}
}

// within repeats f until it succeeds, or limit is over.
func within(limit time.Duration, f func() error) error {
	for end := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		if err := f(); err == nil || time.Now().After(end) {
			return err
		}
	}
}
