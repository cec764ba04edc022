package cli

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

//go:embed scaffold/*.tmpl
var templates embed.FS

// functionName matches names that are valid as a Go package, a DNS label and a part of an event's type.
var functionName = regexp.MustCompile(`^[a-z][a-z0-9]{1,29}$`)

// reserved holds names that would collide with a package that a scaffolded function imports.
var reserved = []string{
	"events", "event", "function", "functions", "fault", "store", "context", "http", "strings", "time", "main", "test",
	"utf8", "entry", "api",
}

// scaffold describes a function to write.
type scaffold struct {
	*app
	Name   string // reviews
	Type   string // Reviews
	Module string // example.com/helpdesk
	Kit    string // the module that infra is in
	root   string // directory of the module
}

// newScaffold checks the name, and that no function or event file with it exists.
func newScaffold(a *app, name string) (*scaffold, error) {
	if !functionName.MatchString(name) || token.IsKeyword(name) {
		return nil, usageErrorf("invalid function name %q: want 2 to 30 lower-case letters and digits, a letter first", name)
	}
	if slices.Contains(reserved, name) {
		return nil, usageErrorf("invalid function name %q: it is the name of a package that functions use", name)
	}
	m, err := moduleAt(a.Dir)
	if err != nil {
		return nil, err
	}
	s := &scaffold{
		app:    a,
		Name:   name,
		Type:   strings.ToUpper(name[:1]) + name[1:],
		Module: m.path,
		Kit:    kitModule(),
		root:   m.dir,
	}
	for _, path := range []string{"functions/" + name, "events/" + name + ".go"} {
		if _, err := os.Stat(filepath.Join(s.root, path)); err == nil {
			return nil, fmt.Errorf("%s exists already", path)
		}
	}
	return s, nil
}

// files maps the templates to the paths of the files that they make.
var files = map[string]string{
	"doc.go":           "functions/%s/doc.go",
	"rule.go":          "functions/%s/rule.go",
	"rule_test.go":     "functions/%s/rule_test.go",
	"function.go":      "functions/%s/function.go",
	"function_test.go": "functions/%s/function_test.go",
	"event.go":         "events/%s.go",
}

// write makes the files and adds the function to the list. If the list does not have the expected form, it writes
// nothing.
func (s *scaffold) write() error {
	list, before, err := s.list()
	if err != nil {
		return err
	}
	after, err := s.listed(before)
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	made := map[string][]byte{list: after}
	for name, path := range files {
		at := filepath.Join(s.root, fmt.Sprintf(path, s.Name))
		if made[at], err = s.render(name); err != nil {
			return err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(made)) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, made[path], 0o644); err != nil {
			return err
		}
		if shown, err := filepath.Rel(s.root, path); err == nil {
			fmt.Fprintln(s.Out, "wrote", filepath.ToSlash(shown))
		}
	}
	return nil
}

func (s *scaffold) render(name string) ([]byte, error) {
	tmpl, err := template.ParseFS(templates, "scaffold/"+name+".tmpl")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, s); err != nil || !strings.HasSuffix(name, ".go") {
		return b.Bytes(), err
	}
	return format.Source(b.Bytes())
}

// The patterns find where to add a function to the list of functions: one line, and one import.
var (
	lastEntry  = regexp.MustCompile(`(?s)^(.*\n)(\t+)(\{Name: "[a-z0-9]+", New: [a-z0-9]+\.New\},\n)`)
	firstInfra = regexp.MustCompile(`\n\t"[^"\n]+/infra/`)
)

// list returns the file in functions with the list of functions. Of several it returns the last by name.
func (s *scaffold) list() (path, content string, err error) {
	paths, err := filepath.Glob(filepath.Join(s.root, "functions", "*.go"))
	if err != nil {
		return "", "", err
	}
	for _, path := range slices.Backward(paths) {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", "", err
		}
		if lastEntry.Match(data) {
			return path, string(data), nil
		}
	}
	return "", "", fmt.Errorf(`no file of %s lists functions such as {Name: "users", New: users.New},`,
		filepath.Join(s.root, "functions"))
}

func (s *scaffold) listed(list string) ([]byte, error) {
	entry := lastEntry.FindStringSubmatchIndex(list)
	if entry == nil {
		return nil, errors.New(`no list of functions such as {Name: "users", New: users.New},`)
	}
	indent := list[entry[4]:entry[5]]
	list = list[:entry[1]] + fmt.Sprintf("%s{Name: %q, New: %s.New},\n", indent, s.Name, s.Name) + list[entry[1]:]
	at := firstInfra.FindStringIndex(list)
	if at == nil {
		return nil, errors.New("no imports of infra, before which a function's import would go")
	}
	list = list[:at[0]] + fmt.Sprintf("\n\t%q", s.Module+"/functions/"+s.Name) + list[at[0]:]
	return format.Source([]byte(list))
}
