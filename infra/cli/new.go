package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

//go:embed scaffold/*.tmpl
var templates embed.FS

// functionName is good as a Go package, a DNS label and a part of an event's type.
var functionName = regexp.MustCompile(`^[a-z][a-z0-9]{1,29}$`)

// reserved would collide with a package that a scaffolded function imports.
var reserved = []string{"events", "function", "functions", "fault", "store", "context", "http", "strings", "time", "main", "test", "utf8", "entry", "api"}

func scaffold(ctx context.Context, t *tool, args []string) error {
	f := t.flags("new", "function NAME")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 2 || rest[0] != "function" {
		return wrong("new wants two words: ebb new function NAME")
	}
	n := novelty{tool: t, Name: rest[1]}
	if err := n.check(); err != nil {
		return err
	}
	if err := n.write(); err != nil {
		return err
	}
	for _, step := range [][]string{{"test", "./events", "-update"}, {"run", "./cmd/ebb", "generate"}} {
		if err := t.goTool(ctx, step...); err != nil {
			return err
		}
	}
	fmt.Fprintf(t.out, "functions/%s is there, tested by: go test ./functions/%s ./events\nebb dev serves it at /api/%s.\n", n.Name, n.Name, n.Name)
	return nil
}

// novelty is a function that is about to be.
type novelty struct {
	*tool
	Name   string // reviews
	Type   string // Reviews
	Module string
}

func (n *novelty) check() error {
	if !functionName.MatchString(n.Name) || token.IsKeyword(n.Name) {
		return wrong("%q does not do as a name: lower-case letters and digits, 2 to 30 of them, a letter first", n.Name)
	}
	for _, r := range reserved {
		if n.Name == r {
			return wrong("%q does not do as a name: a package that every function uses has it", n.Name)
		}
	}
	n.Type = strings.ToUpper(n.Name[:1]) + n.Name[1:]
	mod, err := os.ReadFile(filepath.Join(n.dir, "go.mod"))
	if err != nil {
		return fmt.Errorf("this wants the root of the repository: %w", err)
	}
	first, _, _ := strings.Cut(string(mod), "\n")
	if n.Module = strings.TrimSpace(strings.TrimPrefix(first, "module")); n.Module == "" {
		return errors.New("go.mod names no module")
	}
	for _, path := range []string{"functions/" + n.Name, "events/" + n.Name + ".go"} {
		if _, err := os.Stat(filepath.Join(n.dir, path)); err == nil {
			return fmt.Errorf("%s is there already", path)
		}
	}
	return nil
}

// write makes the files and adds the function to the list, all of it or, if the list is not as expected, nothing.
func (n *novelty) write() error {
	list := filepath.Join(n.dir, "functions", "functions.go")
	before, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	after, err := n.listed(string(before))
	if err != nil {
		return err
	}
	files := map[string][]byte{list: after}
	for name, path := range map[string]string{
		"doc.go": "functions/%s/doc.go", "rule.go": "functions/%s/rule.go", "rule_test.go": "functions/%s/rule_test.go",
		"function.go": "functions/%s/function.go", "function_test.go": "functions/%s/function_test.go", "event.go": "events/%s.go",
	} {
		at := filepath.Join(n.dir, fmt.Sprintf(path, n.Name))
		if files[at], err = n.render(name); err != nil {
			return err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, files[path], 0o644); err != nil {
			return err
		}
		if shown, err := filepath.Rel(n.dir, path); err == nil {
			fmt.Fprintln(n.out, "wrote", filepath.ToSlash(shown))
		}
	}
	return nil
}

func (n *novelty) render(name string) ([]byte, error) {
	tmpl, err := template.ParseFS(templates, "scaffold/"+name+".tmpl")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, n); err != nil {
		return nil, err
	}
	return format.Source(b.Bytes())
}

// The list is written so that a line for each function is all there is to add.
var (
	lastEntry  = regexp.MustCompile(`(?s)^(.*\n)(\t+)(\{"[a-z0-9]+", [a-z0-9]+\.New\},\n)`)
	firstInfra = regexp.MustCompile(`\n\t"[^"\n]+/infra/`)
)

func (n *novelty) listed(list string) ([]byte, error) {
	entry := lastEntry.FindStringSubmatchIndex(list)
	if entry == nil {
		return nil, errors.New("functions/functions.go has no list of functions such as {\"users\", users.New},")
	}
	indent := list[entry[4]:entry[5]]
	list = list[:entry[1]] + fmt.Sprintf("%s{%q, %s.New},\n", indent, n.Name, n.Name) + list[entry[1]:]
	at := firstInfra.FindStringIndex(list)
	if at == nil {
		return nil, errors.New("functions/functions.go has no imports of infra to put a function's before")
	}
	list = list[:at[0]] + fmt.Sprintf("\n\t%q", n.Module+"/functions/"+n.Name) + list[at[0]:]
	return format.Source([]byte(list))
}

// goTool runs the go command in the repository; what it says is shown only if it fails.
func (t *tool) goTool(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir = t.dir
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
