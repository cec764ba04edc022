package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version describes the build of the command.
type version struct {
	Module  string `json:"module"`
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Time    string `json:"time,omitempty"` // the time of the commit
	Dirty   bool   `json:"dirty"`
	Go      string `json:"go"`
	Kit     string `json:"kit,omitempty"` // the version of the kit, in another module
}

func (a *app) versionCommand() *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:     "version",
		Short:   "Show the version of the command: module, commit, Go",
		Example: a.example("$ version\n$ version -o json"),
		Args:    noArgs,
	}
	o.define(a, c.Flags())
	completeFormats(c)
	c.RunE = func(*cobra.Command, []string) error {
		v := versionOf(a.Build)
		if o.structured() {
			return o.one(v)
		}
		fmt.Fprintf(a.Out, "%s %s (%s)\n", a.Name, v.Version, v.Module)
		if v.Commit != "" {
			dirty := ""
			if v.Dirty {
				dirty = ", with changes"
			}
			fmt.Fprintf(a.Out, "commit %s of %s%s\n", v.Commit, v.Time, dirty)
		}
		if v.Kit != "" {
			fmt.Fprintf(a.Out, "kit %s\n", v.Kit)
		}
		fmt.Fprintln(a.Out, v.Go)
		return nil
	}
	return c
}

func versionOf(b *debug.BuildInfo) version {
	if b == nil {
		return version{Version: "unknown"}
	}
	v := version{Module: b.Main.Path, Version: b.Main.Version, Go: b.GoVersion}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Dirty = s.Value == "true"
		}
	}
	for _, d := range b.Deps {
		if d.Path == kitModule() {
			v.Kit = d.Version
			if d.Replace != nil {
				v.Kit = d.Replace.Path + " " + d.Replace.Version
			}
		}
	}
	return v
}
