package scaffold_test

import (
	"errors"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/scaffold"
)

// options make example.com/helpdesk with this checkout of the kit.
func options(t *testing.T) scaffold.ProductOptions {
	t.Helper()
	return scaffold.ProductOptions{
		Dir: filepath.Join(t.TempDir(), "desk"), Module: "example.com/helpdesk", Kit: "../..",
		Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func product(t *testing.T, o scaffold.ProductOptions) (dir string, written []string) {
	t.Helper()
	written, err := scaffold.Product(o)
	if err != nil {
		t.Fatal(err)
	}
	return o.Dir, written
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A product has 25 files: with what generate writes they are 30.
func TestProductIsSmall(t *testing.T) {
	dir, written := product(t, options(t))
	if len(written) > 25 {
		t.Errorf("wrote %d files, want at most 25: %v", len(written), written)
	}
	for _, p := range written {
		if strings.HasSuffix(p, ".go") {
			if text := read(t, dir, p); !formatted(text) {
				t.Errorf("%s is not formatted", p)
			}
		}
	}
	info, err := os.Stat(filepath.Join(dir, ".ci/run"))
	if err != nil || info.Mode()&0o111 == 0 {
		t.Errorf(".ci/run cannot be executed: %v, %v", info, err)
	}
}

func formatted(text string) bool {
	out, err := format.Source([]byte(text))
	return err == nil && string(out) == text
}

// What puts the product together are at most 25 lines of code, package clauses and imports left out.
func TestWiringIsShort(t *testing.T) {
	dir, _ := product(t, options(t))
	imports := regexp.MustCompile(`(?s)\nimport (\(.*?\n\)|[^\n]*)\n`)
	lines := 0
	for _, p := range []string{
		"functions/functions.go", "cmd/function/main.go", "cmd/helpdesk/main.go", "function.go",
	} {
		for line := range strings.Lines(imports.ReplaceAllString(read(t, dir, p), "\n")) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") &&
				!strings.HasPrefix(line, "package ") {
				lines++
			}
		}
	}
	if lines > 25 || lines < 5 {
		t.Errorf("%d lines, want at most 25", lines)
	}
}

// With a checkout of the kit, Go and Terraform find it by its path, also when a link leads to the product.
func TestProductOnCheckout(t *testing.T) {
	o := options(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Mkdir(filepath.Dir(o.Dir)+"/deep", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(o.Dir)+"/deep", link); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	o.Dir = filepath.Join(link, "desk")
	dir, _ := product(t, o)
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	replace := regexp.MustCompile(`replace github.com/ebb-dev/ebb => (\S+)`).FindStringSubmatch(read(t, dir, "go.mod"))
	if replace == nil || !strings.Contains(read(t, real, replace[1], "go.mod"), "module github.com/ebb-dev/ebb\n") {
		t.Errorf("go.mod replaces the kit by %v", replace)
	}
	source := regexp.MustCompile(`source = "(\.[^"]*)"`).
		FindStringSubmatch(read(t, dir, "terraform/environments/prod/main.tf"))
	if source == nil {
		t.Fatal("the module of the environment has no path")
	}
	read(t, real, "terraform/environments/prod", source[1], "main.tf")
}

// Without a checkout the product is on a published version, by its tag or by the commit of a pseudo-version.
func TestProductOnVersion(t *testing.T) {
	for version, ref := range map[string]string{
		"v0.3.0": "v0.3.0", "v0.3.1-0.20260102030405-0123456789ab": "0123456789ab",
	} {
		o := options(t)
		o.Kit, o.Version = "", version
		dir, _ := product(t, o)
		if mod := read(t, dir, "go.mod"); !strings.Contains(mod, "require github.com/ebb-dev/ebb "+version+"\n") ||
			strings.Contains(mod, "replace") {
			t.Errorf("got %s", mod)
		}
		if tf := read(t, dir, "terraform/environments/dev/main.tf"); !strings.Contains(
			tf,
			"//terraform/modules/product?ref="+ref+`"`,
		) {
			t.Errorf("got %s", tf)
		}
	}
}

// Event types are named after the module, and so is the product.
func TestNames(t *testing.T) {
	for module, want := range map[string][3]string{
		"example.com/helpdesk":          {"helpdesk", "com.example.helpdesk", "Helpdesk"},
		"github.com/acme/Help_Desk/v2":  {"help-desk", "com.github.acme.help-desk", "Help Desk"},
		"helpdesk":                      {"helpdesk", "local.helpdesk", "Helpdesk"},
		"git.1and1.example/2go/tickets": {"tickets", "example.x1and1.git.x2go.tickets", "Tickets"},
	} {
		o := options(t)
		o.Module = module
		dir, _ := product(t, o)
		read(t, dir, "cmd", want[0], "main.go")
		for file, text := range map[string]string{
			"events/events.go":       `event.NewNamespace("` + want[1] + `", "https://` + module + `/schemas/")`,
			"functions/functions.go": `Title: "` + want[2] + `"`,
		} {
			if got := read(t, dir, file); !strings.Contains(got, text) {
				t.Errorf("%s: %s has no %s:\n%s", module, file, text, got)
			}
		}
	}
}

// What cannot be made is refused, and nothing is written.
func TestProductRefuses(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "notes"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go", "type", "im-port", "init", "image"} {
		o := options(t)
		o.Module = "example.com/" + name
		if _, err := scaffold.Product(o); err == nil || !strings.Contains(err.Error(), "names the product") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for want, change := range map[string]func(*scaffold.ProductOptions){
		"invalid module path":             func(o *scaffold.ProductOptions) { o.Module = "example.com/help desk" },
		"names the product":               func(o *scaffold.ProductOptions) { o.Module = "example.com/function" },
		"is not empty: it has notes":      func(o *scaffold.ProductOptions) { o.Dir = full },
		"is the module":                   func(o *scaffold.ProductOptions) { o.Kit = "../../cmd/image" },
		"invalid path of the kit":         func(o *scaffold.ProductOptions) { o.Kit = full },
		"invalid version of the kit \"\"": func(o *scaffold.ProductOptions) { o.Kit = "" },
	} {
		o := options(t)
		change(&o)
		if _, err := scaffold.Product(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if entries, _ := os.ReadDir(o.Dir); o.Dir != full && len(entries) > 0 {
			t.Errorf("%s: it wrote %v", want, entries)
		}
	}
}

// A function is listed behind the product's own, and its events are in the product's namespace.
func TestFunction(t *testing.T) {
	dir, _ := product(t, options(t))
	for _, saga := range []bool{false, true} {
		name := map[bool]string{false: "reviews", true: "refunds"}[saga]
		written, err := scaffold.Function(dir, name, saga)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range written {
			if text := read(t, dir, p); !formatted(text) {
				t.Errorf("%s is not formatted", p)
			}
		}
		if _, err := scaffold.Function(dir, name, saga); err == nil ||
			!strings.Contains(err.Error(), "functions/"+name+" exists already") {
			t.Errorf("a second time: %v", err)
		}
	}
	list := read(t, dir, "functions/functions.go")
	own := regexp.MustCompile(
		`(?s)"agents", New: agents.New\},\s*\{Name: "reviews", New: reviews.New\},` +
			`\s*\{Name: "refunds", New: refunds.New\},\s*\{Name: "users"`,
	)
	if !own.MatchString(list) || !strings.Contains(list, "\t\"example.com/helpdesk/functions/refunds\"\n") {
		t.Errorf("the list is %s", list)
	}
}

// In this repository a function is listed with those of the shop.
func TestFunctionOfShop(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []string{"go.mod", "functions/functions.go", "functions/shop.go", "events/events.go"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(p)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, p), []byte(read(t, "../..", p)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := scaffold.Function(dir, "reviews", false)
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(written, " "); !strings.Contains(all, "functions/shop.go") ||
		!strings.Contains(all, "events/reviews.go") {
		t.Errorf("wrote %s", all)
	}
	if list := read(t, dir, "functions/shop.go"); !strings.Contains(
		list,
		"\t\t\t{Name: \"reviews\", New: reviews.New},\n\t\t},\n",
	) {
		t.Errorf("the list is %s", list)
	}
}

// What cannot be added is refused, and nothing is written.
func TestFunctionRefuses(t *testing.T) {
	var invalid *scaffold.NameError
	for _, name := range []string{
		"", "r", "Reviews", "my-reviews", "2go", "func", "events", "saga",
		"string", "error", "len", "init", "vendor", "testdata", // would not compile, or would not be tested
	} {
		if _, err := scaffold.Function(t.TempDir(), name, false); !errors.As(err, &invalid) {
			t.Errorf("%q: got %v", name, err)
		}
	}
	dir, _ := product(t, options(t))
	if _, err := scaffold.Function(dir, "users", false); err == nil || !strings.Contains(err.Error(), "listed already") {
		t.Errorf("the name of a function of the kit: got %v", err)
	} else if _, err := os.Stat(filepath.Join(dir, "functions/users")); err == nil {
		t.Error("the name of a function of the kit: it wrote something")
	}
	for file, want := range map[string]string{
		"functions/functions.go": "lists functions such as",
		"events/events.go":       "event.NewNamespace",
		"go.mod":                 "find the module",
	} {
		dir, _ := product(t, options(t))
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
		if _, err := scaffold.Function(dir, "reviews", false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: got %v, want %s", file, err, want)
		}
		if _, err := os.Stat(filepath.Join(dir, "functions/reviews")); err == nil {
			t.Errorf("without %s it wrote something", file)
		}
	}
}
