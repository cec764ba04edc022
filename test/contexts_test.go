package test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The kit keeps no context in a struct: a call passes it on. Work that outlives a call ends with a Lifetime (see
// infra/internal/lifetime). A type that embeds a context is one itself.
func TestNoContextInStruct(t *testing.T) {
	list, err := exec.Command("git", "-C", "..", "ls-files", "-co", "--exclude-standard", "infra/*.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(list)) {
		if strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/testdata/") {
			continue
		}
		for _, at := range contextsInStructs(t, filepath.Join("..", filepath.FromSlash(name)), nil) {
			t.Errorf("%s keeps a context in a struct", at)
		}
	}
}

// The test finds a context that is a field, and one in a slice, a map or a pointer of a field.
func TestFindsContextInStruct(t *testing.T) {
	source := `package p
import "context"
type a struct { ctx context.Context }
type b struct { all []context.Context; by map[string]context.Context }
type c struct { context.Context }
type d struct { end func(context.Context) }
func f() { _ = struct{ ctx *context.Context }{} }`
	if got := contextsInStructs(t, "p.go", source); len(got) != 4 {
		t.Errorf("got %q, want 4 places", got)
	}
}

// contextsInStructs returns where the struct types of a file have a field with a context.
func contextsInStructs(t *testing.T, path string, source any) (found []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted and not committed yet
	}
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		s, ok := n.(*ast.StructType)
		if !ok {
			return true
		}
		for _, field := range s.Fields.List {
			if len(field.Names) > 0 && holdsContext(field.Type) {
				found = append(found, files.Position(field.Pos()).String())
			}
		}
		return true
	})
	return found
}

// holdsContext reports whether a value of the type holds a context. The parameters of a function do not count.
func holdsContext(expression ast.Expr) bool {
	switch e := expression.(type) {
	case *ast.SelectorExpr:
		of, ok := e.X.(*ast.Ident)
		return ok && of.Name == "context" && e.Sel.Name == "Context"
	case *ast.StarExpr:
		return holdsContext(e.X)
	case *ast.ArrayType:
		return holdsContext(e.Elt)
	case *ast.MapType:
		return holdsContext(e.Key) || holdsContext(e.Value)
	case *ast.ChanType:
		return holdsContext(e.Value)
	}
	return false
}
