package flag_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/flag"
)

// at is the time of all evaluations.
var at = time.Date(2026, time.November, 30, 9, 0, 0, 0, time.UTC)

func parse(t *testing.T, definition string) *flag.Flag {
	t.Helper()
	f, err := flag.Parse([]byte(definition))
	if err != nil {
		t.Fatalf("%s: %v %v", definition, err, fault.DetailsOf(err))
	}
	return f
}

// withTargeting is a flag whose variants are named after what the rules below choose.
func withTargeting(rule string) string {
	return `{"state":"ENABLED","defaultVariant":"none","targeting":` + rule + `,"variants":{` +
		`"none":"n","red":"r","green":"g","blue":"b","true":"t","false":"f","1":"one"}}`
}

// rule is a targeting, a context and the variant that it chooses: "" is an error.
type rule struct{ logic, context, variant string }

var rules = []rule{
	{`{"if":[{"==":[{"var":"email"},"ada@example.com"]},"red","blue"]}`, `{"email":"ada@example.com"}`, "red"},
	{`{"if":[{"==":[{"var":"email"},"ada@example.com"]},"red","blue"]}`, `{}`, "blue"},
	{`{"if":[{"==":[{"var":"email"},"ada@example.com"]},"red"]}`, `{}`, "none"},
	{`{"if":[{"in":["example.com",{"var":"email"}]},"red",null]}`, `{"email":"bob@example.com"}`, "red"},
	{`{"if":[true,"purple"]}`, `{}`, ""},
	{`{"==":[{"var":"age"},1]}`, `{"age":1}`, "true"},
	{`{"==":[{"var":"age"},1]}`, `{"age":2}`, "false"},
	{`{"==":[{"var":"age"},1]}`, `{"age":"1"}`, "true"},
	{`{"===":[{"var":"age"},1]}`, `{"age":"1"}`, "false"},
	{`{"+":[{"var":"age"},0]}`, `{"age":1}`, "1"},
	{`{"var":"colour"}`, `{"colour":"green"}`, "green"},
	{`{"var":"a.b"}`, `{"a":{"b":"green"}}`, "green"},
	{`{"var":["colour","green"]}`, `{}`, "green"},
	{`{"if":[{"==":[{"var":"$flagd.flagKey"},"the-flag"]},"red","blue"]}`, `{}`, "red"},
	{`{"if":[{">":[{"var":"$flagd.timestamp"},1700000000]},"red","blue"]}`, `{}`, "red"},
	{`{"if":[{"and":[{">=":[{"var":"age"},18]},{"<":[{"var":"age"},65]}]},"red","blue"]}`, `{"age":20}`, "red"},
	{`{"if":[{"or":[{"!":[{"var":"age"}]},{"<":[{"var":"age"},18]}]},"red","blue"]}`, `{"age":20}`, "blue"},
	{`{"if":[{"in":[{"var":"country"},["AT","CH","DE"]]},"red","blue"]}`, `{"country":"CH"}`, "red"},
	{`{"if":[{"some":[{"var":"roles"},{"==":[{"var":""},"beta"]}]},"red","blue"]}`, `{"roles":["x","beta"]}`, "red"},
	{`{"if":[{"some":[{"filter":[[1,2],{">":[{"var":""},1]}]},{"==":[{"var":""},2]}]},"red"]}`, `{}`, "red"},
	{`{"if":[{"all":[{"var":"roles"},{"==":[{"var":""},"beta"]}]},"red","blue"]}`, `{"roles":["x","beta"]}`, "blue"},

	{`{"if":[{"starts_with":[{"var":"id"},"abc"]},"red","blue"]}`, `{"id":"abcdef"}`, "red"},
	{`{"if":[{"starts_with":[{"var":"id"},"abc"]},"red","blue"]}`, `{"id":"xabc"}`, "blue"},
	{`{"if":[{"ends_with":[{"var":"id"},"xyz"]},"red","blue"]}`, `{"id":"uvwxyz"}`, "red"},
	{`{"if":[{"ends_with":[{"var":"id"},3]},"red","blue"]}`, `{"id":"3"}`, "blue"},
	{`{"starts_with":[{"var":"id"}]}`, `{"id":"abc"}`, "none"},

	{`{"sem_ver":[{"var":"v"},"=","2.0.0"]}`, `{"v":"2.0.0"}`, "true"},
	{`{"sem_ver":[{"var":"v"},"=","2.0.0"]}`, `{"v":"v2"}`, "true"},
	{`{"sem_ver":[{"var":"v"},"!=","2.0.0"]}`, `{"v":"2.0"}`, "false"},
	{`{"sem_ver":[{"var":"v"},"<","2.0.0"]}`, `{"v":"2.0.0-rc.1"}`, "true"},
	{`{"sem_ver":[{"var":"v"},"<=","2.0.0"]}`, `{"v":"2.0.1"}`, "false"},
	{`{"sem_ver":[{"var":"v"},">","2.0.0"]}`, `{"v":"10.0.0"}`, "true"},
	{`{"sem_ver":[{"var":"v"},">=","2.0.0"]}`, `{"v":"2.0.0+build"}`, "true"},
	{`{"sem_ver":[{"var":"v"},"^","2.1.0"]}`, `{"v":"2.9.9"}`, "true"},
	{`{"sem_ver":[{"var":"v"},"~","2.1.0"]}`, `{"v":"2.2.0"}`, "false"},
	{`{"sem_ver":[{"var":"v"},"~","2.1.0"]}`, `{"v":"2.1.9"}`, "true"},
	{`{"sem_ver":[{"var":"v"},"=","2.0.0"]}`, `{"v":2}`, "true"},
	{`{"sem_ver":[{"var":"v"},"=","2.0.0"]}`, `{"v":"2.0.0.0"}`, "none"},
	{`{"sem_ver":[{"var":"v"},"=","2.0.0"]}`, `{"v":"1-rc"}`, "none"},
	{`{"sem_ver":[{"var":"v"},"=","2.0.0"]}`, `{"v":"two"}`, "none"},
	{`{"sem_ver":[{"var":"v"},"=","2.0.0"]}`, `{"v":""}`, "none"},
	{`{"sem_ver":[{"var":"v"},"<>","2.0.0"]}`, `{"v":"2.0.0"}`, "none"},

	{`{"fractional":[["red",0],["blue",100]]}`, `{"targetingKey":"ada"}`, "blue"},
	{`{"fractional":[["red"],["blue"]]}`, `{}`, "none"},
	{`{"fractional":[["red",-5],["blue",1]]}`, `{"targetingKey":"ada"}`, "blue"},
	{`{"fractional":[["red",0]]}`, `{"targetingKey":"ada"}`, "none"},
	{`{"fractional":[["red",1.5],["blue",1]]}`, `{"targetingKey":"ada"}`, "none"},
	{`{"fractional":[["red","1"],["blue",1]]}`, `{"targetingKey":"ada"}`, "none"},
	{`{"fractional":[["red",2147483647],["blue",1]]}`, `{"targetingKey":"ada"}`, "none"},
	{`{"fractional":[["red",1,2]]}`, `{"targetingKey":"ada"}`, "none"},
	{`{"fractional":["red","blue"]}`, `{"targetingKey":"ada"}`, "none"},
	{`{"fractional":[[{"var":"colour"},1]]}`, `{"targetingKey":"ada","colour":"green"}`, "green"},
	{`{"fractional":[["red",{"if":[true,1,0]}]]}`, `{"targetingKey":"ada"}`, "red"},
	{`{"fractional":[{"var":"email"},["red",50],["blue",50]]}`, `{"targetingKey":"ada"}`, "none"},
}

// shares are fractional rules whose variant the hash decides. The test beside flagd's own library checks them.
func shares() (all []rule) {
	for i := range 200 {
		all = append(all,
			rule{
				`{"fractional":[["red",25],["green",25],["blue",50]]}`, fmt.Sprintf(`{"targetingKey":"user-%d"}`, i), "",
			},
			rule{
				`{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"email"}]},["red"],["green",2],["blue",7]]}`,
				fmt.Sprintf(`{"email":"user-%d@example.com"}`, i), "",
			})
	}
	return all
}

func evaluate(t *testing.T, r rule) flag.Result {
	t.Helper()
	var context map[string]any
	if err := json.Unmarshal([]byte(r.context), &context); err != nil {
		t.Fatal(err)
	}
	return parse(t, withTargeting(r.logic)).Evaluate("the-flag", context, at)
}

// A targeting chooses the variant that flagd's documentation says.
func TestTargeting(t *testing.T) {
	for _, r := range rules {
		got := evaluate(t, r)
		switch {
		case got.Variant != r.variant:
			t.Errorf("%s with %s: got %+v, want %q", r.logic, r.context, got, r.variant)
		case r.variant == "" && got.Code != flag.CodeGeneral, r.variant != "" && got.Code != "":
			t.Errorf("%s with %s: got the code %q", r.logic, r.context, got.Code)
		case r.variant != "" && (got.Reason == flag.ReasonDefault) != (r.variant == "none"):
			t.Errorf("%s with %s: got the reason %q", r.logic, r.context, got.Reason)
		}
	}
}

// flagd's own library for JavaScript chooses the same variants, for the rules above and for who is in which share.
func TestLikeFlagd(t *testing.T) {
	npx, err := exec.LookPath("npx")
	if err != nil {
		t.Skip("this needs Node.js 20 or later: install nodejs")
	}
	type asked struct {
		Flag    json.RawMessage `json:"flag"`
		Context json.RawMessage `json:"context"`
	}
	all := append(shares(), rules...)
	var in []asked
	for _, r := range all {
		in = append(in, asked{json.RawMessage(withTargeting(r.logic)), json.RawMessage(r.context)})
	}
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	with := func(args ...string) *exec.Cmd {
		args = append([]string{
			"--yes", "--package", "@openfeature/flagd-core@4.0.1", "--package", "@openfeature/core@1.9.1", "--",
		}, args...)
		return exec.CommandContext(t.Context(), npx, args...)
	}
	if out, err := with("node", "--version").CombinedOutput(); err != nil {
		t.Skipf("npx cannot install flagd's library: %v\n%s", err, out)
	}
	run := with("node", "testdata/flagd.cjs")
	run.Stdin = bytes.NewReader(data)
	var stderr strings.Builder
	run.Stderr = &stderr
	out, err := run.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var want []struct{ Variant, Reason, Code string }
	if err := json.Unmarshal(out, &want); err != nil || len(want) != len(all) {
		t.Fatalf("got %d answers, %v\n%s", len(want), err, out)
	}
	seen := map[string]int{}
	for i, r := range all {
		got := evaluate(t, r)
		if got.Variant != want[i].Variant || got.Reason != want[i].Reason || got.Code != want[i].Code {
			t.Errorf("%s with %s: got %+v, flagd has %+v", r.logic, r.context, got, want[i])
		}
		if i < len(shares()) {
			seen[got.Variant]++
		}
	}
	if seen["red"] == 0 || seen["green"] == 0 || seen["blue"] == 0 {
		t.Errorf("the shares are %v", seen)
	}
}

// Without targeting a flag has its default variant, or leaves the default to its user, as one that is disabled does.
func TestDefaults(t *testing.T) {
	for definition, want := range map[string]flag.Result{
		`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on","metadata":{"owner":"shop"}}`: {
			Value: true, Variant: "on", Reason: flag.ReasonStatic, Metadata: map[string]any{"owner": "shop"}},
		`{"state":"ENABLED","variants":{"on":1},"defaultVariant":"on","targeting":{}}`: {
			Value: 1.0, Variant: "on", Reason: flag.ReasonStatic},
		`{"state":"ENABLED","variants":{"on":true},"defaultVariant":null}`:           {Reason: flag.ReasonDefault},
		`{"state":"ENABLED","variants":{"on":true},"targeting":{"if":[false,"on"]}}`: {Reason: flag.ReasonDefault},
		`{"state":"DISABLED","variants":{"on":true},"defaultVariant":"on","targeting":{"!":1}}`: {
			Reason: flag.ReasonDisabled},
	} {
		got := parse(t, definition).Evaluate("k", nil, at)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %+v, want %+v", definition, got, want)
		}
	}
}

// A definition that is not valid is refused with the place of what is wrong.
func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat(`{"!":[`, 80) + "1" + strings.Repeat("]}", 80)
	for definition, want := range map[string]string{
		``: "invalid definition", `[]`: "invalid definition", `{"state":"ENABLED","variants":{"on":1}} x`: "more after",
		`{"state":"ENABLED","variants":{"on":1},"colour":1}`:                           "unknown field",
		`{"state":"on","variants":{"on":1}}`:                                           "state",
		`{"state":"ENABLED"}`:                                                          "variants",
		`{"state":"ENABLED","variants":{"on":1,"off":"x"}}`:                            "one type",
		`{"state":"ENABLED","variants":{"on":[1]}}`:                                    "variants.on",
		`{"state":"ENABLED","variants":{"":1}}`:                                        "empty name",
		`{"state":"ENABLED","variants":{"on":1},"defaultVariant":"off"}`:               "defaultVariant",
		`{"state":"ENABLED","variants":{"on":1},"metadata":{"x":{}}}`:                  "metadata.x",
		`{"state":"ENABLED","variants":{"on":1},"targeting":{"wait":[1]}}`:             `operation "wait"`,
		`{"state":"ENABLED","variants":{"on":1},"targeting":{"if":[{"a":1,"b":2}]}}`:   "one operation",
		`{"state":"ENABLED","variants":{"on":1},"targeting":` + deep + `}`:             "levels",
		`{"state":"ENABLED","variants":{"on":"` + strings.Repeat("x", 70_000) + `"}}`:  "bytes",
		`{"state":"ENABLED","variants":{"on":1},"targeting":{"$ref":"nobody"}}`:        "$ref",
		`{"state":"ENABLED","variants":{"on":1},"targeting":{"if":[{"set":[1,2,3]}]}}`: "set",
		`{"State":"ENABLED","variants":{"on":1}}`:                                      `"State"`,
		`{"state":"DISABLED","ſtate":"ENABLED","variants":{"on":1}}`:                   `"ſtate"`,
		withTargeting(`{"map":[[1,2],{"map":[[1,2],1]}]}`):                             "map in what map does",
		withTargeting(`{"some":[[1],{"!":{"filter":[[1],1]}}]}`):                       "filter in what some does",
		withTargeting(`{"reduce":[[1],{"cat":[{"var":"accumulator"},1]},"x"]}`):        "cat in what reduce does",
		withTargeting(`{"map":[[1,2],{"merge":[{"var":""},{"var":""}]}]}`):             "merge in what map does",
	} {
		_, err := flag.Parse([]byte(definition))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fmt.Sprint(err, fault.DetailsOf(err)), want) {
			t.Errorf("%.80s: got %v %v, want %q", definition, err, fault.DetailsOf(err), want)
		}
	}
}

// A targeting that fails is an error of this evaluation and not a panic.
func TestTargetingFails(t *testing.T) {
	for _, logic := range []string{
		`{"reduce":[1]}`, `{"map":[]}`, `{"substr":[]}`, `{"substr":[1,2,3]}`, `{"<":[]}`, `{"in":[]}`,
		`{"missing_some":[1]}`, `{"filter":[[1,2]]}`, `{"-":[]}`, `{"/":[1,0]}`, `{"%":[1,0]}`,
		`{"cat":[{"var":"x"}]}`, `{"var":[[1]]}`, `{"fractional":1}`,
	} {
		got := evaluate(t, rule{logic: logic, context: `{"x":{"y":[1,null]}}`})
		if got.Reason == "" {
			t.Errorf("%s: got %+v", logic, got)
		}
	}
}

// What a caller puts into the context is never evaluated, whatever operation finds it.
func TestContextIsData(t *testing.T) {
	const x = `{"cat":["re","d"]}`
	for _, logic := range []string{
		`{"if":[true,{"var":"x"}]}`, `{"?:":[true,{"var":"x"}]}`, `{"if":[{"var":"x"}]}`, `{"or":[false,{"var":"x"}]}`,
		`{"if":[{"some":[[1],{"===":["red",{"var":"x"}]}]},"red"]}`,
		`{"if":[{"some":[{"var":"list"},{"===":["red",{"var":"kind"}]}]},"red"]}`,
		`{"if":[{"all":[{"var":"list"},{"===":["red",{"var":"kind"}]}]},"red"]}`,
		`{"if":[{"none":[[1],{"!==":["red",{"var":"x"}]}]},"red"]}`,
		`{"if":[{"filter":[[1],{"===":["red",{"var":"x"}]}]},"red"]}`,
		`{"if":[{"in":["red",{"map":[[1],{"var":"x"}]}]},"red"]}`,
	} {
		got := evaluate(t, rule{logic: logic, context: `{"x":` + x + `,"list":[{"kind":` + x + `}]}`})
		if got.Variant == "red" {
			t.Errorf("%s: got %+v", logic, got)
		}
	}
	got := evaluate(t, rule{logic: `{"var":"a.b"}`, context: `{"a":{"b":"red"}}`})
	if got.Variant != "red" {
		t.Errorf("got %+v", got)
	}
}

// A file has shared evaluators, which each flag gets in place of its references to them.
func TestParseFile(t *testing.T) {
	all, err := flag.ParseFile([]byte(`{
		"$schema": "https://flagd.dev/schema/v0/flags.json",
		"metadata": {"version": "1", "owner": "all"},
		"flags": {
			"beta": {"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","metadata":{"owner":"shop"},
				"targeting":{"if":[{"$ref":"staff"},"on",null]}},
			"plain": {"state":"ENABLED","variants":{"a":1},"defaultVariant":"a"}
		},
		"$evaluators": {"staff": {"ends_with":[{"var":"email"},{"$ref":"domain"}]}, "domain": "@example.com"}
	}`))
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	got := parse(t, string(all["beta"])).Evaluate("beta", map[string]any{"email": "ada@example.com"}, at)
	if got.Value != true || got.Metadata["owner"] != "shop" || got.Metadata["version"] != "1" {
		t.Errorf("got %+v", got)
	}
	laughs := []string{`"e0":[1,2]`}
	for i := range 40 {
		laughs = append(laughs, fmt.Sprintf(`"e%d":[{"$ref":"e%d"},{"$ref":"e%d"}]`, i+1, i, i))
	}
	refers := func(to, evaluators string) string {
		return `{"flags":{"a":{"state":"ENABLED","variants":{"x":1},"targeting":{"$ref":"` + to + `"}}},"$evaluators":{` +
			evaluators + `}}`
	}
	for bad, want := range map[string]string{
		refers("b", `"b":{"$ref":"b"}`):                            "itself",
		refers("b", ""):                                            `evaluator "b"`,
		refers("e40", strings.Join(laughs, ",")):                   "too large",
		`{"flags":{"a/b":{"state":"ENABLED","variants":{"x":1}}}}`: "invalid key",
		`{"flags":{"a":{"state":"ENABLED","variants":{}}}}`:        "the flag a",
	} {
		if _, err := flag.ParseFile([]byte(bad)); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: got %v, want %q", bad, err, want)
		}
	}
}
