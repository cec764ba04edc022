package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/manifest"
)

func (a *app) manifestCommand() *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:     "manifest",
		Short:   "Show what every function serves, consumes, emits and stores",
		Example: a.example("$ manifest\n$ manifest -o wide                  a table of all routes\n$ manifest --json"),
		Args:    noArgs,
	}
	o.define(a, c.Flags())
	completeFormats(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if done, err := a.delegate(c.Context(), mayBeForeign); done || err != nil {
			return err
		}
		return a.manifest(&o)
	}
	return c
}

func (a *app) manifest(o *output) error {
	declared, err := a.system.Declare()
	if err != nil {
		return err
	}
	switch {
	case o.structured():
		return o.one(declared.Manifests())
	case o.wide():
		a.routes(declared)
		return nil
	}
	for i, d := range declared.Functions {
		if i > 0 {
			fmt.Fprintln(a.Out)
		}
		a.declaration(d.Function)
	}
	return nil
}

// routes shows all routes of all functions in one table.
func (a *app) routes(declared manifest.System) {
	t := a.table("FUNCTION", "METHOD", "PATH", "ACCESS")
	for _, d := range declared.Functions {
		for _, r := range d.Function.Routes {
			t.row(d.Name, r.Method, r.Path, whoMay(r))
		}
	}
	t.flush()
}

func whoMay(r manifest.Route) string {
	if len(r.Roles) > 0 {
		return strings.Join(r.Roles, " or ")
	}
	return r.Access
}

// declaration shows one function.
func (a *app) declaration(m manifest.Function) {
	fmt.Fprintln(a.Out, a.paint(a.Out, bold, m.Name))
	for _, r := range m.Routes {
		fmt.Fprintf(a.Out, "  serves    %-6s %s (%s)\n", r.Method, r.Path, whoMay(r))
	}
	for _, list := range []struct {
		verb  string
		items []string
	}{
		{"consumes", m.Consumes}, {"emits   ", m.Emits}, {"stores  ", stored(m)}, {"runs    ", scheduled(m)},
		{"calls   ", called(m)},
	} {
		for _, item := range list.items {
			fmt.Fprintf(a.Out, "  %s  %s\n", list.verb, item)
		}
	}
	for _, trait := range []struct {
		text string
		is   bool
	}{{"gets ticks", m.Ticks}, {"stores dead letters", m.DeadLetters}, {"is a gateway", m.Gateway}} {
		if trait.is {
			fmt.Fprintln(a.Out, "  "+trait.text)
		}
	}
}

func scheduled(m manifest.Function) (texts []string) {
	for _, s := range m.Schedules {
		texts = append(texts, fmt.Sprintf("%s at %q in %s", s.Name, s.Expression, s.Zone))
	}
	return texts
}

func called(m manifest.Function) (names []string) {
	for _, c := range m.Calls {
		names = append(names, c.Name)
	}
	return names
}

func stored(m manifest.Function) (names []string) {
	for _, c := range m.Collections {
		if !strings.HasPrefix(c.Name, "_") {
			names = append(names, c.Name)
		}
	}
	return names
}
