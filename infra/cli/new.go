package cli

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "new function NAME",
		Short:   "Scaffold a function that compiles and runs",
		Example: a.example("$ new function reviews"),
	}
	function := &cobra.Command{
		Use:   "function NAME",
		Short: "Scaffold a function with an operation, an event and tests",
		Long: `Scaffold a function with an operation, an event and tests, add it to the list of functions and write the
derived files.

The name becomes a Go package, a DNS label and a part of an event's type: 2 to 30 lower-case letters and digits, a
letter first.`,
		Example: a.example("$ new function reviews"),
		Args:    exactly("name"),
	}
	function.RunE = func(c *cobra.Command, args []string) error {
		if done, err := a.delegate(c.Context(), mustBeOwn); done || err != nil {
			return err
		}
		return a.newFunction(c.Context(), args[0])
	}
	return group(root, function)
}

// newFunction writes the files of a function, and runs the module's command to write the derived files.
func (a *app) newFunction(ctx context.Context, name string) error {
	s, err := newScaffold(a, name)
	if err != nil {
		return err
	}
	if err := s.write(); err != nil {
		return err
	}
	m, err := a.ownModule()
	if err != nil {
		return err
	}
	err = a.announced("compiling "+m.command+" to write the derived files",
		func() error { return goTool(ctx, m.dir, "run", m.command, "generate") })
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "functions/%s is written; test it with: go test ./functions/%s ./events\n", name, name)
	fmt.Fprintf(a.Out, "%s dev serves it at /api/%s.\n", a.Name, name)
	return nil
}

// goTool runs the go command in a directory. Its output is part of the error.
func goTool(ctx context.Context, dir string, args ...string) error {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
