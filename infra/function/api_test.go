package function_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxExported is how many exported identifiers the authors of functions have to know at most.
const maxExported = 60

// exported returns the exported constants, variables, types, functions and methods of the package in a folder, sorted.
// Fields and the methods of unexported types do not count.
func exported(t *testing.T, folder string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s: %v", folder, err)
	}
	add := func(name *ast.Ident) {
		if name.IsExported() {
			names = append(names, name.Name)
		}
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					add(d.Name)
				} else if on := receiver(d.Recv.List[0].Type); ast.IsExported(on) && d.Name.IsExported() {
					names = append(names, on+"."+d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						add(spec.Name)
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							add(name)
						}
					}
				}
			}
		}
	}
	slices.Sort(names)
	return names
}

// receiver returns the name of a method's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// The authors' API of a function stays small enough to be read at once.
func TestAPIStaysSmall(t *testing.T) {
	names := exported(t, ".")
	t.Logf("%d exported identifiers", len(names))
	if len(names) > maxExported {
		t.Errorf("%d exported identifiers, want at most %d:\n%s", len(names), maxExported, strings.Join(names, "\n"))
	}
	for _, want := range []string{"Function", "New", "Tx.Emit", "Function.Name", "Public", "Optional"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s was not found", want)
		}
	}
}
