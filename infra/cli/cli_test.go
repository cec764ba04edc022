package cli

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/system"
)

// syncBuffer collects the output of a command, for tests that read it while the command runs.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// empty returns a product without functions.
func empty() system.System {
	return system.System{Name: "ebb"}
}

// process returns the environment of a command in a test.
func process(dir string, vars map[string]string) (p Process, out, errs *syncBuffer) {
	out, errs = &syncBuffer{}, &syncBuffer{}
	return Process{
		In: strings.NewReader(""), Out: out, Err: errs, Lookup: config.Map(vars), Dir: dir,
		ConfigDir: filepath.Join(dir, "config"), CacheDir: filepath.Join(dir, "cache"),
	}, out, errs
}

func ebb(ctx context.Context, dir string, vars map[string]string, args ...string) (code int, out, errs *syncBuffer) {
	p, out, errs := process(dir, vars)
	return Run(ctx, empty(), p, args), out, errs
}

// A usage error is printed to standard error, with the usage line, and exits with 2.
func TestUsageErrors(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string // a part of standard error
	}{
		"nothing":            {nil, "dev"},
		"an unknown command": {[]string{"depv"}, `unknown command "depv" for "ebb"; did you mean "dev"?`},
		"its flags":          {[]string{"depv", "--port", "1"}, `did you mean "dev"?`},
		"far from any":       {[]string{"frobnicate"}, "ebb help lists them"},
		"an unknown flag":    {[]string{"dev", "--port", "1"}, "--port\nusage: ebb dev [flags]"},
		"a bad retention":    {[]string{"dev", "--log-retention", "0s"}, `want a duration other than 0`},
		"a bad flag":         {[]string{"dev", "--idle", "soon"}, `"soon" for "--idle" flag: want a duration`},
		"a bad address":      {[]string{"dev", "--addr", "here"}, `"here" for "--addr" flag: want HOST:PORT`},
		"a superfluous word": {[]string{"dev", "now"}, `dev takes no arguments, got "now"`},
		"new what":           {[]string{"new", "reviews"}, "use function, product"},
		"nothing new":        {[]string{"new"}, "new needs a command: function"},
		"a name with a dash": {[]string{"new", "function", "my-reviews"}, "my-reviews"},
		"a name in use":      {[]string{"new", "function", "saga"}, "uses it for something else"},
		"no module":          {[]string{"new", "product", "desk"}, "new product needs --module"},
		"no kit": {[]string{"new", "product", "desk", "--module", "example.com/desk"},
			"new product needs --kit"},
		"a keyword":              {[]string{"new", "function", "func"}, "func"},
		"events of what":         {[]string{"events", "show"}, "wants one id"},
		"a slip":                 {[]string{"events", "lst"}, `did you mean "list"?`},
		"no time":                {[]string{"events", "--since", "yesterday"}, "or how long ago"},
		"no address of a system": {[]string{"dlq", "--url", "here"}, "invalid address"},
		"keys":                   {[]string{"keys"}, "rotate"},
		"a format":               {[]string{"version", "-o", "jsn"}, "did you mean json?"},
		"no such context":        {[]string{"dlq", "--context", "prod"}, `unknown context "prod"`},
		"no past":                {[]string{"timemachine"}, "the id of an order, or a time"},
		"a past and a time":      {[]string{"timemachine", "a", "--since", "1h"}, "not both"},
		"two pasts":              {[]string{"timemachine", "a", "b"}, "wants one id"},
		"no setting":             {[]string{"timemachine", "a", "--setting", "x"}, "want NAME=VALUE"},
		"a level":                {[]string{"logs", "--level", "wran"}, "did you mean warn?"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{"go.mod": "module " + kitModule() + "\n"})
			code, out, errs := ebb(t.Context(), dir, nil, test.args...)
			if code != exitUsage || !strings.Contains(errs.String(), test.want) || out.String() != "" {
				t.Errorf("got %d, %q on standard output, %q; want 2, %q", code, out, errs, test.want)
			}
			if len(test.args) > 0 && !strings.Contains(errs.String(), "\nusage: ebb") {
				t.Errorf("no line of usage in %q", errs)
			}
		})
	}
}

// Every command has help with an example, on standard output.
func TestHelp(t *testing.T) {
	p, _, _ := process(t.TempDir(), nil)
	a := &app{Process: p, system: empty(), terminal: func(io.Writer) bool { return false }}
	a.Name = "ebb"
	var paths [][]string
	eachCommand(a.root(), func(c *cobra.Command) { paths = append(paths, strings.Fields(c.CommandPath())[1:]) })
	for _, path := range append(paths, []string{"help"}) {
		args := append(path, "--help")
		if len(path) == 1 && path[0] == "help" {
			args = path
		}
		code, out, errs := ebb(t.Context(), t.TempDir(), nil, args...)
		if code != exitOK || !strings.Contains(out.String(), "Examples:\n  ebb ") || errs.String() != "" {
			t.Errorf("%v: got %d, %s%s", args, code, out, errs)
		}
	}
	if len(paths) < 20 {
		t.Errorf("there are only %d commands", len(paths))
	}
}

// Four shells get a completion script.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, out, errs := ebb(t.Context(), t.TempDir(), nil, "completion", shell); code != exitOK ||
			!strings.Contains(out.String(), "__complete") {
			t.Errorf("%s: got %d, %.100s%s", shell, code, out, errs)
		}
	}
}

// A long flag may have one dash, and an id may begin with one.
func TestRewrite(t *testing.T) {
	p, _, _ := process(t.TempDir(), nil)
	a := &app{Process: p, system: empty(), terminal: func(io.Writer) bool { return false }}
	a.Name = "ebb"
	for args, want := range map[string]string{
		"dev -idle 1s -addr=:1":             "dev --idle 1s --addr=:1",
		"events -json -type x":              "events --json --type x",
		"version -o json":                   "version -o json",
		"dlq show -x1":                      "dlq show -- -x1",
		"dlq replay -o json -x1 --url u":    "dlq replay -o json --url u -- -x1",
		"dlq --url u drop -ojson -only":     "dlq drop --url u -ojson -- -only",
		"events show --json --x1":           "events show --json -- --x1",
		"dlq show -- -x1":                   "dlq show -- -x1",
		"dlq show x --bogus":                "dlq show x --bogus",
		"dlq show -h":                       "dlq show -h",
		"conformance http://x -patience 3":  "conformance http://x --patience 3",
		"events show -o=json 0000000000001": "events show -o=json -- 0000000000001",
	} {
		if got := strings.Join(rewrite(a.root(), strings.Fields(args)), " "); got != want {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
	}
}

func TestAPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	code, _, errs := ebb(t.Context(), t.TempDir(), nil, "dev", "--addr", l.Addr().String(), "--data", t.TempDir())
	if code != exitFailed || !strings.Contains(errs.String(), "in use") || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("got %d, %q", code, errs)
	}
}

// What help shows suits any product: it names functions of the kit, and none of the shop's.
func TestHelpNamesNoFunctionOfTheShop(t *testing.T) {
	p, _, _ := process(t.TempDir(), nil)
	p.Name = "helpdesk"
	a := &app{Process: p, system: empty(), terminal: func(io.Writer) bool { return false }}
	shop := regexp.MustCompile(`\b(catalog|inventory|orders|payments|products|views)\b`)
	eachCommand(a.root(), func(c *cobra.Command) {
		var help strings.Builder
		c.SetOut(&help)
		_ = c.Help() // a builder takes everything
		if found := shop.FindAllString(help.String(), -1); len(found) > 0 || help.Len() == 0 {
			t.Errorf("%s --help names %q", c.CommandPath(), found)
		}
	})
}
