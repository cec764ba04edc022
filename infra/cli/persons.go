package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) personsCommand() *cobra.Command {
	var n connection
	var o output
	root := &cobra.Command{
		Use:     "persons export ID",
		Short:   "Export what a running system holds of a person",
		Example: a.example("$ persons export ID > person.json"),
		RunE: func(c *cobra.Command, _ []string) error {
			return usageErrorf("%s wants a command: export", c.Name())
		},
	}
	n.define(a, root.PersistentFlags())
	o.define(a, root.PersistentFlags())
	completeFormats(root)
	export := oneID(&cobra.Command{
		Use: "export ID", Short: "Export what the functions hold of a person, as JSON or YAML",
		Long: "Export what the functions hold of a person. It fails, and prints nothing, when a function does not answer:\n" +
			"an export that lacks a part must not pass for a whole one.",
		Example: a.example("$ persons export ID > person.json\n$ persons export ID -o yaml"),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := n.open()
			if err != nil {
				return err
			}
			var whole json.RawMessage
			path := "/api/persons/" + url.PathEscape(args[0]) + "/export"
			if err := client.call(c.Context(), http.MethodGet, path, nil, &whole); err != nil {
				return err
			}
			var told struct {
				Missing []string `json:"missing"`
			}
			if err := json.Unmarshal(whole, &told); err != nil {
				return err
			}
			if len(told.Missing) > 0 {
				return fmt.Errorf("%s did not answer; try again", strings.Join(told.Missing, ", "))
			}
			return o.one(whole)
		},
	})
	return group(root, export)
}
