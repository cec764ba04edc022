package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/broker/conformance"
)

// addLocal adds the tools that work on this machine: on the log of dev, the checkout, and brokers.
func (s *toolServer) addLocal() {
	if s.local {
		addTool(s, reading("logs", "Logs", "The log of dev on this machine, the latest lines that match."), s.logs)
	}
	if s.module != nil && s.module.command != "" {
		addTool(s, reading("schema_gate", "Schema gate",
			"Check the checkout: event types and stored documents against what was recorded of them, derived files against "+
				"the code. Builds the command first."), s.schemaGate)
	}
	if s.module != nil {
		addTool(s, reading("simulate", "Simulate a seed",
			"Run one seed of the checkout's simulation, and return its story: what happened, in simulated time, with the "+
				"faults and the violations. The story is long: read it in parts, or only the lines that contain a text."),
			s.simulate)
	}
	if !s.readOnly {
		addTool(s, changing("conformance", "Conformance of a broker",
			"Try a CloudEvents broker on this machine by the specifications. It makes triggers and publishes events there."),
			s.conformance)
	}
}

type logsInput struct {
	Function string `json:"function,omitempty" jsonschema:"only lines of this function"`
	Level    string `json:"level,omitempty" jsonschema:"this level and worse: debug, info, warn or error"`
	Since    string `json:"since,omitempty" jsonschema:"only from this time on: RFC 3339, or how long ago as 10m"`
	Limit    int    `json:"limit,omitempty" jsonschema:"the most lines, the latest: 1 to 1000, 100 by default"`
}

func (s *toolServer) logs(ctx context.Context, in logsInput) (any, error) {
	if in.Limit < 0 || in.Limit > 1000 {
		return nil, fmt.Errorf("invalid limit %d: want 1 to 1000", in.Limit)
	}
	var out bytes.Buffer
	quiet := *s.app
	quiet.Out = &out
	r := logReader{app: &quiet, function: in.Function, limit: cmp.Or(in.Limit, 100),
		path: filepath.Join(s.data, logDir, logName)}
	r.output = output{app: &quiet, format: formatJSON}
	if err := r.setLevel(cmp.Or(in.Level, "debug")); err != nil {
		return nil, err
	}
	if in.Since != "" {
		if err := (timeValue{&r.since}).Set(in.Since); err != nil {
			return nil, err
		}
	}
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	lines := []json.RawMessage{}
	for line := range bytes.Lines(out.Bytes()) {
		lines = append(lines, json.RawMessage(bytes.TrimSpace(line)))
	}
	return map[string]any{"lines": lines}, nil
}

// The longest time that a tool may work on the checkout.
const longestRun = 10 * time.Minute

// goOutput runs the go command in the checkout. It returns what it prints, the last megabyte of it, and whether it has
// ended without a failure. The error is that it could not run, or not to its end.
func (s *toolServer) goOutput(ctx context.Context, args ...string) (output string, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, longestRun)
	defer cancel()
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir, c.WaitDelay = s.module.dir, time.Second
	var out lastOutput
	c.Stdout, c.Stderr = &out, &out
	err = c.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", false, fmt.Errorf("go %s: %w", strings.Join(args, " "), ctx.Err())
	case err != nil && !errors.As(err, &exit):
		return "", false, err
	}
	return out.String(), err == nil, nil
}

// lastOutput is a writer that keeps the last of what is written, between one and two times maxOutput.
type lastOutput struct{ b []byte }

const maxOutput = 1 << 20

func (o *lastOutput) Write(p []byte) (int, error) {
	o.b = append(o.b, p...)
	if len(o.b) > 2*maxOutput {
		o.b = slices.Delete(o.b, 0, len(o.b)-maxOutput)
	}
	return len(p), nil
}

func (o *lastOutput) String() string { return strings.ToValidUTF8(string(o.b), "\ufffd") }

func (s *toolServer) schemaGate(ctx context.Context, _ struct{}) (any, error) {
	out, ok, err := s.goOutput(ctx, "run", s.module.command, "generate", "--check")
	return map[string]any{"ok": ok, "messages": lines(out)}, err
}

// lines returns the lines of a text that are not empty.
func lines(text string) []string {
	all := []string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			all = append(all, line)
		}
	}
	return all
}

type simulateInput struct {
	Seed       uint64 `json:"seed" jsonschema:"the seed, from 1 on; the same seed does the same again"`
	Containing string `json:"containing,omitempty" jsonschema:"only lines that contain this text"`
	From       int    `json:"from,omitempty" jsonschema:"the first line of the part: 0 unless it is given"`
	Lines      int    `json:"lines,omitempty" jsonschema:"the most lines of the part: 1 to 1000, 200 unless it is given"`
}

func (s *toolServer) simulate(ctx context.Context, in simulateInput) (any, error) {
	if in.Seed == 0 || in.From < 0 || in.Lines < 0 || in.Lines > 1000 {
		return nil, errors.New("invalid arguments: want a seed of at least 1, a line from 0 on, and 1 to 1000 lines")
	}
	dir, test, err := simulation(s.module.dir)
	if err != nil {
		return nil, err
	}
	out, ran, err := s.goOutput(ctx, "test", "./"+dir, "-count", "1", "-v", "-run", "^"+test+"$", "-timeout", "0",
		"-tell", strconv.FormatUint(in.Seed, 10))
	if err != nil {
		return nil, err
	}
	story := lines(out)
	violated := slices.DeleteFunc(slices.Clone(story), func(l string) bool { return !strings.Contains(l, "violated:") })
	if in.Containing != "" {
		story = slices.DeleteFunc(story, func(l string) bool { return !strings.Contains(l, in.Containing) })
	}
	first := min(in.From, len(story))
	last := min(first+cmp.Or(in.Lines, 200), len(story))
	return map[string]any{"test": test, "ran": ran, "violations": violated, "lines": len(story), "from": first,
		"story": story[first:last]}, nil
}

// simulation returns the folder and the test of a checkout that tell the story of a seed: the test that reads the flag
// -tell, which its package keeps in a variable tell.
func simulation(dir string) (folder, test string, err error) {
	for _, folder := range []string{"test/simulation", "test"} {
		files, _ := filepath.Glob(filepath.Join(dir, filepath.FromSlash(folder), "*_test.go")) // the pattern is well formed
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				continue
			}
			for _, d := range parsed.Decls {
				f, ok := d.(*ast.FuncDecl)
				if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" && reads(f, "tell") {
					return folder, f.Name.Name, nil
				}
			}
		}
	}
	return "", "", errors.New("this checkout has no simulation that tells the story of a seed: " +
		"want a test below test/ that reads a flag -tell")
}

// reads reports whether a function uses a variable.
func reads(f *ast.FuncDecl, name string) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && id.Name == name
		return !found
	})
	return found
}

type conformanceInput struct {
	URL  string `json:"url" jsonschema:"the ingress of a broker on this machine"`
	Only string `json:"only,omitempty" jsonschema:"a regular expression: only cases whose id or sentence matches"`
}

func (s *toolServer) conformance(ctx context.Context, in conformanceInput) (any, error) {
	u, err := url.Parse(in.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !isLoopback(u.Hostname()) || u.User != nil {
		return nil, fmt.Errorf("invalid url %q: want a broker on this machine, such as http://127.0.0.1:8081; "+
			"the command conformance tries others", in.URL)
	}
	cfg := conformance.Config{URL: in.URL, Patience: 1,
		Triggers: &conformance.SubscriptionsAPI{URL: strings.TrimSuffix(in.URL, "/") + "/subscriptions"}}
	if in.Only != "" {
		if cfg.Only, err = regexp.Compile(in.Only); err != nil {
			return nil, fmt.Errorf("invalid only: %w", err)
		}
		if len(conformance.Select(cfg.Only)) == 0 {
			return nil, fmt.Errorf("%q matches no case", in.Only)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, longestRun)
	defer cancel()
	report, err := conformance.Run(ctx, cfg)
	if report == nil {
		return nil, err
	}
	failed := []conformance.Result{}
	for _, r := range report.Results {
		if r.Outcome == conformance.Failed {
			failed = append(failed, r)
		}
	}
	return map[string]any{"ok": report.OK() && err == nil, "cases": len(report.Results), "failed": failed}, nil
}
