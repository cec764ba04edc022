package console

import (
	"net/http"
	"net/url"
	"slices"
)

// setting is a setting in the answer of its function.
type setting struct {
	Variable, Value, Origin, Description string
	Reload, Pending                      bool
}

// Set reports whether another value than the default was given.
func (s setting) Set() bool { return s.Origin != "default" && s.Origin != "unset" }

const settingsPath = "/api/settings/"

// configured returns the names of the functions with an operation that returns their settings. A gateway has it without
// declaring it.
func (c *console) configured() []string {
	names := pathsBelow(c.system(), settingsPath)
	for _, d := range c.system().Sorted() {
		if d.Gateway && !slices.Contains(names, d.Name) {
			names = append(names, d.Name)
		}
	}
	slices.Sort(names)
	return names
}

// configuration shows the settings of one function: those that are set, and with all=yes every one. It asks only that
// function, because the host starts a stopped function for the request.
func (c *console) configuration(w http.ResponseWriter, r *http.Request, p person) error {
	q, names := r.URL.Query(), c.configured()
	name := q.Get("function")
	if name == "" && slices.Contains(names, "gateway") {
		name = "gateway" // it runs
	} else if name == "" && len(names) > 0 {
		name = names[0]
	}
	var told struct {
		Items   []setting
		Refused string
	}
	if name != "" {
		path := settingsPath + url.PathEscape(name)
		if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &told); err != nil {
			return err
		}
	}
	all, total, pending := q.Get("all") != "", len(told.Items), 0
	for _, s := range told.Items {
		if s.Pending {
			pending++
		}
	}
	if !all {
		told.Items = slices.DeleteFunc(told.Items, func(s setting) bool { return !s.Set() && !s.Pending })
	}
	c.show(w, r, p, http.StatusOK, "configuration", view{Title: "Configuration", Data: struct {
		Names          []string
		Name, Refused  string
		All            bool
		Items          []setting
		Total, Pending int
	}{names, name, told.Refused, all, told.Items, total, pending}})
	return nil
}
