package test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// What version 0.36.0 of the func CLI's file may hold: each key with a check of its value. The schema closes every
// object.
type keys map[string]func(any) error

var funcYAML = keys{
	"specVersion": exactly("0.36.0"),
	"name":        matching(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`),
	"domain":      matching(``),
	"runtime":     exactly("go"),
	"registry":    matching(``),
	"image":       matching(``),
	"namespace":   matching(``),
	"created":     timestamp,
	// Any other would make the CLI look for another signature than ours.
	"invoke": exactly("http"),
	"build": object(keys{
		"git":                object(keys{"url": matching(``), "revision": matching(``), "contextDir": matching(``)}),
		"builderImages":      texts,
		"buildpacks":         list(matching(``)),
		"builder":            exactly("pack", "s2i"),
		"buildEnvs":          list(variable),
		"pvcSize":            matching(``),
		"remoteStorageClass": matching(``),
	}),
	"run": object(keys{"volumes": list(object(nil)), "envs": list(variable), "startTimeout": number}),
	"deploy": object(keys{
		"namespace":   matching(``),
		"image":       matching(``),
		"annotations": texts,
		"options": object(keys{
			"scale": object(keys{"min": number, "max": number, "metric": exactly("concurrency", "rps"), "target": number,
				"utilization": number}),
			"resources": object(keys{
				"requests": object(keys{"cpu": quantity, "memory": quantity}),
				"limits":   object(keys{"cpu": quantity, "memory": quantity, "concurrency": number}),
			}),
		}),
		"labels": list(object(keys{"key": matching(`^([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`),
			"value": matching(``)})),
		"healthEndpoints": object(keys{"liveness": exactly("/health/liveness"),
			"readiness": exactly("/health/readiness")}),
		"serviceAccountName": matching(``),
		"subscriptions":      list(object(keys{"source": matching(`.`), "filters": texts})),
	}),
}

// Without these the CLI takes the folder for one that holds no function, or for an older version to migrate.
var funcYAMLRequired = []string{"specVersion", "created"}

var variable = object(keys{"name": matching(`^[-._a-zA-Z][-._a-zA-Z0-9]*$`), "value": matching(``)})

var quantity = matching(`^[+-]?[0-9.]+[eEinumkKMGTP]*[-+]?[0-9]*$`)

func exactly(values ...string) func(any) error {
	return func(v any) error {
		if s, ok := v.(string); !ok || !slices.Contains(values, s) {
			return fmt.Errorf("is %v: want %s", v, strings.Join(values, " or "))
		}
		return nil
	}
}

func matching(pattern string) func(any) error {
	re := regexp.MustCompile(pattern)
	return func(v any) error {
		if s, ok := v.(string); !ok || !re.MatchString(s) {
			return fmt.Errorf("is %#v: want a text that matches %s", v, pattern)
		}
		return nil
	}
}

func number(v any) error {
	switch n := v.(type) {
	case int:
		if n >= 0 {
			return nil
		}
	case float64:
		if n >= 0 {
			return nil
		}
	}
	return fmt.Errorf("is %v: want a number from 0 on", v)
}

func timestamp(v any) error {
	if t, ok := v.(time.Time); !ok || t.IsZero() {
		return fmt.Errorf("is %v: want a time as in RFC 3339", v)
	}
	return nil
}

func texts(v any) error {
	m, ok := v.(map[string]any)
	for _, value := range m {
		if _, isText := value.(string); !isText {
			ok = false
		}
	}
	if !ok {
		return fmt.Errorf("is %v: want texts by key", v)
	}
	return nil
}

func list(of func(any) error) func(any) error {
	return func(v any) error {
		all, ok := v.([]any)
		if !ok {
			return fmt.Errorf("is %v: want a list", v)
		}
		for i, one := range all {
			if err := of(one); err != nil {
				return fmt.Errorf("[%d] %w", i, err)
			}
		}
		return nil
	}
}

// object refuses keys that it does not know; nil knows all.
func object(allowed keys) func(any) error {
	return func(v any) error {
		m, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("is %v: want an object", v)
		}
		for _, key := range slices.Sorted(maps.Keys(m)) {
			check, known := allowed[key]
			if allowed == nil {
				continue
			} else if !known {
				return fmt.Errorf("%s: there is no such key", key)
			}
			if err := check(m[key]); err != nil {
				return fmt.Errorf("%s %w", key, err)
			}
		}
		return nil
	}
}

func checkFuncYAML(text []byte) error {
	var f map[string]any
	if err := yaml.Unmarshal(text, &f); err != nil {
		return err
	}
	for _, key := range funcYAMLRequired {
		if _, ok := f[key]; !ok {
			return fmt.Errorf("%s is missing", key)
		}
	}
	return object(funcYAML)(f)
}

// The func CLI reads func.yaml: version 0.36.0, no key that it does not know, and the health endpoints that every
// function serves.
func TestFuncYAML(t *testing.T) {
	text, err := os.ReadFile("../func.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkFuncYAML(text); err != nil {
		t.Errorf("func.yaml: %v", err)
	}
	for _, has := range []string{"FUNCTION", "/health/liveness", "/health/readiness", "runtime: go", "invoke: http"} {
		if !strings.Contains(string(text), has) {
			t.Errorf("func.yaml does not say %s", has)
		}
	}
}

// The check itself refuses what the CLI would.
func TestWrongFuncYAML(t *testing.T) {
	const right = "specVersion: 0.36.0\ncreated: 2026-11-24T00:00:00Z\n"
	if err := checkFuncYAML([]byte(right)); err != nil {
		t.Fatalf("the least there can be: %v", err)
	}
	for name, text := range map[string]string{
		"no version":             "created: 2026-11-24T00:00:00Z\n",
		"never created":          "specVersion: 0.36.0\n",
		"created at no time":     "specVersion: 0.36.0\ncreated: yesterday\n",
		"an older version":       "specVersion: 0.35.0\ncreated: 2026-11-24T00:00:00Z\n",
		"envs at the top":        right + "envs: []\n",
		"a builder there is not": right + "build: {builder: ko}\n",
		"an env without a name":  right + "run: {envs: [{name: 1FUNCTION, value: x}]}\n",
		"health somewhere else":  right + "deploy: {healthEndpoints: {liveness: /healthz}}\n",
		"another signature":      right + "invoke: cloudevent\n",
		"twice the same key":     right + "name: a\nname: b\n",
		"a name with a capital":  right + "name: Ebb\n",
	} {
		if checkFuncYAML([]byte(text)) == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}
