package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// rewrite converts arguments for cobra: long flags may have one dash (-idle 1s), as with Go's flag package, and an id
// may begin with a dash.
func rewrite(root *cobra.Command, args []string) []string {
	return dashedID(root, doubleDash(root, args))
}

// doubleDash adds a second dash to long flags with one.
func doubleDash(root *cobra.Command, args []string) []string {
	known := map[string]bool{"help": true}
	add := func(f *pflag.Flag) { known[f.Name] = true }
	if called, _, err := root.Find(args); err == nil {
		called.InheritedFlags().VisitAll(add)
		eachCommand(called, func(c *cobra.Command) {
			c.Flags().VisitAll(add)
			c.PersistentFlags().VisitAll(add)
		})
	}
	out := slices.Clone(args)
	for i, arg := range out {
		if arg == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && len(name) > 1 && known[name] {
			out[i] = "-" + arg
		}
	}
	return out
}

func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, do)
	}
}

// dashedID puts -- before an id that begins with a dash, if the command takes one id and has no other.
func dashedID(root *cobra.Command, args []string) []string {
	c, rest, err := root.Find(args)
	if err != nil || c.Annotations[idArgument] == "" || slices.Contains(rest, "--") {
		return args
	}
	var flags, ids []string
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		takes, known := flagOf(c, arg)
		switch {
		case !known:
			ids = append(ids, arg)
		case takes && i+1 < len(rest):
			flags = append(flags, arg, rest[i+1])
			i++
		default:
			flags = append(flags, arg)
		}
	}
	if len(ids) != 1 {
		return args // cobra reports the error
	}
	path := strings.Fields(c.CommandPath())[1:]
	return append(append(append(path, flags...), "--"), ids...)
}

// flagOf reports whether an argument is a flag of the command, and whether the next argument is its value.
func flagOf(c *cobra.Command, arg string) (takesNext, known bool) {
	var f *pflag.Flag
	name, _, hasValue := strings.Cut(arg, "=")
	switch {
	case arg == "-h" || arg == "--help":
		return false, true
	case strings.HasPrefix(name, "--"):
		if f = c.Flag(name[2:]); f == nil {
			return false, false
		}
	case strings.HasPrefix(name, "-") && len(name) == 2:
		if f = shorthand(c, name[1:]); f == nil {
			return false, false
		}
	case strings.HasPrefix(arg, "-o"):
		return false, slices.Contains(formats, arg[2:])
	default:
		return false, false
	}
	return !hasValue && f.NoOptDefVal == "", true
}

func shorthand(c *cobra.Command, letter string) *pflag.Flag {
	if f := c.Flags().ShorthandLookup(letter); f != nil {
		return f
	}
	return c.InheritedFlags().ShorthandLookup(letter)
}
