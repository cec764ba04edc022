package cli

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/internal/editdistance"
)

// eventTypes returns the names of all event types of the running system, sorted, from its AsyncAPI.
func (c *client) eventTypes(ctx context.Context) ([]string, error) {
	var doc struct {
		Channels map[string]struct {
			Address string `json:"address"`
		} `json:"channels"`
	}
	if err := c.send(ctx, http.MethodGet, "/asyncapi.json", nil, &doc); err != nil {
		return nil, err
	}
	var names []string
	for _, channel := range doc.Channels {
		names = append(names, channel.Address)
	}
	slices.Sort(names)
	return names, nil
}

// typeName returns the full name of an event type from a short one, with its latest version. An unknown name is an
// error with the nearest name.
func (c *client) typeName(ctx context.Context, typed string) (string, error) {
	all, err := c.eventTypes(ctx)
	if err != nil {
		return "", err
	}
	return resolveType(all, typed)
}

var versionSuffix = regexp.MustCompile(`\.v([0-9]+)$`)

// resolveType returns a type by its full name, or by the end of it with or without the version, such as orders.placed.
func resolveType(all []string, typed string) (string, error) {
	found, latest := "", -1
	var names []string
	for _, name := range all {
		base := versionSuffix.ReplaceAllString(name, "")
		version := 0
		if v := versionSuffix.FindStringSubmatch(name); v != nil {
			version, _ = strconv.Atoi(v[1]) // only digits; a number out of range counts as 0
		}
		names = append(names, name, shortType(base), shortType(name))
		if name == typed {
			return name, nil
		}
		if (base == typed || strings.HasSuffix(base, "."+typed) || strings.HasSuffix(name, "."+typed)) &&
			version > latest {
			found, latest = name, version
		}
	}
	if found != "" {
		return found, nil
	}
	if near := editdistance.Nearest(typed, names); near != "" {
		return "", usageErrorf("unknown event type %q; did you mean %q?", typed, near)
	}
	return "", usageErrorf("unknown event type %q; send --list shows them", typed)
}

// shortType returns a type without its namespace: orders.placed.v1, or orders.placed if it has no version.
func shortType(name string) string {
	labels := strings.Split(name, ".")
	keep := 2
	if versionSuffix.MatchString(name) {
		keep = 3
	}
	return strings.Join(labels[max(0, len(labels)-keep):], ".")
}

// completeTypes lets shells complete an event type, if a system is running.
func (n *connection) completeTypes(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	client, err := n.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, _ := client.eventTypes(c.Context()) // a shell that completes shows no errors
	names := make([]string, len(all))
	for i, name := range all {
		names[i] = shortType(versionSuffix.ReplaceAllString(name, ""))
	}
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}
