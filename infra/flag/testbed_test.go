package flag_test

import (
	"encoding/json"
	"errors"
	goflag "flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/flag"
)

// testbed is the folder of a checkout of flagd's test-bed, whose modules no proxy serves.
var testbed = goflag.String("testbed", "", "folder of a checkout of github.com/open-feature/flagd-testbed")

// scenario is one scenario of a feature file, with the values of one row of its examples.
type scenario struct {
	name  string
	steps []string
}

// left are the tags of scenarios that are left out: those of the older one of two algorithms, and those in which an
// operation with wrong arguments has the default variant chosen. In flagd's library for JavaScript, which TestLikeFlagd
// compares with, such an operation is false.
var left = []string{"@fractional-v1", "@operator-errors"}

// keyword begins a line of Gherkin that the test-bed uses.
var keyword = regexp.MustCompile(
	`^(Feature|Background|Scenario Outline|Scenario|Examples|Given|When|Then|And|@\S+|\||#):?\s*(.*)$`)

// scenarios reads a feature file: those parts of Gherkin that the test-bed uses.
func scenarios(text string) (all []scenario, err error) {
	var background, steps, header []string
	var name, section string
	var tags, of, ofExamples []string // tags: before the next section
	tagged := func() bool {
		all := append(slices.Clone(of), ofExamples...)
		return slices.ContainsFunc(all, func(t string) bool { return slices.Contains(left, t) })
	}
	outline := false
	end := func() {
		if section != "" && !outline && len(steps) > 0 && !tagged() {
			all = append(all, scenario{name, append(slices.Clone(background), steps...)})
		}
		steps, header, ofExamples = nil, nil, nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		m := keyword.FindStringSubmatch(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#") || m == nil && section == "Feature":
		case m == nil:
			return nil, errors.New("unknown line: " + line)
		case strings.HasPrefix(line, "@"):
			tags = append(tags, strings.Fields(line)...)
		case m[1] == "Feature" || m[1] == "Background":
			section, tags = m[1], nil
		case m[1] == "Scenario" || m[1] == "Scenario Outline":
			end()
			section, name, outline, of, tags = m[1], m[2], m[1] == "Scenario Outline", tags, nil
		case m[1] == "Examples":
			header, ofExamples, tags = nil, tags, nil
		case m[1] == "|":
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			if header == nil {
				header = cells
				continue
			}
			var pairs []string
			for i, cell := range cells {
				pairs = append(pairs, "<"+header[i]+">", cell)
			}
			s := scenario{name: name + " " + strings.Join(cells, " ")}
			for _, step := range append(slices.Clone(background), steps...) {
				s.steps = append(s.steps, strings.NewReplacer(pairs...).Replace(step))
			}
			if !tagged() {
				all = append(all, s)
			}
		case section == "Background":
			background = append(background, m[2])
		default:
			steps = append(steps, m[2])
		}
	}
	end()
	return all, nil
}

// asked is what the steps of a scenario say about an evaluation.
type asked struct {
	*testing.T
	flags    map[string]json.RawMessage
	key      string
	fallback any
	typed    string
	context  map[string]any
	got      flag.Result
}

// step is a step of the test-bed, and what it does with the texts of its expression.
type step struct {
	is *regexp.Regexp
	do func(a *asked, text []string)
}

// steps are those of the test-bed.
var steps = []step{
	{regexp.MustCompile(`^an evaluator$`), func(*asked, []string) {}},
	{
		regexp.MustCompile(`^a (\w+)-flag with key "(.*)" and a fallback value "(.*)"$`),
		func(a *asked, text []string) {
			a.typed, a.key, a.fallback, a.context = text[1], text[2], valueOf(a.T, text[1], text[3]), map[string]any{}
		},
	},
	{
		regexp.MustCompile(`^a context containing a targeting key with value "(.*)"$`),
		func(a *asked, text []string) { a.context["targetingKey"] = text[1] },
	},
	{
		regexp.MustCompile(`^a context containing a key "(.*)", with type "(\w+)" and with value "(.*)"$`),
		func(a *asked, text []string) {
			a.context[text[1]] = valueOf(a.T, text[2], text[3])
		},
	},
	{
		regexp.MustCompile(`^a context containing a nested property with outer key "(.*)" and inner key "(.*)", ` +
			`with value "(.*)"$`),
		func(a *asked, text []string) {
			a.context[text[1]] = map[string]any{text[2]: text[3]}
		},
	},
	{
		regexp.MustCompile(`^the flag was evaluated with details$`),
		func(a *asked, _ []string) {
			definition, there := a.flags[a.key]
			if !there {
				a.got = flag.NotFound(a.key)
			} else {
				a.got = parse(a.T, string(definition)).Evaluate(a.key, a.context, at)
			}
			// An SDK gives its user the fallback where there is no value, or one of another type.
			if a.got.Value == nil {
				a.got.Value = a.fallback
			} else if reflect.TypeOf(a.got.Value) != reflect.TypeOf(a.fallback) {
				a.got.Value, a.got.Code = a.fallback, flag.CodeTypeMismatch
			}
		},
	},
	{
		regexp.MustCompile(`^the resolved details value should be "(.*)"$`),
		func(a *asked, text []string) {
			if want := valueOf(a.T, a.typed, text[1]); !reflect.DeepEqual(a.got.Value, want) {
				a.Errorf("the value is %v, want %v", a.got.Value, want)
			}
		},
	},
	{
		regexp.MustCompile(`^the reason should be "(.*)"$`),
		func(a *asked, text []string) {
			if a.got.Reason != text[1] {
				a.Errorf("the reason is %s, want %s", a.got.Reason, text[1])
			}
		},
	},
	{
		regexp.MustCompile(`^the error-code should be "(.*)"$`),
		func(a *asked, text []string) {
			if a.got.Code != text[1] {
				a.Errorf("the code is %q, want %q", a.got.Code, text[1])
			}
		},
	},
}

// valueOf returns a value of a type that the test-bed names.
func valueOf(t *testing.T, typed, text string) (v any) {
	t.Helper()
	var err error
	switch typed {
	case "String":
		return text
	case "Boolean":
		v, err = strconv.ParseBool(text)
	case "Integer", "Float":
		v, err = strconv.ParseFloat(text, 64)
	default:
		err = json.Unmarshal([]byte(strings.ReplaceAll(text, `\"`, `"`)), &v)
	}
	if err != nil {
		t.Fatalf("%s %q: %v", typed, text, err)
	}
	return v
}

// Each scenario of flagd's own test-bed for evaluators passes.
func TestTestbed(t *testing.T) {
	if *testbed == "" {
		t.Skip("make flagd-testbed TESTBED=FOLDER runs the scenarios of a checkout of open-feature/flagd-testbed")
	}
	data, err := os.ReadFile(filepath.Join(*testbed, "evaluator", "flags", "testkit-flags.json"))
	if err != nil {
		t.Fatal(err)
	}
	flags, err := flag.ParseFile(data)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(*testbed, "evaluator", "gherkin", "*.feature"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no feature files in %s: %v", *testbed, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all, err := scenarios(string(text))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, s := range all {
			t.Run(filepath.Base(path)+"/"+s.name, func(t *testing.T) {
				a := &asked{T: t, flags: flags}
				for _, text := range s.steps {
					i := slices.IndexFunc(steps, func(s step) bool { return s.is.MatchString(text) })
					if i < 0 {
						t.Fatalf("unknown step: %s", text)
					}
					steps[i].do(a, steps[i].is.FindStringSubmatch(text))
				}
			})
		}
	}
}
