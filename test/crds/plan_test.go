package crds

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// options are values of an environment's variables.
type options map[string]any

// every has each option that makes further objects, or further members of them.
func every(mesh string) options {
	return options{
		"mesh": mesh, "internal_tls": true, "hosts": []string{"shop.example.com"}, "scheme": "https",
		"metrics_secret": "ebb-metrics", "image_pull_secrets": []string{"registry"}, "image_pull_policy": "IfNotPresent",
		"monitor": options{"namespace": "monitoring", "labels": map[string]string{"release": "prometheus"}},
		"canaries": options{"orders": options{
			"image": "registry.example.com/ebb@sha256:" + strings.Repeat("1", 64), "percent": 10,
		}},
		"verification_keys": nil, "signing_keys": options{
			"secret": "ebb-signing-keys", "api_server": options{"cidrs": []string{"192.0.2.1/32"}},
		},
		"service_account_annotations": options{"orders": map[string]string{"example.com/role": "orders"}},
	}
}

// plans are the options that each environment is planned with.
var plans = map[string]options{
	"as in the example": {},
	"everything":        every("none"),
	"istio-ambient":     every("istio-ambient"),
	"linkerd":           every("linkerd"),
}

// kinds are those that a plan with everything makes. The channel is dev's.
var kinds = []string{
	"Broker", "ClusterDomainClaim", "ConfigMap", "CronJob", "DomainMapping", "Namespace", "NetworkPolicy", "PingSource",
	"PodMonitor", "Role", "RoleBinding", "Service", "ServiceAccount", "SinkBinding", "Trigger",
}

// Every object that a plan of an environment makes is one that an API server with the CRDs accepts, and keeps all
// members of.
func TestPlans(t *testing.T) {
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("Terraform is not installed: https://developer.hashicorp.com/terraform/install")
	}
	mirror, err := filepath.Abs("../../bin/terraform")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mirror); err != nil {
		t.Skip("no provider in bin/terraform: run make tools")
	}
	s, dir := newServer(t), t.TempDir()
	if out, err := exec.Command("cp", "-R", "../../terraform", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, environment := range []string{"dev", "staging", "prod"} {
		e := terraform{t, filepath.Join(dir, "terraform/environments", environment)}
		e.run("init", "-backend=false", "-plugin-dir="+mirror, "-input=false")
		for name, o := range plans {
			t.Run(environment+"/"+name, func(t *testing.T) { s.checkPlan(terraform{t, e.dir}, name, o) })
		}
	}
}

// checkPlan validates the objects of one plan.
func (s *server) checkPlan(e terraform, name string, o options) {
	e.t.Helper()
	var seen []string
	for address, text := range e.plan(o) {
		kind, err := s.check([]byte(text))
		if err != nil {
			e.t.Errorf("%s: %v\n%s", address, err, text)
		}
		seen = append(seen, kind)
	}
	slices.Sort(seen)
	e.t.Logf("%d objects: %v", len(seen), slices.Compact(slices.Clone(seen)))
	for _, kind := range kinds {
		if len(o) > 0 && !slices.Contains(seen, kind) {
			e.t.Errorf("%s makes no %s", name, kind)
		}
	}
}

// terraform is an environment's folder.
type terraform struct {
	t   *testing.T
	dir string
}

func (e terraform) run(args ...string) []byte {
	e.t.Helper()
	c := exec.CommandContext(e.t.Context(), "terraform", args...)
	c.Dir = e.dir
	c.Env = append(os.Environ(), "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE=/dev/null")
	out, err := c.Output()
	if err != nil {
		var stderr []byte
		if failed, ok := err.(*exec.ExitError); ok {
			stderr = failed.Stderr
		}
		e.t.Fatalf("terraform %s: %v\n%s%s", args[0], err, out, stderr)
	}
	return out
}

// module is a module of a plan in JSON.
type module struct {
	Resources []struct {
		Address, Type string
		Values        struct {
			Body string `json:"yaml_body_parsed"`
		}
	}
	Children []module `json:"child_modules"`
}

// plan returns the YAML of the Kubernetes objects of a plan, by their address.
func (e terraform) plan(o options) map[string]string {
	e.t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(e.dir, "options.auto.tfvars.json"), text, 0o600); err != nil {
		e.t.Fatal(err)
	}
	e.run("plan", "-no-color", "-input=false", "-lock=false", "-out=plan", "-var-file=../example.tfvars",
		"-var", "kubeconfig=/nowhere", "-var-file=options.auto.tfvars.json")
	var shown struct {
		Planned struct {
			Root module `json:"root_module"`
		} `json:"planned_values"`
	}
	if err := json.Unmarshal(e.run("show", "-json", "plan"), &shown); err != nil {
		e.t.Fatal(err)
	}
	objects := map[string]string{}
	var collect func(m module)
	collect = func(m module) {
		for _, r := range m.Resources {
			if r.Type != "kubectl_manifest" {
				continue
			}
			if r.Values.Body == "" {
				e.t.Errorf("%s is not known when it is planned", r.Address)
				continue
			}
			objects[r.Address] = r.Values.Body
		}
		for _, c := range m.Children {
			collect(c)
		}
	}
	collect(shown.Planned.Root)
	if len(objects) < 20 {
		e.t.Errorf("the plan has %d objects", len(objects))
	}
	return objects
}
