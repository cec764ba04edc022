package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ebb-dev/ebb/infra/internal/editdistance"
	"github.com/ebb-dev/ebb/infra/system"
)

// page is a page of a list of a running system.
type page struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next"`
}

// pages calls each with every item of a list, up to the limit; 0: all. It returns how many there were.
func (c *client) pages(
	ctx context.Context, path string, query url.Values, limit int, each func(json.RawMessage) error,
) (shown int, err error) {
	q := url.Values{}
	for name, values := range query {
		q[name] = values
	}
	for cursor := ""; ; {
		size := 100
		if limit > 0 {
			size = min(size, limit-shown)
		}
		q.Set("limit", strconv.Itoa(size))
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var p page
		if err := c.call(ctx, http.MethodGet, path+"?"+q.Encode(), nil, &p); err != nil {
			return shown, err
		}
		for _, raw := range p.Items {
			shown++
			if err := each(raw); err != nil {
				return shown, err
			}
		}
		if cursor = p.Next; cursor == "" || limit > 0 && shown >= limit {
			return shown, nil
		}
	}
}

// lists returns the paths at which the running system lists things: the prefix and the name of a function or a saga,
// which kind tells, sorted. With a name it returns that one only.
func (c *client) lists(ctx context.Context, kind, prefix, name string) ([]string, error) {
	operations, err := c.operations(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, op := range operations {
		rest, ok := strings.CutPrefix(op.Path, prefix)
		if ok && op.Method == http.MethodGet && !strings.Contains(rest, "/") {
			names = append(names, rest)
		}
	}
	if name != "" && !slices.Contains(names, name) {
		return nil, unknownError(kind, name, names)
	}
	if name != "" {
		names = []string{name}
	}
	slices.Sort(names)
	for i := range names {
		names[i] = prefix + names[i]
	}
	return names, nil
}

// unknownError returns an error for a name that is none of those known, with the nearest one or all of them.
func unknownError(kind, name string, known []string) error {
	if near := editdistance.Nearest(name, known); near != "" {
		return usageErrorf("unknown %s %q; did you mean %q?", kind, name, near)
	}
	return usageErrorf("unknown %s %q (use %s)", kind, name, strings.Join(known, ", "))
}

// first returns the path of the first list that has the item, and the item. The path is "" when none has it.
func (c *client) first(ctx context.Context, lists []string, item string) (path string, raw json.RawMessage, err error) {
	for _, list := range lists {
		path = list + "/" + item
		if err = c.call(ctx, http.MethodGet, path, nil, &raw); system.StatusOf(err) != http.StatusNotFound {
			return path, raw, err
		}
	}
	return "", nil, nil
}

// because returns an error for a reason that is not given.
func because(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return usageErrorf("this needs --reason TEXT, for the record")
	}
	return nil
}

// end flushes a table, or prints that the list of what is empty.
func (o *output) end(a *app, t *table, shown int, what string) {
	switch {
	case o.structured():
	case shown == 0:
		fmt.Fprintf(a.Out, "No %s.\n", what)
	default:
		t.flush()
	}
}
