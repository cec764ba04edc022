package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/internal/editdistance"
)

// The groups that help lists the commands in.
const (
	groupDevelop = "develop"
	groupRunning = "running"
	groupBroker  = "broker"
)

// root returns the command with all others below it.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   a.Name,
		Short: "Run and develop a system of functions that scale to zero",
		Long:  a.Name + " runs and develops a system of functions that scale to zero.",
		Example: a.example(`
$ dev                                   the whole system on http://127.0.0.1:8080
$ dev --watch                           the same, rebuilt when a file changes
$ events list --follow                  events as they come
$ call post-users --data @ada.json      an operation by its name in OpenAPI`),
		SilenceErrors: true, SilenceUsage: true, DisableAutoGenTag: true,
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true}, // the unknown command is the better error
		Args:               noSuchCommand,
		RunE: func(c *cobra.Command, _ []string) error {
			c.SetOut(a.Err)
			_ = c.Help() // a failed write to standard error cannot be reported
			return exitCode(exitUsage)
		},
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddGroup(&cobra.Group{ID: groupDevelop, Title: "Develop:"},
		&cobra.Group{ID: groupRunning, Title: "Look into a running system:"},
		&cobra.Group{ID: groupBroker, Title: "Brokers and keys:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupDevelop, a.devCommand(), a.serveCommand(), a.newCommand(), a.generateCommand(), a.manifestCommand(),
		a.configCommand())
	add(groupRunning, a.eventsCommand(), a.sagasCommand(), a.callsCommand(), a.dlqCommand(), a.callCommand(),
		a.outboxCommand(), a.sendCommand(), a.timersCommand(), a.schedulesCommand(), a.personsCommand(),
		a.sessionsCommand(), a.apiKeysCommand(), a.auditCommand(), a.timeMachineCommand(), a.logsCommand(), a.mcpCommand(),
		a.contextCommand(), a.loginCommand(), a.logoutCommand())
	add(groupBroker, a.brokerCommand(), a.conformanceCommand(), a.keysCommand())
	add("", a.versionCommand())
	return root
}

// example replaces the $ at the beginning of each line with the command's name.
func (a *app) example(lines string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		if after, ok := strings.CutPrefix(line, "$"); ok {
			line = a.Name + after
		}
		b.WriteString("  " + line)
	}
	return b.String()
}

// group makes c a command with subcommands.
func group(c *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	c.Args = noSuchCommand
	if c.RunE == nil {
		c.RunE = func(c *cobra.Command, _ []string) error {
			return usageErrorf("%s needs a command: %s", c.CommandPath(), strings.Join(commandNames(c), ", "))
		}
	}
	c.AddCommand(subcommands...)
	return c
}

func commandNames(c *cobra.Command) []string {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// noSuchCommand returns an error for an argument that is not the name of a subcommand.
func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())
	if near := editdistance.Nearest(args[0], commandNames(c)); near != "" {
		return usageErrorf("%s; did you mean %q?", text, near)
	}
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return usageErrorf("%s; did you mean %q?", text, near[0])
	}
	if c.HasParent() {
		return usageErrorf("%s (use %s)", text, strings.Join(commandNames(c), ", "))
	}
	return usageErrorf("%s; %s help lists them", text, c.Name())
}

// noArgs returns an error if there are arguments.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageErrorf("%s takes no arguments, got %q", c.Name(), args[0])
	}
	return nil
}

// idArgument marks a command whose one argument is an id, which may begin with a dash.
const idArgument = "id-argument"

// oneID makes c take one id as its argument.
func oneID(c *cobra.Command) *cobra.Command {
	c.Annotations = map[string]string{idArgument: "yes"}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageErrorf("%s wants one id", c.Name())
		}
		return nil
	}
	return c
}
