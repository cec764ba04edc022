package cli

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// tree writes files into a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// moduleA is the go.mod of a module.
const moduleA = "module example.com/a\n"

const commandSource = "package main\nimport \"github.com/ebb-dev/ebb/infra/cli\"\nfunc main() { cli.Main(x) }\n"

func TestModuleAt(t *testing.T) {
	for name, test := range map[string]struct {
		files   map[string]string
		from    string
		command string
		err     string
	}{
		"from below": {
			map[string]string{"go.mod": moduleA, "cmd/a/main.go": commandSource, "functions/x/x.go": "package x"},
			"functions/x", "./cmd/a", "",
		},
		"another command": {
			map[string]string{"go.mod": moduleA, "cmd/b/main.go": commandSource, "cmd/c/main.go": "package main"},
			".", "./cmd/b", "",
		},
		"two, one by name": {
			map[string]string{"go.mod": moduleA, "cmd/a/main.go": commandSource, "cmd/b/main.go": commandSource},
			".", "./cmd/a", "",
		},
		"two": {
			map[string]string{"go.mod": moduleA, "cmd/b/main.go": commandSource, "cmd/c/main.go": commandSource},
			".", "", "several commands",
		},
		"none":      {map[string]string{"go.mod": moduleA, "cmd/a/main_test.go": commandSource}, ".", "", ""},
		"no module": {map[string]string{"x": ""}, ".", "", "no Go module here"},
		"no name":   {map[string]string{"go.mod": "// nothing\n"}, ".", "", "missing module path"},
	} {
		m, err := moduleAt(filepath.Join(tree(t, test.files), test.from))
		if m.command != test.command || (err == nil) != (test.err == "") ||
			err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: got %+v, %v", name, m, err)
		}
	}
}

// built returns build information: with a sum for a command from the module cache, without for one from its source.
func built(path, sum string) *debug.BuildInfo {
	return &debug.BuildInfo{Main: debug.Module{Path: path, Version: "v1.0.0", Sum: sum}}
}

// An installed command runs the command of the module that it is called in, with its arguments, input and exit code.
func TestInstalledCommandRunsTheModules(t *testing.T) {
	dir := tree(t, map[string]string{
		"go.mod": "module example.com/desk\n\ngo 1.26\n\n" +
			"require github.com/ebb-dev/ebb v0.0.0\n\nreplace github.com/ebb-dev/ebb => ./kit\n",
		"cmd/desk/main.go": `package main

import (
	"fmt"
	"os"

	_ "github.com/ebb-dev/ebb/infra/cli"
)

func main() { fmt.Println("desk", os.Args[1:]); os.Exit(3) }
`,
		"kit/go.mod":           "module github.com/ebb-dev/ebb\n\ngo 1.26\n",
		"kit/infra/cli/cli.go": "package cli\n",
		"empty/go.mod":         "module example.com/empty\n",
	})
	for name, test := range map[string]struct {
		dir  string
		b    *debug.BuildInfo
		args string
		code int
		want string
	}{
		"installed":             {".", built(kitModule(), "h1:x"), "manifest -o json", 3, "desk [manifest -o json]"},
		"from another's source": {".", built(kitModule(), ""), "generate --check", 3, "desk [generate --check]"},
		"its own source":        {".", built("example.com/desk", ""), "manifest", 0, ""},
		"a client command":      {".", built(kitModule(), "h1:x"), "version", 0, "v1.0.0"},
		"installed, no command": {
			"empty", built(kitModule(), "h1:x"), "manifest",
			1, "example.com/empty has no command of its own",
		},
		"would write elsewhere": {
			"empty", built(kitModule(), ""), "generate",
			1, "example.com/empty has no command of its own",
		},
		"a new function": {
			"empty", built(kitModule(), ""), "new function tides",
			1, "example.com/empty has no command of its own",
		},
		"reads, and is not there": {"empty", built(kitModule(), ""), "manifest", 0, ""},
	} {
		p, out, errs := process(filepath.Join(dir, test.dir), nil)
		p.Build = test.b
		code := Run(t.Context(), empty(), p, strings.Fields(test.args))
		if both := out.String() + errs.String(); code != test.code || !strings.Contains(both, test.want) {
			t.Errorf("%s: got %d, %q; want %d, %q", name, code, both, test.code, test.want)
		}
	}
	for args, sum := range map[string]string{"dev": "h1:x", "generate": "", "new function tides": ""} {
		outside := t.TempDir()
		p, _, errs := process(outside, nil)
		p.Build = built(kitModule(), sum)
		if code := Run(t.Context(), empty(), p, strings.Fields(args)); code != exitFailed ||
			!strings.Contains(errs.String(), "no Go module here") {
			t.Errorf("%s outside of any module: got %d, %s", args, code, errs)
		}
		if written, _ := os.ReadDir(outside); len(written) > 0 {
			t.Errorf("%s outside of any module wrote %v", args, written)
		}
	}
}
