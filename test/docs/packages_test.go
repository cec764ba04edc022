package docs

import (
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// authors are the packages that an author of functions uses: their documentation has an example.
var authors = []string{
	"cli", "config", "event", "fault", "function", "function/functiontest", "host/run", "journal", "saga", "simulate",
	"store", "system",
}

// Every public package of the kit says what it is, in a sentence that begins with its name; those that authors use have
// an example, which is Go.
func TestPackages(t *testing.T) {
	format := "{{.ImportPath}} {{.Dir}} {{.Name}}{{range .GoFiles}} {{.}}{{end}}"
	list := exec.CommandContext(t.Context(), "go", "list", "-f", format, "./infra/...")
	list.Dir = checkout
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		_, name, _ := strings.Cut(words[0], "/infra/")
		if strings.Contains("/"+name+"/", "/internal/") {
			continue
		}
		text := packageDoc(t, words[1], words[3:])
		if !strings.HasPrefix(text, "Package "+words[2]+" ") {
			t.Errorf("infra/%s: the documentation begins with %.40q, want Package %s", name, text, words[2])
		}
		docs[name] = text
	}
	for _, name := range authors {
		var p comment.Parser
		examples := 0
		for _, block := range p.Parse(docs[name]).Content {
			if code, ok := block.(*comment.Code); ok && isGo(code.Text) {
				examples++
			}
		}
		if examples == 0 {
			t.Errorf("infra/%s: the documentation has no example that is Go", name)
		}
	}
}

// packageDoc returns the package comment that is in these files of a directory.
func packageDoc(t *testing.T, dir string, files []string) string {
	t.Helper()
	var text string
	for _, file := range files {
		mode := parser.PackageClauseOnly | parser.ParseComments
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, file), nil, mode)
		if err != nil {
			t.Fatal(err)
		}
		text += f.Doc.Text()
	}
	return text
}

// isGo reports whether a text is declarations of Go or statements.
func isGo(text string) bool {
	for _, source := range []string{"package p\n" + text, "package p\nfunc _() {\n" + text + "\n}"} {
		if _, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution); err == nil {
			return true
		}
	}
	return false
}
