package generate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// Callers are the kinds of callers that an Access tells about, in the order of its answers.
var Callers = []string{"no token", "customer", "another customer", "viewer", "operator", "admin"}

// Access is what callers get who call one operation: for each of Callers 0 if the operation serves them, and otherwise
// the status that refuses them. "Another customer", the viewer and the operator ask for what belongs to a customer.
type Access struct {
	Function, Method, Path string
	Answers                []int
	Owner                  string // see manifest.Route
	Public                 bool
	Scope                  string // that an API key needs; "": no key may call it, unless it is public
	StepUp                 string // see manifest.Route
}

// AccessOf returns the access of every operation of the system, by function in the order of their declaration. The
// operations of a gateway's own are those that its OpenAPI description has.
func AccessOf(system manifest.System) ([]Access, error) {
	var all []Access
	for _, d := range system.Sorted() {
		for _, r := range d.Routes {
			all = append(all, accessOf(d.Name, r))
		}
		if !d.Gateway {
			continue
		}
		own, err := gatewayRoutes(d)
		if err != nil {
			return nil, fmt.Errorf("access of %s: %w", d.Name, err)
		}
		for _, r := range own {
			all = append(all, accessOf(d.Name, r))
		}
	}
	return all, nil
}

func accessOf(function string, r manifest.Route) Access {
	a := Access{Function: function, Method: r.Method, Path: r.Path, Answers: make([]int, len(Callers)), Owner: r.Owner,
		Public: r.Access == manifest.AccessPublic, Scope: r.Scope, StepUp: r.StepUp}
	if a.Public {
		return a
	}
	a.Answers[0] = http.StatusUnauthorized
	roles := []string{auth.RoleCustomer, auth.RoleCustomer, auth.RoleViewer, auth.RoleOperator, auth.RoleAdmin}
	for i, role := range roles {
		if r.Access == manifest.AccessRoles && !slices.Contains(r.Roles, role) {
			a.Answers[i+1] = http.StatusForbidden
		}
	}
	for i := 2; i < len(Callers)-1; i++ { // to whom it does not belong
		switch {
		case a.Answers[i] != 0:
		case r.Owner == manifest.OwnerHidden:
			a.Answers[i] = http.StatusNotFound
		case r.Owner == manifest.OwnerDenied:
			a.Answers[i] = http.StatusForbidden
		}
	}
	return a
}

// gatewayRoutes returns the operations that a gateway serves itself, from its OpenAPI description.
func gatewayRoutes(d *manifest.Declaration) ([]manifest.Route, error) {
	raw, err := d.OpenAPI()
	if err != nil {
		return nil, err
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Security []map[string]any `json:"security"`
			Owner    string           `json:"x-owner"`
			Roles    []string         `json:"x-roles"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	var all []manifest.Route
	for _, path := range sortedKeys(doc.Paths) {
		for _, method := range sortedKeys(doc.Paths[path]) {
			op := doc.Paths[path][method]
			r := manifest.Route{
				Method: strings.ToUpper(method), Path: path, Access: manifest.AccessPublic, Owner: op.Owner,
			}
			for _, s := range op.Security {
				switch {
				case s["bearer"] != nil:
					r.Access = manifest.AccessAuthenticated
					if r.Roles = op.Roles; len(r.Roles) > 0 {
						r.Access = manifest.AccessRoles
					}
				case s[metricsScheme] != nil:
					r.Access = "" // it takes another token, and is told of in words
				}
			}
			if r.Access != "" {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// The lines in a Markdown document between which the table of accesses is.
const (
	accessBegin = "<!-- who may call what: made by the command generate -->\n"
	accessEnd   = "<!-- end of who may call what -->\n"
)

// AccessTable returns the Markdown document with the table of who may call what in its place. It reports false for a
// document that has no place for it.
func AccessTable(system manifest.System, document []byte) (changed []byte, ok bool, err error) {
	before, rest, begins := bytes.Cut(document, []byte(accessBegin))
	_, after, ends := bytes.Cut(rest, []byte(accessEnd))
	if !begins || !ends {
		return document, false, nil
	}
	all, err := AccessOf(system)
	if err != nil {
		return nil, true, err
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(accessBegin)
	fmt.Fprintf(&b, "| operation | function | %s | API key |\n|---|---|%s---|\n", strings.Join(Callers, " | "),
		strings.Repeat("---|", len(Callers)))
	for _, a := range all {
		fmt.Fprintf(&b, "| `%s %s` | %s |", a.Method, a.Path, a.Function)
		for i, status := range a.Answers {
			fmt.Fprintf(&b, " %s |", a.answer(i, status))
		}
		fmt.Fprintf(&b, " %s |\n", a.keys())
	}
	b.WriteString(accessEnd)
	b.Write(after)
	return b.Bytes(), true, nil
}

// keys returns the text of the cell that tells which API keys the operation takes.
func (a Access) keys() string {
	switch {
	case a.Public:
		return "yes"
	case a.Scope == "":
		return fmt.Sprint(http.StatusForbidden)
	}
	return "`" + a.Scope + "`"
}

// answer returns the text of one cell.
func (a Access) answer(caller, status int) string {
	text, admin := "yes", caller == len(Callers)-1
	switch {
	case status != 0:
		return fmt.Sprint(status)
	case a.Owner != "" && !admin:
		text = "own"
	}
	if a.StepUp == manifest.StepUpAlways || a.StepUp == manifest.StepUpOthers && admin {
		text += " + proof"
	}
	return text
}
