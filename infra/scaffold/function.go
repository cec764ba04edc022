package scaffold

import (
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// NameError is a name that no function can have.
type NameError struct{ Name, Reason string }

func (e *NameError) Error() string {
	return fmt.Sprintf("invalid function name %q: %s", e.Name, e.Reason)
}

// functionName is good as a Go package, a DNS label and a part of an event's type.
var functionName = regexp.MustCompile(`^[a-z][a-z0-9]{1,29}$`)

// reserved names are those of packages that scaffolded functions import, of their own types, and of folders and
// functions that mean something else to Go.
var reserved = []string{
	"api", "auth", "context", "entry", "event", "events", "fault", "function", "functions", "generate", "http", "init",
	"main", "request", "saga", "step", "steps", "store", "strings", "system", "test", "testdata", "time", "utf8", "vendor",
}

// CheckName returns a *NameError for a name that no function can have, and nil for others.
func CheckName(name string) error {
	switch {
	case !functionName.MatchString(name) || token.IsKeyword(name):
		return &NameError{name, "want 2 to 30 lower-case letters and digits, a letter first"}
	case slices.Contains(reserved, name) || doc.IsPredeclared(name):
		return &NameError{name, "the code of a function uses it for something else"}
	}
	return nil
}

// function is what templates of a function speak of.
type function struct {
	Kit, Module string
	Name        string // reviews
	Type        string // Reviews
	Namespace   string // the variable of the events package: namespace
}

// Function writes the files of a new function into the product in dir, the root of its module, adds it to the list of
// functions, and returns the paths of what it wrote, below dir. With saga it is a saga of one step, with a deadline and
// an undo. The derived files and the recordings of the event types are left to ebb generate. A name that no function
// can have is a *NameError. An error leaves nothing written, except one of the file system.
func Function(dir, name string, saga bool) ([]string, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	f := function{Kit: Kit, Name: name, Type: strings.ToUpper(name[:1]) + name[1:]}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	if f.Module = modfile.ModulePath(mod); f.Module == "" {
		return nil, errors.New("go.mod names no module")
	}
	if f.Namespace, err = namespaceIn(filepath.Join(dir, "events")); err != nil {
		return nil, err
	}
	template := "function"
	if saga {
		template = "saga"
	}
	files, err := render(template, f, func(at string) string {
		return path.Join(path.Dir(strings.Replace(at, "functions/name/", "functions/"+name+"/", 1)),
			strings.Replace(path.Base(at), "name.go", name+".go", 1))
	})
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "functions", name)); err == nil {
		return nil, fmt.Errorf("functions/%s exists already", name)
	}
	list, content, err := f.listed(dir)
	if err != nil {
		return nil, err
	}
	files[list] = content
	return write(dir, files, list)
}

// namespaceIn returns the variable that holds the namespace of the types of an events package.
func namespaceIn(dir string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", err
	}
	for _, p := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			return "", err
		}
		for _, d := range file.Decls {
			if name := namespaceOfDecl(d); name != "" {
				return name, nil
			}
		}
	}
	return "", fmt.Errorf("no file of %s has a variable that is event.NewNamespace(…)", dir)
}

func namespaceOfDecl(d ast.Decl) string {
	declared, ok := d.(*ast.GenDecl)
	if !ok || declared.Tok != token.VAR {
		return ""
	}
	for _, spec := range declared.Specs {
		v := spec.(*ast.ValueSpec)
		for i, value := range v.Values {
			call, ok := value.(*ast.CallExpr)
			if !ok || len(v.Names) != len(v.Values) {
				continue
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "NewNamespace" {
				return v.Names[i].Name
			}
		}
	}
	return ""
}

// The list of functions is written so that a line for each is all there is to add.
var (
	entries    = regexp.MustCompile(`(?m)^(\t+)\{Name: "[a-z0-9]+", New: ([a-z0-9]+)\.New\},\n`)
	firstInfra = regexp.MustCompile(`\n\t"[^"\n]+/infra/`)
)

// listed returns the file with the list of the product's own functions, and its content with the function added.
func (f function) listed(dir string) (file string, content []byte, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "functions", "*.go"))
	if err != nil {
		return "", nil, err
	}
	// The last file with a list is that of the product's own functions, where the kit's have another.
	for _, p := range slices.Backward(paths) {
		raw, err := os.ReadFile(p)
		if err != nil {
			return "", nil, err
		}
		if at, indent := f.place(string(raw)); at > 0 {
			content, err := f.added(string(raw), at, indent)
			if err != nil {
				return "", nil, fmt.Errorf("%s: %w", p, err)
			}
			return "functions/" + filepath.Base(p), content, nil
		}
	}
	return "", nil, fmt.Errorf(
		`no file of %s lists functions such as {Name: "users", New: users.New},`,
		filepath.Join(dir, "functions"),
	)
}

// place returns where the line of the function goes: behind the last of a function of this module, or else of any.
func (f function) place(list string) (at int, indent string) {
	own := false
	for _, e := range entries.FindAllStringSubmatchIndex(list, -1) {
		pkg := list[e[4]:e[5]]
		mine := strings.Contains(list, "\""+f.Module+"/functions/"+pkg+"\"\n")
		if mine || !own {
			at, indent, own = e[1], list[e[2]:e[3]], mine
		}
	}
	return at, indent
}

func (f function) added(list string, at int, indent string) ([]byte, error) {
	if strings.Contains(list, "/functions/"+f.Name+"\"\n") {
		return nil, fmt.Errorf("a function %q is listed already", f.Name)
	}
	list = list[:at] + fmt.Sprintf("%s{Name: %q, New: %s.New},\n", indent, f.Name, f.Name) + list[at:]
	imports := firstInfra.FindStringIndex(list)
	if imports == nil {
		return nil, errors.New("no imports of infra to put the function's before")
	}
	return format.Source(
		[]byte(list[:imports[0]] + fmt.Sprintf("\n\t%q", f.Module+"/functions/"+f.Name) + list[imports[0]:]),
	)
}
