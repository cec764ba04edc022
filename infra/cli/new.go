package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/scaffold"
)

func (a *app) newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "new",
		Short: "Scaffold a product, or a function that compiles and runs",
		Example: a.example("$ new function reviews\n$ new function refunds --saga\n" +
			"$ new product helpdesk --module example.com/helpdesk"),
	}
	return group(root, a.newFunctionCommand(), a.newProductCommand())
}

func (a *app) newFunctionCommand() *cobra.Command {
	var saga bool
	c := &cobra.Command{
		Use:   "function NAME",
		Short: "Scaffold a function with an operation, an event and tests",
		Long: `Scaffold a function with an operation, an event and tests, add it to the list of functions and write the
derived files. With --saga it is a saga of one step, with its deadline and its undo.

The name becomes a Go package, a DNS label and a part of an event's type: 2 to 30 lower-case letters and digits, a
letter first.`,
		Example: a.example("$ new function reviews\n$ new function refunds --saga"),
		Args:    exactly("name"),
	}
	c.Flags().BoolVar(&saga, "saga", false, "a saga that calls other functions by commands")
	c.RunE = func(c *cobra.Command, args []string) error {
		if done, err := a.delegate(c.Context(), mustBeOwn); done || err != nil {
			return err
		}
		return a.newFunction(c.Context(), args[0], saga)
	}
	return c
}

// newFunction writes the files of a function, and runs the module's command to write the derived files.
func (a *app) newFunction(ctx context.Context, name string, saga bool) error {
	if err := scaffold.CheckName(name); err != nil {
		return usageError{err}
	}
	m, err := a.ownModule()
	if err != nil {
		return err
	}
	written, err := scaffold.Function(m.dir, name, saga)
	if err != nil {
		return err
	}
	for _, path := range written {
		fmt.Fprintln(a.Out, "wrote", path)
	}
	err = a.announced("compiling "+m.command+" to write the derived files",
		func() error { return goTool(ctx, m.dir, nil, "run", m.command, "generate") })
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "functions/%s is written; test it with: go test ./functions/%s ./events\n", name, name)
	fmt.Fprintf(a.Out, "%s dev serves it at /api/%s.\n", a.Name, name)
	return nil
}

func (a *app) newProductCommand() *cobra.Command {
	var o scaffold.ProductOptions
	c := &cobra.Command{
		Use:   "product DIR",
		Short: "Scaffold a product: a repository with two functions and a saga over them",
		Long: `Scaffold a product in a new or empty directory: a repository with two functions, a saga over them with its test
and its simulation, the functions of the kit that every product can take, and environments on the kit's Terraform
modules.

The last part of the module's path names the product and its command.`,
		Example: a.example("$ new product helpdesk --module example.com/helpdesk\n" +
			"$ new product helpdesk --module example.com/helpdesk --kit ../ebb      with a checkout of the kit"),
		Args: exactly("directory"),
	}
	f := c.Flags()
	f.StringVar(&o.Module, "module", "", "path of the Go `module`, such as example.com/helpdesk")
	f.StringVar(&o.Kit, "kit", "", "path of a checkout of the kit; by default the version of this command")
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.Module == "" {
			return usageErrorf("new product needs --module: the path of the Go module, such as example.com/helpdesk")
		}
		o.Dir = filepath.Join(a.Dir, args[0])
		if filepath.IsAbs(args[0]) {
			o.Dir = args[0]
		}
		if o.Kit != "" && !filepath.IsAbs(o.Kit) {
			o.Kit = filepath.Join(a.Dir, o.Kit)
		}
		if o.Version = a.kitVersion(); o.Kit == "" && o.Version == "" {
			return usageErrorf("new product needs --kit, the path of the kit's checkout that this command was built from")
		}
		return a.newProduct(c.Context(), args[0], o)
	}
	return c
}

// kitVersion returns the published version of the kit that this command is built with, or "" for a checkout.
func (a *app) kitVersion() string {
	if a.Build == nil {
		return ""
	}
	for _, m := range append(a.Build.Deps, &a.Build.Main) {
		if m.Path == kitModule() && m.Replace == nil && m.Sum != "" && scaffold.IsPublished(m.Version) {
			return m.Version
		}
	}
	return ""
}

// newProduct writes the files of a product, and completes it with the go command. When that fails, the files remain.
func (a *app) newProduct(ctx context.Context, shown string, o scaffold.ProductOptions) error {
	written, err := scaffold.Product(o)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "wrote %d files into %s\n", len(written), shown)
	a.initRepository(ctx, o.Dir)
	name := scaffold.ProductName(o.Module)
	alone := append(os.Environ(), "GOWORK=off")
	for _, step := range []struct {
		about string
		args  []string
	}{
		{"completing go.mod", []string{"mod", "tidy"}},
		{"compiling ./cmd/" + name + " to write the derived files", []string{"run", "./cmd/" + name, "generate"}},
	} {
		if err := a.announced(step.about, func() error { return goTool(ctx, o.Dir, alone, step.args...) }); err != nil {
			return err
		}
	}
	fmt.Fprintf(a.Out, "%s is complete. Next: cd %s && make test run\n", o.Module, shown)
	return nil
}

// initRepository runs git init for a new product, unless it is in a repository or git is not installed. Event types
// that were never committed can be renamed.
func (a *app) initRepository(ctx context.Context, dir string) {
	if exec.CommandContext(ctx, "git", "-C", dir, "rev-parse", "--is-inside-work-tree").Run() == nil {
		return
	}
	if exec.CommandContext(ctx, "git", "init", "--quiet", dir).Run() == nil {
		fmt.Fprintln(a.Out, "made it a git repository")
	}
}

// goTool runs the go command in a directory with the environment env; nil means this process's. Its output is part of
// the error.
func goTool(ctx context.Context, dir string, env []string, args ...string) error {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir, c.Env = dir, env
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
