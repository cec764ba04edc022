package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
)

// goModule is the Go module of a directory.
type goModule struct {
	dir     string // absolute
	path    string // example.com/helpdesk
	command string // the folder of its command, such as ./cmd/helpdesk; "": none
}

// self returns the import path of this package. A main package that imports it is the module's command.
func self() string { return reflect.TypeFor[app]().PkgPath() }

// kitModule returns the path of the module that contains this package.
func kitModule() string { return strings.TrimSuffix(self(), "/infra/cli") }

// errNoModule is the error for a directory without go.mod in it or above it.
var errNoModule = errors.New("no Go module here: go.mod was not found in this folder or above it")

// moduleAt returns the module of dir, with its command.
func moduleAt(dir string) (m goModule, err error) {
	if m.dir, err = filepath.Abs(dir); err != nil {
		return m, err
	}
	for {
		data, err := os.ReadFile(filepath.Join(m.dir, "go.mod"))
		if err == nil {
			m.path = modfile.ModulePath(data)
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return m, err
		}
		above := filepath.Dir(m.dir)
		if above == m.dir {
			return m, errNoModule
		}
		m.dir = above
	}
	if m.path == "" {
		return m, fmt.Errorf("missing module path in %s", filepath.Join(m.dir, "go.mod"))
	}
	m.command, err = m.findCommand()
	return m, err
}

// findCommand returns the folder below cmd whose package imports this one. Of several it returns the one with the
// module's name.
func (m goModule) findCommand() (string, error) {
	folders, err := os.ReadDir(filepath.Join(m.dir, "cmd"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var found []string
	for _, f := range folders {
		if f.IsDir() && importsSelf(filepath.Join(m.dir, "cmd", f.Name())) {
			found = append(found, f.Name())
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return "./cmd/" + found[0], nil
	}
	for _, name := range found {
		if name == path.Base(m.path) {
			return "./cmd/" + name, nil
		}
	}
	return "", fmt.Errorf("several commands below %s import %s: %s", filepath.Join(m.dir, "cmd"), self(),
		strings.Join(found, ", "))
}

// importsSelf reports whether a Go file in dir imports this package. It ignores tests.
func importsSelf(dir string) bool {
	files, _ := filepath.Glob(filepath.Join(dir, "*.go")) // the pattern is well formed
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			continue
		}
		for _, imported := range parsed.Imports {
			if p, err := strconv.Unquote(imported.Path.Value); err == nil && p == self() {
				return true
			}
		}
	}
	return false
}

// build compiles the module's command into a file. output holds the compiler's messages.
func (m goModule) build(ctx context.Context, into string, flags ...string) (output string, err error) {
	c := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", into}, flags...), m.command)...)
	c.Dir = m.dir
	out, err := c.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		err = errors.New("the go command is not on the PATH")
	}
	return strings.TrimSpace(string(out)), err
}

// moduleScope tells in which modules a command may run.
type moduleScope int

const (
	mayBeForeign moduleScope = iota // it only reads, or writes to its own directory
	mustBeOwn                       // it writes into the module
)

// delegate runs the command of the module of the current directory, if this command was built from another module. It
// reports whether it did, with the exit code as the error.
//
// A command that was installed (go install MODULE/cmd/NAME@VERSION) returns an error outside such a module. A command
// that was built from its source runs itself there.
func (a *app) delegate(ctx context.Context, s moduleScope) (done bool, err error) {
	m, err := moduleAt(a.Dir)
	switch {
	case errors.Is(err, errNoModule) && s != mustBeOwn && !a.installed():
		return false, nil
	case err != nil:
		return true, err
	case m.path == a.builtFrom() && !a.installed():
		return false, nil
	case m.command == "" && (s == mustBeOwn || a.installed()):
		return true, fmt.Errorf("the module %s has no command of its own: "+
			"want a main package below %s that calls cli.Main of %s", m.path, filepath.Join(m.dir, "cmd"), self())
	case m.command == "":
		return false, nil
	}
	binary, err := a.buildCommand(ctx, m)
	if err != nil {
		return true, err
	}
	return true, a.replace(ctx, binary)
}

// installed reports whether this command was built from a module of the download cache rather than from its source.
func (a *app) installed() bool { return a.Build != nil && a.Build.Main.Sum != "" }

// builtFrom returns the path of the module that this command was built from.
func (a *app) builtFrom() string {
	if a.Build == nil || a.Build.Main.Path == "" {
		return kitModule()
	}
	return a.Build.Main.Path
}

// ownModule returns the module of the current directory, which must have a command.
func (a *app) ownModule() (goModule, error) {
	m, err := moduleAt(a.Dir)
	if err == nil && m.command == "" {
		err = fmt.Errorf("the module %s has no main package below %s that calls cli.Main", m.path,
			filepath.Join(m.dir, "cmd"))
	}
	return m, err
}

// buildCommand builds the module's command into the user's cache, and returns the path of the binary.
func (a *app) buildCommand(ctx context.Context, m goModule) (string, error) {
	dir := a.CacheDir
	if dir == "" {
		var err error
		if dir, err = os.UserCacheDir(); err != nil {
			return "", err
		}
	}
	sum := sha256.Sum256([]byte(m.dir + "\x00" + m.command))
	dir = filepath.Join(dir, "ebb", "commands", hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, path.Base(m.command))
	var output string
	err := a.announced("compiling "+m.command, func() (err error) {
		output, err = m.build(ctx, binary)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%s does not compile: %w\n%s", m.command, err, output)
	}
	return binary, nil
}

// runAsChild runs a binary with this command's arguments, and returns its exit code as an error.
func (a *app) runAsChild(ctx context.Context, binary string) error {
	c := exec.CommandContext(ctx, binary, a.args...)
	c.Dir = a.Dir
	c.Stdin, c.Stdout, c.Stderr = a.In, a.Out, a.Err
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = drainLimit
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitCode(max(exit.ExitCode(), exitFailed))
	}
	return err
}

// sameFile reports whether two files have the same content. It returns false if one of them is missing.
func sameFile(a, b string) bool {
	x, err := os.Open(a)
	if err != nil {
		return false
	}
	defer x.Close()
	y, err := os.Open(b)
	if err != nil {
		return false
	}
	defer y.Close()
	for bx, by := make([]byte, 256<<10), make([]byte, 256<<10); ; {
		n, errX := io.ReadFull(x, bx)
		m, errY := io.ReadFull(y, by)
		if !bytes.Equal(bx[:n], by[:m]) {
			return false
		}
		if errX != nil || errY != nil {
			return errX != nil && errY != nil
		}
	}
}
