package crds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	strict "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// source is a module that has CRDs, and its sum in go.sum's form: it is no dependency of this module, because the CRDs
// are all that is read of it.
type source struct {
	module, sum string
	files       []string
}

// sources are the CRDs of the kinds that are made. Knative's operator has the manifests of released versions of Serving
// and Eventing. Of two CRDs of a kind both count.
var sources = []source{
	{"knative.dev/operator@v0.42.2", "h1:wgAWYHwoSFmV+wPHCt5dZahHTHLy2VCM4G82PEo9iSc=", []string{
		"cmd/operator/kodata/knative-serving/1.15.2/1-serving-crds.yaml",
		"cmd/operator/kodata/knative-eventing/1.15.0/1-eventing-crds.yaml",
		"cmd/operator/kodata/knative-eventing/1.15.0/4-in-memory-channel.yaml",
	}},
	{"knative.dev/serving@v0.51.0", "h1:yN2Q7eYqJgoPfZkATjoBZyGbZ2P1Qhns9HIMU4mF+to=", []string{
		"config/core/300-resources/service.yaml", "config/core/300-resources/domain-mapping.yaml",
	}},
	{
		"github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
		[]string{"example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"},
	},
}

// download returns the directory of the module, whose sum is checked.
func (s source) download(t *testing.T) string {
	t.Helper()
	c := exec.Command("go", "mod", "download", "-json", s.module)
	c.Dir = t.TempDir()
	c.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := c.Output()
	var got struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &got); err != nil || jsonErr != nil || got.Sum != s.sum {
		t.Fatalf("go mod download %s: %v, %s, the sum is %s", s.module, err, got.Error, got.Sum)
	}
	return got.Dir
}

// server validates objects as an API server does, without its admission.
type server struct {
	custom   map[string][]*custom // by API version and kind
	builtin  runtime.Decoder
	builtins *runtime.Scheme
}

// custom is a kind of a CRD.
type custom struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
	namespaced bool
}

// newServer returns a server with the CRDs of the sources.
func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{custom: map[string][]*custom{}, builtins: runtime.NewScheme()}
	for _, add := range []func(*runtime.Scheme) error{
		core.AddToScheme, networking.AddToScheme, rbac.AddToScheme, batch.AddToScheme,
	} {
		if err := add(s.builtins); err != nil {
			t.Fatal(err)
		}
	}
	s.builtin = serializer.NewCodecFactory(s.builtins, serializer.EnableStrict).UniversalDeserializer()
	for _, source := range sources {
		dir := source.download(t)
		for _, file := range source.files {
			if err := s.add(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

// add adds the kinds of the CRDs of a file.
func (s *server) add(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal([]byte(document), &crd); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if crd.Kind != "CustomResourceDefinition" {
			continue
		}
		for _, v := range crd.Spec.Versions {
			c, err := newCustom(v.Schema.OpenAPIV3Schema, crd.Spec.Scope == apiextensionsv1.NamespaceScoped)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", path, crd.Name, err)
			}
			name := crd.Spec.Group + "/" + v.Name + " " + crd.Spec.Names.Kind
			s.custom[name] = append(s.custom[name], c)
		}
	}
	return nil
}

func newCustom(given *apiextensionsv1.JSONSchemaProps, namespaced bool) (*custom, error) {
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(given, &props, nil); err != nil {
		return nil, err
	}
	c := &custom{namespaced: namespaced}
	var err error
	if c.structural, err = schema.NewStructural(&props); err != nil {
		return nil, err
	}
	if c.validator, _, err = validation.NewSchemaValidator(&props); err != nil {
		return nil, err
	}
	c.rules = cel.NewValidator(c.structural, true, celconfig.PerCallLimit)
	return c, nil
}

// check returns the kind of an object in YAML, and what a server has against it: also members that the server would
// drop.
func (s *server) check(text []byte) (kind string, err error) {
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return "", err
	}
	object := map[string]any{}
	if err := utiljson.Unmarshal(raw, &object); err != nil { // whole numbers stay whole
		return "", err
	}
	version, _ := object["apiVersion"].(string)
	kind, _ = object["kind"].(string)
	if all, ok := s.custom[version+" "+kind]; ok {
		for _, c := range all {
			err = errors.Join(err, c.check(raw, runtime.DeepCopyJSON(object)))
		}
		return kind, err
	}
	o, _, err := s.builtin.Decode(raw, nil, nil)
	if err != nil {
		return kind, err
	}
	again, err := json.Marshal(o)
	if err != nil || !bytes.Contains(again, []byte(`"kind":"`+kind+`"`)) {
		return kind, fmt.Errorf("decoded as %s, %w", again, err)
	}
	return kind, nil
}

func (c *custom) check(raw []byte, object map[string]any) error {
	var envelope struct {
		Metadata json.RawMessage `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &envelope); err != nil {
		return err
	}
	var faults []error
	var meta metav1.ObjectMeta
	unknown, err := strict.UnmarshalStrict(envelope.Metadata, &meta)
	faults = append(append(faults, err), unknown...)
	for _, e := range apivalidation.ValidateObjectMeta(&meta, c.namespaced, apivalidation.NameIsDNSSubdomain, nil) {
		faults = append(faults, e)
	}
	for _, path := range pruning.PruneWithOptions(runtime.DeepCopyJSON(object), c.structural, true,
		schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		faults = append(faults, fmt.Errorf("unknown member %s", path))
	}
	defaulting.Default(object, c.structural)
	for _, e := range validation.ValidateCustomResource(nil, object, c.validator) {
		faults = append(faults, e)
	}
	if c.rules != nil {
		broken, _ := c.rules.Validate(context.Background(), nil, c.structural, object, nil, celconfig.RuntimeCELCostBudget)
		for _, e := range broken {
			faults = append(faults, e)
		}
	}
	return errors.Join(faults...)
}

// What is wrong is found: in kinds of CRDs, and in those that every cluster has.
func TestFaultsAreFound(t *testing.T) {
	s := newServer(t)
	const (
		broker  = "{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: "
		trigger = "{apiVersion: eventing.knative.dev/v1, kind: Trigger, metadata: {name: a, namespace: b}, spec: "
		monitor = "{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {name: a, namespace: b}, spec: "
		policy  = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: "
		service = "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: a, namespace: b}, spec: "
	)
	for name, c := range map[string]struct{ object, want string }{
		"good":                {trigger + "{broker: default, subscriber: {uri: 'http://a'}}}", ""},
		"an unknown member":   {trigger + "{broker: default, subscriber: {url: 'http://a'}}}", "spec.subscriber.url"},
		"a wrong type":        {trigger + "{broker: 1}}", "spec.broker"},
		"twice":               {trigger + "{broker: a, broker: b}}", "already set"},
		"a label":             {broker + "{name: a, namespace: b, labels: {c: 'd e'}}}", "labels"},
		"no namespace":        {broker + "{name: a}}", "namespace"},
		"a list that is none": {monitor + "{selector: {}, podMetricsEndpoints: {}}}", "podMetricsEndpoints"},
		"another value": {
			monitor + "{selector: {}, podMetricsEndpoints: [], scrapeProtocols: [Text]}}", "Unsupported value",
		},
		"a member of a policy": {policy + "{podSelector: {}, egres: []}}", "egres"},
		"a volume": {
			service + "{template: {spec: {containers: [{image: a, volumeMounts: [{path: /b}]}]}}}}", "path",
		},
		"a kind": {"{apiVersion: example.com/v1, kind: Thing}", "no kind"},
	} {
		_, err := s.check([]byte(c.object))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
