package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/internal/editdistance"
)

// operation is an operation of the running system.
type operation struct {
	ID         string      `json:"operationId"`
	Method     string      `json:"method"`
	Path       string      `json:"path"`
	Summary    string      `json:"summary,omitempty"`
	Tags       []string    `json:"tags,omitempty"`
	Parameters []parameter `json:"parameters,omitempty"`
	Public     bool        `json:"public"`
	hasBody    bool
	needsBody  bool
}

type parameter struct {
	Name     string `json:"name"`
	In       string `json:"in"`
	Required bool   `json:"required,omitempty"`
}

// operations returns what /openapi.json of the running system describes, sorted by operation id.
func (c *client) operations(ctx context.Context) ([]operation, error) {
	var doc struct {
		Security []any                                 `json:"security"`
		Paths    map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := c.send(ctx, http.MethodGet, "/openapi.json", nil, &doc); err != nil {
		return nil, err
	}
	var all []operation
	for path, item := range doc.Paths {
		for method, raw := range item {
			if !slices.Contains([]string{"get", "put", "post", "delete", "patch", "head", "options"}, method) {
				continue
			}
			var described struct {
				operation
				Security    *[]any `json:"security"`
				RequestBody *struct {
					Required bool `json:"required"`
				} `json:"requestBody"`
			}
			if err := json.Unmarshal(raw, &described); err != nil {
				return nil, fmt.Errorf("/openapi.json: %s %s: %w", method, path, err)
			}
			op := described.operation
			if op.ID == "" {
				continue
			}
			op.Method, op.Path = strings.ToUpper(method), path
			op.Public = len(doc.Security) == 0
			if described.Security != nil {
				op.Public = len(*described.Security) == 0
			}
			if described.RequestBody != nil {
				op.hasBody, op.needsBody = true, described.RequestBody.Required
			}
			all = append(all, op)
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// operation finds an operation by its id. An unknown id is an error with the nearest one.
func (c *client) operation(ctx context.Context, id string) (operation, error) {
	all, err := c.operations(ctx)
	if err != nil {
		return operation{}, err
	}
	ids := make([]string, len(all))
	for i, op := range all {
		if op.ID == id {
			return op, nil
		}
		ids[i] = op.ID
	}
	if near := editdistance.Nearest(id, ids); near != "" {
		return operation{}, usageErrorf("unknown operation %q; did you mean %q?", id, near)
	}
	return operation{}, usageErrorf("unknown operation %q; call without an operation lists them", id)
}

// target returns the operation's path with the path and query parameters filled in. An unknown parameter is an error
// with the nearest name; a missing required parameter is an error too.
func (op operation) target(path, query []string) (string, error) {
	values, err := op.assign("path", path)
	if err != nil {
		return "", err
	}
	target := op.Path
	for _, p := range op.Parameters {
		if p.In != "path" {
			continue
		}
		value := values.Get(p.Name)
		if value == "" {
			return "", usageErrorf("%s needs --path %s=VALUE", op.ID, p.Name)
		}
		target = strings.ReplaceAll(target, "{"+p.Name+"}", url.PathEscape(value))
	}
	q, err := op.assign("query", query)
	if err != nil {
		return "", err
	}
	for _, p := range op.Parameters {
		if p.In == "query" && p.Required && !q.Has(p.Name) {
			return "", usageErrorf("%s needs --query %s=VALUE", op.ID, p.Name)
		}
	}
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	return target, nil
}

// assign parses NAME=VALUE pairs for the operation's parameters in path or in query.
func (op operation) assign(in string, pairs []string) (url.Values, error) {
	var names []string
	for _, p := range op.Parameters {
		if p.In == in {
			names = append(names, p.Name)
		}
	}
	values := url.Values{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok:
			return nil, usageErrorf("--%s %s: want NAME=VALUE", in, pair)
		case slices.Contains(names, name):
			values.Add(name, value)
		case len(names) == 0:
			return nil, usageErrorf("%s has no %s parameters, got %q", op.ID, in, name)
		default:
			if near := editdistance.Nearest(name, names); near != "" {
				return nil, usageErrorf("%s has no %s parameter %q; did you mean %q?", op.ID, in, name, near)
			}
			return nil, usageErrorf("%s has no %s parameter %q (use %s)", op.ID, in, name, strings.Join(names, ", "))
		}
	}
	return values, nil
}
