package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/internal/editdistance"
)

// contexts holds the names and URLs of running systems. It holds no credentials.
type contexts struct {
	Current  string         `yaml:"current,omitempty"`
	Contexts []namedContext `yaml:"contexts"`
}

type namedContext struct {
	Name string `yaml:"name" json:"name"`
	URL  string `yaml:"url" json:"url"`
}

func (c contexts) names() []string {
	names := make([]string, len(c.Contexts))
	for i, one := range c.Contexts {
		names[i] = one.Name
	}
	return names
}

// url returns the address of a context. An unknown name is an error with the nearest one.
func (c contexts) url(name string) (string, error) {
	for _, one := range c.Contexts {
		if one.Name == name {
			return one.URL, nil
		}
	}
	if near := editdistance.Nearest(name, c.names()); near != "" {
		return "", usageErrorf("unknown context %q; did you mean %q?", name, near)
	}
	return "", usageErrorf("unknown context %q; add it with context add %s URL", name, name)
}

func (a *app) contextsFile() (string, error) {
	dir := a.ConfigDir
	if dir == "" {
		var err error
		if dir, err = os.UserConfigDir(); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "ebb", "contexts.yaml"), nil
}

func (a *app) loadContexts() (c contexts, err error) {
	path, err := a.contextsFile()
	if err != nil {
		return c, nil // without a home directory there are no contexts
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := yaml.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (a *app) saveContexts(c contexts) error {
	path, err := a.contextsFile()
	if err != nil {
		return err
	}
	data, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return local.WriteSecret(path, data)
}

func (a *app) contextURL(name string) (string, error) {
	c, err := a.loadContexts()
	if err != nil {
		return "", err
	}
	return c.url(name)
}

func (a *app) contextCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "context",
		Short: "Name the running systems that other commands use",
		Long: `Name the running systems that other commands use.

The names and addresses are in contexts.yaml in the user's configuration directory. They hold no credentials:
they come from login, from EBB_ADMIN_EMAIL and EBB_ADMIN_PASSWORD, or from the data directory of a system on this
machine.`,
		Example: a.example(`
$ context add prod https://shop.example.com
$ context use prod
$ events list --context prod`),
	}
	return group(root, a.contextList(), a.contextShow(), a.contextAdd(), a.contextUse(), a.contextRemove())
}

func (a *app) contextList() *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the contexts; * marks the current one",
		Args:    noArgs,
		Example: a.example("$ context list -o json"),
	}
	o.define(a, c.Flags())
	completeFormats(c)
	c.RunE = func(*cobra.Command, []string) error {
		all, err := a.loadContexts()
		if err != nil {
			return err
		}
		t := a.table("CURRENT", "NAME", "URL")
		for _, one := range all.Contexts {
			if o.structured() {
				if err := o.item(shownContext{one.Name, one.URL, one.Name == all.Current}); err != nil {
					return err
				}
				continue
			}
			mark := ""
			if one.Name == all.Current {
				mark = "*"
			}
			t.row(mark, one.Name, one.URL)
		}
		if !o.structured() {
			t.flush()
		}
		return nil
	}
	return c
}

type shownContext struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Current bool   `json:"current"`
}

func (a *app) contextShow() *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:               "show [NAME]",
		Short:             "Show a context, the current one unless it is named",
		Args:              atMostOne("name"),
		Example:           a.example("$ context show"),
		ValidArgsFunction: a.completeContexts,
	}
	o.define(a, c.Flags())
	completeFormats(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		all, err := a.loadContexts()
		if err != nil {
			return err
		}
		name := all.Current
		if len(args) > 0 {
			name = args[0]
		}
		if name == "" {
			return errors.New("no context is in use; choose one with context use NAME")
		}
		address, err := all.url(name)
		if err != nil {
			return err
		}
		if o.structured() {
			return o.one(shownContext{name, address, name == all.Current})
		}
		fmt.Fprintf(a.Out, "%s  %s\n", name, address)
		return nil
	}
	return c
}

func (a *app) contextAdd() *cobra.Command {
	return &cobra.Command{
		Use:     "add NAME URL",
		Short:   "Add a context, or change the address of one",
		Example: a.example("$ context add prod https://shop.example.com"),
		Args:    exactly("name", "URL"),
		RunE: func(_ *cobra.Command, args []string) error {
			name, address := args[0], args[1]
			if err := checkAddress(address); err != nil {
				return err
			}
			all, err := a.loadContexts()
			if err != nil {
				return err
			}
			if i := slices.Index(all.names(), name); i >= 0 {
				all.Contexts[i].URL = address
			} else {
				all.Contexts = append(all.Contexts, namedContext{name, address})
			}
			return a.saveContexts(all)
		},
	}
}

// checkAddress refuses what is no address of a system, and one that holds a password.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return usageErrorf("%q is no address of a system: want http://HOST:PORT or https://HOST", address)
	case u.User != nil:
		return usageErrorf("the address must hold no credentials: set EBB_ADMIN_EMAIL and EBB_ADMIN_PASSWORD")
	}
	return nil
}

func (a *app) contextUse() *cobra.Command {
	return &cobra.Command{
		Use:               "use NAME",
		Short:             "Make a context the current one",
		Args:              exactly("name"),
		Example:           a.example("$ context use prod"),
		ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := a.loadContexts()
			if err != nil {
				return err
			}
			if _, err := all.url(args[0]); err != nil {
				return err
			}
			all.Current = args[0]
			return a.saveContexts(all)
		},
	}
}

func (a *app) contextRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Remove a context",
		Args:              exactly("name"),
		Example:           a.example("$ context remove prod"),
		ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := a.loadContexts()
			if err != nil {
				return err
			}
			if _, err := all.url(args[0]); err != nil {
				return err
			}
			all.Contexts = slices.DeleteFunc(all.Contexts, func(c namedContext) bool { return c.Name == args[0] })
			if all.Current == args[0] {
				all.Current = ""
			}
			return a.saveContexts(all)
		},
	}
}

func (a *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	all, _ := a.loadContexts() // a shell that completes shows no errors
	return all.names(), cobra.ShellCompDirectiveNoFileComp
}

// exactly returns a check for one argument for each name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageErrorf("%s wants %s, got %d arguments", c.Name(), wordsOf(names), len(args))
		}
		return nil
	}
}

func atMostOne(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usageErrorf("%s wants one %s at most, got %d", c.Name(), name, len(args))
		}
		return nil
	}
}

func wordsOf(names []string) string {
	if len(names) == 1 {
		return "one " + names[0]
	}
	text := "a " + names[0]
	for _, n := range names[1:] {
		text += " and a " + n
	}
	return text
}
