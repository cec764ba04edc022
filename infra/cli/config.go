package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/config/source"
	"github.com/ebb-dev/ebb/infra/host/run"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/system"
)

func (a *app) configCommand() *cobra.Command {
	var o output
	var file string
	var running connection
	c := &cobra.Command{
		Use:   "config FUNCTION",
		Short: "Show the settings of a function, here or in a running system, and where each comes from",
		Long: `Show the settings that a function would get here, and where each comes from: the environment, a line of the
file that EBB_CONFIG names, a key of the Consul that EBB_CONFIG_CONSUL names, or its default. Secrets are masked. A
file or keys with an unknown name or a value of another type are an error with exit code 2.

With --context or --url it shows those of the function in a running system, as the instance that answers has them. A
function that is stopped is started for it.`,
		Example: a.example(`
$ config users
$ config users --config prod.yaml -o wide
$ config users -o json
$ config users --context production`),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageErrorf("config wants the name of one function")
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return a.system.Names(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	o.define(a, c.Flags())
	completeFormats(c)
	defineConfig(c, &file)
	running.define(a, c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		if running.url != "" || running.context != "" {
			if file != "" {
				return usageErrorf("--config is for the settings here, and --context and --url for a running system")
			}
			return a.runningConfig(c.Context(), &running, args[0], &o)
		}
		if done, err := a.delegate(c.Context(), mayBeForeign); done || err != nil {
			return err
		}
		return a.config(c.Context(), args[0], file, &o)
	}
	return c
}

// defineConfig adds --config.
func defineConfig(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "config", "", "`file` with settings, beneath the environment (EBB_CONFIG)")
}

// withConfig returns a lookup in which the file of --config, if it is given, is that of EBB_CONFIG.
func withConfig(lookup config.Lookup, file string) config.Lookup {
	if file == "" {
		return lookup
	}
	return config.Overlay(config.Map(map[string]string{source.FileVariable: file}), lookup)
}

// config shows the settings of a function.
func (a *app) config(ctx context.Context, function, file string, o *output) error {
	if _, known := a.system.Lookup(function); !known {
		return unknownError("function", function, a.system.Names())
	}
	s, err := a.openSources(ctx, withConfig(a.Lookup, file), function)
	if err != nil {
		return err
	}
	return a.showSettings(s.Effective(function), o)
}

// settingsPath begins the paths of the settings of functions in a running system.
const settingsPath = "/api/settings/"

// runningConfig shows the settings of a function of a running system.
func (a *app) runningConfig(ctx context.Context, running *connection, function string, o *output) error {
	c, err := running.open()
	if err != nil {
		return err
	}
	paths, err := c.lists(ctx, "function", settingsPath, function)
	if err != nil {
		return err
	}
	var told struct {
		Items   []config.Setting `json:"items"`
		Refused string           `json:"refused"`
	}
	if err := c.call(ctx, http.MethodGet, paths[0], nil, &told); err != nil {
		return err
	}
	return a.showSettings(config.Report{Settings: told.Items, Refused: told.Refused}, o)
}

// showSettings writes the settings as a table, or one object each.
func (a *app) showSettings(r config.Report, o *output) error {
	if r.Refused != "" {
		fmt.Fprintf(a.Err, "the last change is not taken over, and the settings from before stay: %s\n", r.Refused)
	}
	header := []string{"SETTING", "VALUE", "FROM"}
	if o.wide() {
		header = append(header, "RELOAD", "DESCRIPTION")
	}
	t := a.table(header...)
	for _, e := range r.Settings {
		if o.structured() {
			if err := o.item(e); err != nil {
				return err
			}
			continue
		}
		from := e.Origin
		if e.Pending {
			from += " (has changed; restart needed)"
		}
		cells := []string{e.Variable, e.Value, from}
		if o.wide() {
			cells = append(cells, strconv.FormatBool(e.Reload), e.Description)
		}
		t.row(cells...)
	}
	if !o.structured() {
		t.flush()
	}
	return nil
}

// openSources opens the sources of settings that the environment names beside itself, for one function, or for all of
// them with "".
func (a *app) openSources(ctx context.Context, environment config.Lookup, function string) (*source.Sources, error) {
	declared, err := a.system.Declare()
	if err != nil {
		return nil, err
	}
	return source.Open(ctx, source.Config{
		Environment: environment, Known: run.Known(declared), Check: run.Check(declared), Function: function,
		Logger: slog.New(slog.NewTextHandler(a.Err, nil)),
	})
}

// ownSettings adds to the settings of single functions those that the sources have for them alone.
func (a *app) ownSettings(sources *source.Sources, own map[string]config.Lookup) map[string]config.Lookup {
	if !sources.Named() {
		return own
	}
	for _, name := range a.system.Names() {
		own[name] = config.Overlay(own[name], sources.Own(name))
	}
	return own
}

// configSchema returns the JSON schema of the file of settings.
func configSchema(s system.System, declared manifest.System) []byte {
	known := run.Known(declared)
	functions, all := map[string]any{}, map[string]any{}
	add := func(to map[string]any, variables []config.Variable) {
		for _, v := range variables {
			to[v.Name] = settingSchema(v)
		}
	}
	for name, own := range known.Functions {
		properties := map[string]any{}
		add(properties, slices.Concat(known.Common, own))
		add(all, own)
		functions[name] = object("The settings of "+name+" alone.", properties)
	}
	add(all, known.Common)
	all["functions"] = object("The settings of single functions.", functions)
	schema := object("The settings of "+s.Documents.Title+", in the file that EBB_CONFIG names.", all)
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	data, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic(err) // of maps and texts
	}
	return append(data, '\n')
}

func object(description string, properties map[string]any) map[string]any {
	return map[string]any{"type": "object", "description": description, "properties": properties,
		"additionalProperties": false}
}

// scalars are the types of values that a text may have in YAML.
var scalars = []string{"string", "number", "boolean"}

// settingSchema returns the schema of the values of a setting.
func settingSchema(v config.Variable) map[string]any {
	schema := map[string]any{"type": "string"}
	switch {
	case strings.HasPrefix(v.Type, "[]"):
		schema = map[string]any{"type": "array", "items": map[string]any{"type": scalars}}
	case v.Type == "bool":
		schema["type"] = "boolean"
	case v.Type == "time.Duration":
		schema["pattern"] = `^-?([0-9.]+(ns|us|µs|ms|s|m|h))+$|^0$`
	case strings.HasPrefix(v.Type, "int"), strings.HasPrefix(v.Type, "uint"):
		schema["type"] = "integer"
	case strings.HasPrefix(v.Type, "float"):
		schema["type"] = "number"
	default:
		schema["type"] = scalars
	}
	description := v.Desc
	if v.Default != "" {
		description += fmt.Sprintf(" (default %s)", v.Default)
	}
	if v.Reload {
		description += "; a change counts without a restart"
	}
	if v.Secret {
		schema["writeOnly"] = true
	}
	schema["description"] = strings.TrimPrefix(description, "; ")
	return schema
}
