package scaffold

import (
	"errors"
	"fmt"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// ProductOptions say what product is made.
type ProductOptions struct {
	Dir    string // where; it is made if it does not exist, and must be empty otherwise
	Module string // path of its Go module: example.com/helpdesk

	// Kit is the path of a checkout of the kit that the product is built with; "": a published version. The paths from
	// the product to the checkout and back are relative, so both are moved together.
	Kit string

	// Version is the version of the kit that go.mod requires and that Terraform's modules are taken from: v0.3.0. With
	// Kit it may be empty.
	Version string

	// Now is the time that func.yaml names; zero: the present.
	Now time.Time
}

// noVersion stands in go.mod for the version of a kit that is replaced by a checkout.
const noVersion = "v0.0.0-00010101000000-000000000000"

// product is what templates of a product speak of.
type product struct {
	Kit, Module, Version, Replace string
	Name                          string // helpdesk
	Title                         string // Helpdesk
	Package                       string // of the root: helpdesk
	Role                          string // of a database: helpdesk
	Namespace, Schemas            string
	TerraformModule               string
	Created                       string
}

// Product writes the files of a new product and returns their paths below its directory. Two more steps make it
// complete, both by running the go command in it: go mod tidy, and go run ./cmd/NAME generate (see ProductName). An
// error leaves nothing written, except one of the file system.
func Product(o ProductOptions) ([]string, error) {
	p, err := o.product()
	if err != nil {
		return nil, err
	}
	if err := empty(o.Dir); err != nil {
		return nil, err
	}
	files, err := render("product", p, func(at string) string {
		switch {
		case at == "gitignore":
			return ".gitignore"
		case at == "ci/run":
			return ".ci/run"
		case strings.HasPrefix(at, "cmd/name/"):
			return "cmd/" + p.Name + strings.TrimPrefix(at, "cmd/name")
		}
		return at
	})
	if err != nil {
		return nil, err
	}
	if o.Kit != "" {
		// What the kit needs is what the product needs, so that go mod tidy needs no server of checksums.
		if files["go.sum"], err = os.ReadFile(filepath.Join(o.Kit, "go.sum")); err != nil {
			return nil, fmt.Errorf("invalid path of the kit: %w", err)
		}
	}
	return write(o.Dir, files)
}

// ProductName returns what the product of a module is called: helpdesk for example.com/helpdesk. Its command is
// ./cmd/helpdesk.
func ProductName(modulePath string) string {
	prefix, _, _ := module.SplitPathVersion(modulePath)
	return dashed(path.Base(prefix))
}

func (o ProductOptions) product() (p product, err error) {
	if err := module.CheckPath(o.Module); err != nil {
		// A path without a dot is good for a module that no other module imports.
		if err := module.CheckImportPath(o.Module); err != nil {
			return p, fmt.Errorf("invalid module path %q: %w", o.Module, err)
		}
	}
	p = product{Kit: Kit, Module: o.Module, Version: o.Version, Name: ProductName(o.Module)}
	p.Package = strings.ReplaceAll(p.Name, "-", "")
	if !label.MatchString(p.Name) || token.IsKeyword(p.Package) ||
		slices.Contains([]string{"function", "functions", "events", "image", "init", "test", "main"}, p.Name) {
		return p, fmt.Errorf(
			"invalid module path %q: its last part names the product: want 2 to 40 letters, digits and hyphens, "+
				"a letter first, and no keyword of Go",
			o.Module,
		)
	}
	p.Title = titled(p.Name)
	p.Role = strings.ReplaceAll(p.Name, "-", "_")
	p.Namespace, p.Schemas = namespaceOf(o.Module), "https://"+o.Module+"/schemas/"
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	p.Created = o.Now.UTC().Format(time.RFC3339)
	if o.Kit == "" {
		if !IsPublished(o.Version) {
			return p, fmt.Errorf(
				"invalid version of the kit %q: want a published one such as v0.3.0, or the path of a checkout",
				o.Version,
			)
		}
		p.TerraformModule = "git::https://" + Kit + ".git//terraform/modules/product?ref=" + gitRef(o.Version)
		return p, nil
	}
	return p, p.replace(o)
}

// replace makes the product use a checkout of the kit.
func (p *product) replace(o ProductOptions) error {
	mod, err := os.ReadFile(filepath.Join(o.Kit, "go.mod"))
	if err != nil {
		return fmt.Errorf("invalid path of the kit: %w", err)
	}
	if got := modfile.ModulePath(mod); got != Kit {
		return fmt.Errorf("invalid path of the kit: %s is the module %q, want %s", o.Kit, got, Kit)
	}
	if p.Version == "" {
		p.Version = noVersion
	}
	if p.Replace, err = relative(o.Dir, o.Kit); err != nil {
		return err
	}
	environment := filepath.Join(o.Dir, "terraform", "environments", "dev")
	p.TerraformModule, err = relative(environment, filepath.Join(o.Kit, "terraform", "modules", "product"))
	return err
}

// relative returns the path from a directory, which need not exist, to another, in the form that Go and Terraform take
// for a local one: it begins with a dot. Links are followed, because .. leads out of what a link names.
func relative(from, to string) (string, error) {
	from, err := resolved(from)
	if err != nil {
		return "", err
	}
	if to, err = resolved(to); err != nil {
		return "", err
	}
	rel, err := filepath.Rel(from, to)
	if err != nil {
		return "", err
	}
	if rel = filepath.ToSlash(rel); !strings.HasPrefix(rel, "../") {
		rel = "./" + rel
	}
	return rel, nil
}

// resolved returns the absolute path of a file, with the links followed of as much of it as exists.
func resolved(p string) (string, error) {
	p, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(p)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(p) != p {
		above, err := resolved(filepath.Dir(p))
		return filepath.Join(above, filepath.Base(p)), err
	}
	return real, err
}

// empty reports why a product cannot be made in a directory.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != ".git" {
			return fmt.Errorf("%s is not empty: it has %s", dir, e.Name())
		}
	}
	return err
}

// label is good as a DNS label, a folder and a part of a Go package's name.
var label = regexp.MustCompile(`^[a-z][a-z0-9-]{0,38}[a-z0-9]$`)

var notInLabel = regexp.MustCompile(`[^a-z0-9]+`)

// dashed returns a name in lower case with hyphens for what a DNS label cannot have.
func dashed(name string) string {
	return strings.Trim(notInLabel.ReplaceAllString(strings.ToLower(name), "-"), "-")
}

// titled returns a name for people: Help Desk for help-desk.
func titled(name string) string {
	words := strings.Split(name, "-")
	for i, w := range words {
		if w != "" {
			r := []rune(w)
			words[i] = string(unicode.ToUpper(r[0])) + string(r[1:])
		}
	}
	return strings.Join(words, " ")
}

// namespaceOf returns the namespace of the event types of a module: com.example.helpdesk for example.com/helpdesk.
func namespaceOf(modulePath string) string {
	prefix, _, _ := module.SplitPathVersion(modulePath)
	parts := strings.Split(prefix, "/")
	host := strings.Split(parts[0], ".")
	slices.Reverse(host)
	if len(host)+len(parts) < 3 { // a single word is no reversed domain name
		host = append([]string{"local"}, host...)
	}
	var all []string
	for _, part := range append(host, parts[1:]...) {
		part = dashed(part)
		if part == "" || part[0] >= '0' && part[0] <= '9' {
			part = "x" + part
		}
		all = append(all, part)
	}
	return strings.Join(all, ".")
}

// IsPublished reports whether a version of the kit can be required from a proxy and fetched from git: the build of a
// checkout made none up.
func IsPublished(version string) bool {
	return version != "" && module.CanonicalVersion(version) == version && !strings.Contains(version, "+")
}

// gitRef returns what git calls a version: its tag, or the commit of a pseudo-version.
func gitRef(version string) string {
	if rev, err := module.PseudoVersionRev(version); err == nil {
		return rev
	}
	return version
}
