// Package test holds what spans functions.
package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ebb-dev/ebb"

// layer is a group of packages and what they may import. Packages are named by their path in the module, "." for the
// root; "path/..." is the package and all below it, and "*" begins any one element of a path. In what a layer may
// import, "$" is the part of the importer's path that stands before "/...", so that "$/..." is its own folder.
type layer struct {
	packages string
	may      string // packages of the module, with spaces between
	tests    string // that its tests may import besides
	outside  string // packages of other modules, with spaces between; "": any, "none": the standard library only
}

// layers are the allowed imports. The first layer that a package is in holds for it; a package in none is an error.
var layers = []layer{
	// The kit's foundations.
	{packages: "infra/fault", outside: "none"},
	{packages: "infra/event", tests: "infra/event/eventtest", outside: "github.com/cloudevents/sdk-go/v2/..."},
	{packages: "infra/event/*", may: "infra/event infra/event/golden", outside: "github.com/cloudevents/sdk-go/v2/..."},
	{packages: "infra/internal/httpevent", may: "infra/fault infra/event"},
	{packages: "infra/internal/pubsubevent", may: "infra/fault infra/event"},
	{packages: "infra/internal/*/...", may: "infra/fault infra/internal/..."},
	{packages: "infra/auth/...", may: "infra/fault infra/auth/... infra/internal/jsonlimit"},
	{packages: "infra/mtls", may: "infra/auth infra/fault infra/problem infra/internal/..."},
	{packages: "infra/config", may: "infra/internal/..."},
	{packages: "infra/config/source", may: "infra/config infra/internal/..."},
	{packages: "infra/telemetry", may: "infra/fault infra/problem infra/internal/..."},
	{packages: "infra/problem", may: "infra/fault"},
	{packages: "infra/httprequest", may: "infra/fault infra/problem"},
	{packages: "infra/httpserver", may: "infra/fault infra/problem infra/internal/..."},

	// Ports, their drivers and the suites of the drivers. A driver knows its port and no other driver; only hosts and
	// infra/store/open choose one.
	{packages: "infra/store", may: "infra/fault infra/store/internal/...", tests: "infra/store/memory"},
	{packages: "infra/store/internal/...", may: "infra/fault infra/store infra/store/internal/..."},
	{packages: "infra/store/storetest", may: "infra/fault infra/store", tests: "infra/store/memory"},
	{
		packages: "infra/store/dynamodb", may: "infra/fault infra/store infra/store/internal/... infra/internal/...",
		tests: "infra/store/storetest infra/store/dynamodb/dynamodbtest",
	},
	{packages: "infra/store/open", may: "infra/fault infra/store/... infra/internal/..."},
	{
		packages: "infra/store/*/...", may: "infra/fault infra/store infra/store/internal/... infra/internal/... $/...",
		tests: "infra/store/storetest",
	},
	{packages: "infra/broker", may: "infra/fault infra/broker/internal/...", tests: "infra/broker/memory"},
	{
		packages: "infra/broker/internal/*/*test",
		may:      "infra/fault infra/broker infra/broker/brokertest infra/broker/internal/...",
	},
	{packages: "infra/broker/internal/attempts", may: "infra/fault infra/blob infra/broker/internal/delivery"},
	{
		packages: "infra/broker/internal/...",
		may:      "infra/fault infra/event infra/broker infra/broker/breaker infra/broker/internal/...",
		tests:    "infra/broker/brokertest infra/broker/memory",
	},
	{packages: "infra/broker/open", may: "infra/fault infra/broker infra/broker/* infra/internal/...",
		tests: "infra/broker/open/aws"},
	{packages: "infra/broker/open/aws", may: "infra/broker/open infra/broker/sqs"},
	{packages: "infra/broker/brokertest", may: "infra/fault infra/event infra/broker"},
	{
		packages: "infra/broker/httpapi", may: "infra/fault infra/problem infra/broker infra/internal/...",
		tests: "infra/broker/memory",
	},
	{
		packages: "infra/broker/conformance/...", may: "infra/fault infra/internal/lifetime $/...",
		tests: "infra/broker infra/broker/httpapi infra/broker/memory infra/broker/nats infra/broker/nats/embedded",
	},
	{
		packages: "infra/broker/sqs/...",
		may: "infra/fault infra/event infra/blob infra/blob/open infra/blob/open/aws infra/broker" +
			" infra/broker/internal/... infra/internal/... $/...",
		tests: "infra/blob/files infra/broker/brokertest",
	},
	{
		packages: "infra/broker/pubsub",
		may: "infra/fault infra/event infra/blob infra/blob/open infra/blob/open/google infra/broker" +
			" infra/broker/internal/... infra/internal/...",
		tests: "infra/blob/files infra/broker/brokertest",
	},
	{
		packages: "infra/broker/*/...",
		may:      "infra/fault infra/event infra/broker infra/broker/internal/... infra/internal/... $/...",
		tests:    "infra/broker/brokertest infra/ratelimit/redis/redistest",
	},
	{packages: "infra/blob", may: "infra/fault", tests: "infra/blob/files"},
	{packages: "infra/blob/blobtest", may: "infra/fault infra/blob"},
	{packages: "infra/blob/open", may: "infra/fault infra/blob infra/blob/files", tests: "infra/blob/open/google"},
	{packages: "infra/blob/open/aws", may: "infra/blob infra/blob/open infra/blob/s3"},
	{packages: "infra/blob/open/google", may: "infra/blob infra/blob/open infra/blob/gcs"},
	{packages: "infra/blob/internal/...", may: "infra/fault infra/blob"},
	{
		packages: "infra/blob/*", may: "infra/fault infra/blob infra/blob/internal/... infra/internal/...",
		tests: "infra/blob/blobtest",
	},
	{packages: "infra/discovery", may: "infra/fault"},
	{packages: "infra/discovery/*/...", may: "infra/fault infra/discovery infra/internal/... $/..."},
	{packages: "infra/balance/...", may: "infra/fault infra/discovery infra/internal/... $/..."},
	{
		packages: "infra/proxy/...",
		may:      "infra/fault infra/problem infra/discovery infra/balance infra/internal/... $/...",
		tests:    "infra/discovery/static infra/mtls",
	},
	{packages: "infra/ratelimit", outside: "none"},
	{packages: "infra/ratelimit/ratelimittest", may: "infra/ratelimit"},
	{packages: "infra/ratelimit/redis/redistest", outside: "none"},
	{
		packages: "infra/ratelimit/*", may: "infra/ratelimit",
		tests: "infra/ratelimit/memory infra/ratelimit/ratelimittest infra/ratelimit/redis/redistest",
	},
	{packages: "infra/cache", may: "infra/fault", tests: "infra/cache/memory"},
	{packages: "infra/cache/cachetest", may: "infra/cache"},
	{packages: "infra/cache/open", may: "infra/cache/..."},
	{packages: "infra/cache/*", may: "infra/cache", tests: "infra/cache/cachetest infra/ratelimit/redis/redistest"},
	{
		packages: "infra/flag/provider", may: "infra/fault infra/event infra/flag infra/function infra/store",
		tests: "infra/function/functiontest",
	},
	{packages: "infra/flag/...", may: "infra/fault infra/event infra/store $/..."},

	// What functions are made of.
	{packages: "infra/policy", outside: "none"},
	{packages: "infra/manifest", may: "infra/broker infra/config infra/event infra/policy infra/store"},
	{packages: "infra/host", may: "infra/broker infra/manifest"},
	{
		packages: "infra/function", may: kit + " infra/host infra/internal/...",
		tests: "infra/function/functiontest infra/store/memory infra/broker/memory",
	},
	{packages: "infra/function/functiontest", may: kit + " infra/function infra/host infra/store/memory"},
	{
		packages: "infra/outside",
		may: "infra/auth infra/event infra/fault infra/function infra/manifest infra/personal infra/store infra/telemetry " +
			"infra/internal/...",
		tests: "infra/function/functiontest infra/store/memory",
	},
	{packages: "infra/personal", may: "infra/fault", outside: "none"},
	{packages: "infra/cron", may: "infra/event infra/function infra/manifest",
		tests: "infra/broker infra/function/functiontest infra/store"},
	{packages: "infra/rpc", may: "infra/function infra/manifest"},
	{
		packages: "infra/rpc/transcode", may: "infra/fault infra/manifest infra/problem infra/internal/jsonlimit",
		tests: "infra/function infra/rpc",
	},
	{packages: "infra/journal", may: "infra/fault infra/function infra/personal infra/store",
		tests: "infra/function/functiontest infra/config infra/event infra/store/memory"},
	{
		packages: "infra/saga", may: "infra/auth infra/event infra/fault infra/function infra/journal infra/store",
		tests: "infra/function/functiontest infra/store/memory infra/telemetry",
	},
	{
		packages: "infra/generate", may: "infra/auth infra/event infra/manifest infra/store/firestore/layout",
		tests: "infra/function infra/store",
	},
	{packages: "infra/generate/clients", outside: "none"},
	{packages: "api/client", outside: "none"}, // generated
	{
		packages: "infra/gateway/...",
		may: kit + " infra/balance infra/cache infra/cache/memory infra/proxy infra/generate infra/ratelimit" +
			" infra/ratelimit/memory infra/rpc/transcode infra/internal/... $/...",
		tests: "infra/discovery/static infra/function infra/function/functiontest infra/httpserver infra/rpc" +
			" infra/cache/redis infra/ratelimit/redis/redistest",
	},

	// What runs them. Hosts know functions by host.Instance; those that compose a system know a driver too.
	{packages: "infra/rerun", may: "infra/function"},
	{packages: "infra/system", may: "infra/event infra/function infra/generate infra/manifest infra/rerun"},
	{
		packages: "infra/simulate/...",
		may:      kit + " infra/broker/breaker infra/function infra/host infra/saga infra/system infra/store/memory $/...",
	},
	{
		packages: "infra/timemachine",
		may:      kit + " infra/function infra/rerun infra/saga infra/simulate infra/system",
	},
	{packages: "infra/host/memlimit"},
	{packages: "infra/host/hosttest", may: kit + " infra/host infra/function infra/store/memory"},
	{
		packages: "infra/host/knative", may: kit + " infra/host infra/httpserver infra/internal/... infra/mtls",
		tests: "infra/function infra/host/hosttest infra/store/memory",
	},
	{
		packages: "infra/host/lambda", may: kit + " infra/host",
		tests: "infra/function infra/host/hosttest infra/store/memory infra/store/sqlite",
	},
	{packages: "infra/host/internal/settings", may: kit + " infra/auth/oidc infra/function infra/broker/knative"},
	{
		packages: "infra/host/lambdarun",
		may: kit + " infra/function infra/host/internal/settings infra/host/lambda infra/host/memlimit infra/system" +
			" infra/internal/awsconfig infra/broker/sqs/sns infra/store/dynamodb infra/store/memory",
	},
	{
		packages: "infra/host/lambdarun/postgres", may: "infra/host/lambdarun infra/store/postgres",
		tests: "infra/config infra/function infra/system",
	},
	{
		packages: "infra/host/run",
		may: kit + " infra/auth/oidc infra/config/source infra/function infra/host infra/host/internal/settings" +
			" infra/host/knative infra/host/memlimit infra/httpserver infra/system infra/internal/... infra/mtls" +
			" infra/proxy infra/broker/knative infra/broker/open infra/broker/pubsub infra/store/open",
		tests: "infra/auth/authtest infra/broker/brokertest infra/broker/memory infra/store/memory",
	},
	{
		packages: "infra/host/local",
		may: kit + " infra/auth/oidc infra/function infra/host infra/httpserver infra/system infra/internal/..." +
			" infra/broker/nats infra/broker/nats/embedded infra/store/sqlite",
	},
	{packages: "infra/scaffold"},
	{packages: "infra/cli/...", may: "infra/..."},

	// A product: here the shop. Its functions take ports and never drivers, hosts or one another.
	{packages: "events", may: "infra/event", tests: "infra/event/eventtest", outside: "none"},
	{
		packages: "functions",
		may:      "events functions/... infra/auth infra/event infra/function infra/generate infra/system",
		tests:    "infra/function/functiontest infra/simulate infra/store/golden",
	},
	{ // the gateway chooses a driver by its settings
		packages: "functions/gateway",
		may: kit + " infra/function infra/generate infra/gateway infra/gateway/policyfile infra/balance infra/proxy" +
			" infra/discovery/dns infra/ratelimit infra/ratelimit/redis infra/cache infra/cache/open",
		tests: "infra/discovery/static infra/function/functiontest infra/host" +
			" infra/ratelimit/redis/redistest",
	},
	{ // a client of the gateway, which its host may know
		packages: "functions/console",
		may: "infra/auth infra/discovery infra/fault infra/function infra/httpserver infra/manifest infra/problem" +
			" infra/telemetry",
	},
	{
		packages: "functions/*/...",
		may: "events " + kit +
			" infra/function infra/saga infra/journal infra/outside infra/cron infra/rpc infra/generate infra/flag/..." +
			" infra/rerun $/...",
		tests: "infra/function/functiontest infra/simulate infra/store/memory",
	},
	{packages: ".", may: "..."},
	{packages: "cmd/...", may: "..."},
	{packages: "test/...", may: "..."},
}

// kit is what functions and all that is about them may use: plain data, ports without drivers, and the foundations.
const kit = "infra/auth infra/auth/apikey infra/auth/keyfile infra/broker infra/config infra/discovery" +
	" infra/event infra/fault" +
	" infra/httprequest infra/manifest infra/personal infra/policy infra/problem infra/store infra/telemetry"

// match reports whether the path is one that the pattern names, and returns the part of it before "/...".
func match(pattern, path string) (base string, ok bool) {
	pattern, below := strings.CutSuffix("/"+pattern, "/...")
	want, got := strings.Split(pattern, "/"), strings.Split("/"+path, "/")
	if len(got) < len(want) || len(got) > len(want) && !below {
		return "", false
	}
	for i, w := range want {
		switch suffix, wild := strings.CutPrefix(w, "*"); {
		case wild && strings.HasSuffix(got[i], suffix):
		case w != got[i]:
			return "", false
		}
	}
	return strings.Join(got[1:len(want)], "/"), true
}

// layerOf returns the layer of a package and what "$" stands for in it.
func layerOf(path string) (l layer, base string, ok bool) {
	for _, l := range layers {
		if base, ok := match(l.packages, path); ok {
			return l, base, true
		}
	}
	return layer{}, "", false
}

// inModule returns the path of a package in the module.
func inModule(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

// refused returns why a package, or its test, may not import another; "" when it may.
func refused(from, to string, test bool) string {
	from, _ = inModule(from)
	l, base, ok := layerOf(from)
	if !ok {
		return "it is in no layer"
	}
	allowed := l.outside
	to, ours := inModule(to)
	switch {
	case ours && test:
		allowed = l.may + " " + l.tests + " " + from
	case ours:
		allowed = l.may
	case test || l.outside == "" || !strings.Contains(strings.Split(to, "/")[0], "."):
		return ""
	}
	all := strings.Fields(strings.ReplaceAll(allowed, "$", base))
	for _, pattern := range all {
		if _, ok := match(pattern, to); ok {
			return ""
		}
	}
	return fmt.Sprintf("%s may import %q", l.packages, all)
}

type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) (all []listed) {
	t.Helper()
	fields := "-json=ImportPath,Imports,TestImports,XTestImports"
	d := json.NewDecoder(strings.NewReader(goList(t, fields, module+"/...")))
	for {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// goList returns what go list prints. It reads every folder of the module first: go test keeps a result until a file or
// folder that the test has read changes, and does not see what go list reads.
func goList(t *testing.T, args ...string) string {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	return string(out)
}

// Every import of every package and of its tests is one that its layer may have.
func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		path, _ := inModule(p.ImportPath)
		if _, _, ok := layerOf(path); !ok {
			t.Errorf("%s is in no layer: add it to one in layers", p.ImportPath)
			continue
		}
		for _, to := range p.Imports {
			if why := refused(p.ImportPath, to, false); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, why)
			}
		}
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			if why := refused(p.ImportPath, to, true); why != "" {
				t.Errorf("a test of %s imports %s: %s", p.ImportPath, to, why)
			}
		}
	}
}

// The rule refuses the imports that it should, and allows those that the design names.
func TestRefusedArrows(t *testing.T) {
	const own = module + "/"
	for _, c := range []struct {
		from, to string
		test     bool
	}{
		{"infra/event", own + "infra/store", false},
		{"infra/event", own + "events", true},
		{"infra/event", "github.com/google/uuid", false},
		{"infra/fault", "github.com/google/uuid", false},
		{"infra/saga", own + "infra/host", false},
		{"infra/saga", own + "events", true},
		{"infra/manifest", own + "infra/function", false},
		{"infra/function", own + "events", false},
		{"infra/function", own + "events", true},
		{"infra/function", own + "functions/users", false},
		{"infra/function", own + "infra/store/memory", false},
		{"infra/function", own + "infra/host/local", true},
		{"infra/host/local", own + "functions", true},
		{"infra/host/local", own + "cmd/ebb", false},
		{"infra/host/knative", own + "infra/store/sqlite", false},
		{"infra/simulate", own + "events", true},
		{"infra/cli", own + "functions", false},
		{"infra/cli", own + "functions", true},
		{"infra/store", own + "infra/store/sqlite", false},
		{"infra/store/sqlite", own + "infra/store/memory", false},
		{"infra/store/sqlite", own + "infra/store/open", false},
		{"infra/store/sqlite", own + "infra/broker", false},
		{"infra/broker/memory", own + "infra/broker/nats", true},
		{"infra/discovery", own + "infra/discovery/dns", false},
		{"infra/discovery/dns", own + "infra/discovery/static", true},
		{"infra/discovery/dns", own + "infra/proxy", false},
		{"infra/balance", own + "infra/proxy", false},
		{"infra/gateway", own + "infra/discovery/dns", false},
		{"infra/gateway", own + "infra/function", false},
		{"functions/gateway", own + "functions/users", false},
		{"functions/gateway", own + "infra/host/local", true},
		{"functions/users", own + "infra/discovery/dns", false},
		{"infra/store/strange", own + "infra/function", false},
		{"events", own + "infra/fault", false},
		{"events", own + "functions/orders", true},
		{"events", "github.com/google/uuid", false},
		{"functions/users", own + "functions/orders", false},
		{"functions/users", own + "functions/orders", true},
		{"functions/users", own + "infra/store/sqlite", false},
		{"functions/users", own + "infra/store/open", false},
		{"functions/users", own + "infra/broker/memory", true},
		{"functions/users", own + "infra/host/local", false},
		{"functions/users", own + "infra/cli", false},
		{"functions/users", own + "infra/system", false},
		{"functions/users", own + "test/shop", true},
		{"functions/payments/stripe", own + "functions/orders", false},
		{"functions", own + "infra/host/local", false},
		{"infra/new", own + "infra/fault", false}, // in no layer
	} {
		if refused(own+c.from, c.to, c.test) == "" {
			t.Errorf("%s may import %s (test: %v)", c.from, c.to, c.test)
		}
	}
	for _, c := range [][2]string{
		{"functions/orders", own + "infra/saga"},
		{"functions/orders", own + "events"},
		{"functions/payments", own + "functions/payments/stripe"},
		{"functions/payments/stripe", own + "functions/payments/provider"},
		{"infra/store/firestore", own + "infra/store/firestore/layout"},
		{"infra/store/firestore", "cloud.google.com/go/firestore"},
		{"events", own + "infra/event"},
		{"events", "encoding/json"},
		{"cmd/function", own + "functions"},
		{"test/shop", module},
	} {
		if why := refused(own+c[0], c[1], false); why != "" {
			t.Errorf("%s may not import %s: %s", c[0], c[1], why)
		}
	}
}

// The package for Lambda has no client of a broker or a cache that Lambda does not use: it stays below its limit.
func TestLeanLambda(t *testing.T) {
	for _, dep := range strings.Fields(goList(t, "-tags", "lambda", "-deps", module+"/cmd/lambda")) {
		for _, heavy := range []string{
			"github.com/redis/...", "github.com/twmb/franz-go/...", "github.com/nats-io/...", "github.com/rabbitmq/...",
			"github.com/aws/aws-sdk-go-v2/service/sqs/...", "github.com/aws/aws-sdk-go-v2/service/s3/...", "testing",
		} {
			if _, ok := match(heavy, dep); ok {
				t.Errorf("cmd/lambda links %s", dep)
			}
		}
	}
}

// A program that hosts one function links nothing that only a developer's command or a test needs, so that it is small
// and quick to start.
func TestLean(t *testing.T) {
	for _, program := range []string{module + "/cmd/function", module} {
		for _, dep := range strings.Fields(goList(t, "-deps", program)) {
			dep = strings.TrimPrefix(dep, module+"/")
			for _, heavy := range []string{
				"github.com/nats-io/nats-server/...", "github.com/spf13/...",
				"testing", "pgregory.net/...", "github.com/anishathalye/porcupine",
				"infra/cli/...", "infra/host/local", "infra/simulate/...", "infra/broker/nats/embedded", "infra/broker/memory",
				"infra/broker/httpapi", "infra/broker/open/aws", "infra/broker/sqs/...",
				"infra/broker/conformance/...", "infra/broker/brokertest", "infra/store/storetest",
				"infra/function/functiontest", "infra/event/golden", "infra/event/eventtest", "cmd/ebb/...", "test/...",
			} {
				if _, ok := match(heavy, dep); ok {
					t.Errorf("%s links %s", program, dep)
				}
			}
		}
	}
}
