package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// The export of a person's data is put together from the operations that their functions have declared for it: those
// that take the id of a person and answer with what the function holds of that person (manifest.Route.Person). So no
// copy of the data is sent as an event or stored, and a function that holds more declares one more operation. Each
// function decides by itself whether the caller may have its part, of those that the policies of the environment allow.

// exportRoute is the operation of the gateway. {id} is the person's.
var exportRoute = manifest.Route{
	Method: http.MethodGet, Path: "/api/persons/{id}/export", Access: manifest.AccessAuthenticated,
}

// The limits of an export. A part that exceeds them is missing.
const (
	exportTimeout  = 20 * time.Second
	maxExported    = 16 << 20 // bytes of a part
	exportParallel = 4        // parts that are asked for at the same time
)

// exported is a part of an export: what one operation answers.
type exported struct {
	Function string          `json:"function"`
	Path     string          `json:"path"`
	Summary  string          `json:"summary"`
	Data     json.RawMessage `json:"data"` // of an operation with pages: a list of all items
}

// addExport adds the export of a person's data. The functions are added before.
func (g *Gateway) addExport(t *table, env environment) error {
	var routes []*Route
	for _, d := range g.cfg.System.Functions {
		for _, r := range d.Routes {
			if found := t.tree.find(strings.TrimPrefix(r.Path, "/")); r.Person != "" && found != nil {
				routes = append(routes, found.route(http.MethodGet))
			}
		}
	}
	return t.tree.add(g.newRoute("", env.apply(exportRoute), func(x *Exchange) { g.export(x, routes) }, env))
}

// export answers with all that the functions hold of a person. "missing" names the operations that have failed.
func (g *Gateway) export(x *Exchange, routes []*Route) {
	person, err := url.PathUnescape(strings.Split(x.Request.URL.EscapedPath(), "/")[3])
	if err != nil || !plain(person) {
		x.Refuse(fault.New(fault.Invalid, "invalid id of a person"))
		return
	}
	if x.Caller.Subject != person && !x.Caller.Is(auth.RoleAdmin) {
		x.Refuse(fault.New(fault.Denied, "you may only export what is your own"))
		return
	}
	ctx, cancel := context.WithTimeout(x.Request.Context(), exportTimeout)
	defer cancel()
	parts, failed := make([]*exported, len(routes)), make([]bool, len(routes))
	turns := make(chan struct{}, exportParallel)
	var all sync.WaitGroup
	for i, route := range routes {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			data, err := g.exportPart(ctx, route, x, person)
			if err != nil {
				failed[i] = true
				g.cfg.Logger.WarnContext(ctx, "a part of an export is missing", "function", route.Function, "path", route.Path,
					"error", err)
			}
			if data != nil {
				parts[i] = &exported{route.Function, route.Path, route.Summary, data}
			}
		})
	}
	all.Wait()
	missing := []string{}
	for i, route := range routes {
		if failed[i] {
			missing = append(missing, route.Function+" "+route.Path)
		}
	}
	if len(missing) > 0 && len(missing) == len(routes) {
		x.Refuse(fault.New(fault.Unavailable, "none of the parts of this answer is available just now").After(time.Second))
		return
	}
	x.Writer.Header().Set("Content-Type", "application/json")
	x.Writer.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(x.Writer).Encode(map[string]any{
		"person_id": person, "missing": missing,
		"parts": slices.DeleteFunc(parts, func(p *exported) bool { return p == nil }),
	})
}

// exportPart returns what an operation answers about a person, all pages of it; nil when it holds nothing. The timeout,
// the breaker and the limits of load of the operation hold, for each page.
func (g *Gateway) exportPart(
	ctx context.Context, route *Route, of *Exchange, person string,
) (data json.RawMessage, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			data, err = nil, fmt.Errorf("panic: %v", cause)
		}
	}()
	if err := route.refusal(of.Request, of.Caller); err != nil {
		return nil, err
	}
	path, query := route.Path, url.Values{}
	if named := "{" + route.Person + "}"; strings.Contains(path, named) {
		path = strings.ReplaceAll(path, named, url.PathEscape(person))
	} else {
		query.Set(route.Person, person)
	}
	var items []json.RawMessage
	for size := 0; ; {
		w := of.part(route, exportRequest(ctx, of.Request, path, query)).ask(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case w.status == http.StatusNotFound && items == nil:
			return nil, nil
		case w.status != http.StatusOK || !json.Valid(w.body.Bytes()):
			return nil, fmt.Errorf("it is answered %d", w.status)
		}
		if size += w.body.Len(); size > maxExported {
			return nil, fmt.Errorf("it has more than %d bytes", maxExported)
		}
		var page struct {
			Items *[]json.RawMessage `json:"items"`
			Next  string             `json:"next"`
		}
		if json.Unmarshal(w.body.Bytes(), &page) != nil || page.Items == nil {
			return bytes.TrimSpace(w.body.Bytes()), nil
		}
		if items = append(items, *page.Items...); items == nil {
			items = []json.RawMessage{}
		}
		if page.Next == "" {
			return json.Marshal(items)
		}
		if page.Next == query.Get("cursor") {
			return nil, errors.New("its pages do not end")
		}
		query.Set("cursor", page.Next)
	}
}

// exportRequest returns the request for a part.
func exportRequest(ctx context.Context, r *http.Request, path string, query url.Values) *http.Request {
	part := partRequest(ctx, r, path, query)
	part.Method = http.MethodGet
	return part
}
