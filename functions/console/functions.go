package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/manifest"
)

// curve returns the path of SVG for a Bézier curve from one point by two others to a last one.
func curve(n ...any) string { return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", n...) }

// entry is a quarantined entry of an outbox.
type entry struct {
	ID, Reason string
	At, Since  time.Time
	Unread     bool
	Events     []struct{ ID, Type, Subject string }
}

func (c *console) functions(w http.ResponseWriter, r *http.Request, p person) error {
	c.show(w, r, p, http.StatusOK, "functions", view{Title: "Functions", Data: c.system().Sorted()})
	return nil
}

func (c *console) function(w http.ResponseWriter, r *http.Request, p person) error {
	return c.showFunction(w, r, p, http.StatusOK, "")
}

func (c *console) showFunction(w http.ResponseWriter, r *http.Request, p person, status int, problem string) error {
	name := r.PathValue("name")
	all := c.system().Sorted()
	i := slices.IndexFunc(all, func(d *manifest.Declaration) bool { return d.Name == name })
	if i < 0 {
		return &failure{Status: http.StatusNotFound, Detail: "There is no function " + name + "."}
	}
	data := struct {
		*manifest.Declaration
		Outbox    []entry
		HasOutbox bool
		Timers    []schedule
		Now       time.Time
	}{Declaration: all[i], Now: c.now()}
	if slices.Contains(pathsBelow(c.system(), "/api/outbox/"), name) {
		var found page[entry]
		path := "/api/outbox/" + url.PathEscape(name)
		if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &found); err != nil {
			return err
		}
		data.HasOutbox, data.Outbox = true, found.Items
	}
	if len(all[i].Schedules) > 0 {
		timers, err := c.schedules(r, p, name)
		if err != nil {
			return err
		}
		data.Timers = timers
	}
	c.show(w, r, p, status, "function", view{Title: "Function " + name, Problem: problem, Data: data})
	return nil
}

// schedule is a recurring schedule as the clock has it.
type schedule struct {
	Function, Name, Schedule string
	Cron                     string
	Due                      time.Time
}

// schedules returns when the schedules of a function are due next; none if no clock tells.
func (c *console) schedules(r *http.Request, p person, function string) ([]schedule, error) {
	var found page[schedule]
	_, err := c.api.call(r, p.token, http.MethodGet, "/api/schedules?limit=100", nil, &found)
	if statusOf(err) == http.StatusNotFound {
		return nil, nil
	}
	return slices.DeleteFunc(found.Items, func(s schedule) bool { return s.Function != function }), err
}

func (c *console) actOnOutbox(w http.ResponseWriter, r *http.Request, p person) error {
	name, act := url.PathEscape(r.PathValue("name")), r.PathValue("act")
	var in any
	switch act {
	case "retry":
	case "drop":
		in = map[string]string{"reason": r.FormValue("reason")}
	default:
		return &failure{Status: http.StatusNotFound}
	}
	err := confirmed(r)
	if err == nil {
		path := "/api/outbox/" + name + "/" + url.PathEscape(r.PathValue("id")) + "/" + act
		_, err = c.api.call(r, p.token, http.MethodPost, path, in, nil)
	}
	if err != nil {
		return refused(err, func(status int, problem string) error { return c.showFunction(w, r, p, status, problem) })
	}
	return done(w, r, base+"/functions/"+name, act)
}

// flagOf is a flag as the API shows it.
type flagOf struct {
	Key        string
	Version    int64
	Definition json.RawMessage
	UpdatedAt  time.Time `json:"updated_at"`
	D          struct {
		State          string
		DefaultVariant string
		Variants       map[string]any
		Targeting      any
	} `json:"-"`
}

func (f *flagOf) decode() { _ = json.Unmarshal(f.Definition, &f.D) } // what has another form is shown without it

// flagChange is a change of a flag: one that was made, or is scheduled.
type flagChange struct {
	ID               string
	Version          int64
	At, Due          time.Time
	By, What, Reason string
	Definition       json.RawMessage
}

// sample is the definition that a new flag begins with.
const sample = `{
  "state": "ENABLED",
  "variants": {"on": true, "off": false},
  "defaultVariant": "off"
}`

func (c *console) flags(w http.ResponseWriter, r *http.Request, p person) error {
	var found page[flagOf]
	all := []flagOf{}
	for cursor := ""; ; cursor = found.Next {
		found = page[flagOf]{}
		path := "/api/flags?limit=100&cursor=" + url.QueryEscape(cursor)
		if cursor == "" {
			path = "/api/flags?limit=100"
		}
		if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &found); err != nil {
			return err
		}
		if all = append(all, found.Items...); found.Next == "" {
			break
		}
	}
	for i := range all {
		all[i].decode()
	}
	c.show(w, r, p, http.StatusOK, "flags", view{Title: "Flags", Data: struct {
		Items []flagOf
		Now   time.Time
	}{all, c.now()}})
	return nil
}

func (c *console) flag(w http.ResponseWriter, r *http.Request, p person) error {
	return c.showFlag(w, r, p, http.StatusOK, "", "")
}

func (c *console) showFlag(w http.ResponseWriter, r *http.Request, p person, status int, problem, text string) error {
	key := r.PathValue("key")
	path := "/api/flags/" + url.PathEscape(key)
	var f flagOf
	_, err := c.api.call(r, p.token, http.MethodGet, path, nil, &f)
	isNew := statusOf(err) == http.StatusNotFound
	if err != nil && !isNew {
		return err
	}
	f.Key = key
	f.decode()
	stored := sample
	if !isNew {
		stored = pretty(f.Definition)
	}
	if text == "" {
		text = stored
	}
	var history, scheduled page[flagChange]
	for below, into := range map[string]*page[flagChange]{"/history": &history, "/scheduled": &scheduled} {
		_, err := c.api.call(r, p.token, http.MethodGet, path+below, nil, into)
		if err != nil && statusOf(err) != http.StatusNotFound { // a new flag has neither
			return err
		}
	}
	c.show(w, r, p, status, "flag", view{Title: "Flag " + key, Problem: problem, Data: struct {
		flagOf
		New                bool
		Text, Stored       string
		History, Scheduled []flagChange
		Now                time.Time
	}{f, isNew, text, stored, history.Items, scheduled.Items, c.now()}})
	return nil
}

func (c *console) actOnFlag(w http.ResponseWriter, r *http.Request, p person) error {
	key, act := r.PathValue("key"), r.PathValue("act")
	if key == "new" && act == "open" {
		key = strings.TrimSpace(r.FormValue("key"))
		http.Redirect(w, r, base+"/flags/"+url.PathEscape(key), http.StatusSeeOther)
		return nil
	}
	path, to := "/api/flags/"+url.PathEscape(key), base+"/flags/"+url.PathEscape(key)
	text, reason, version := r.FormValue("definition"), r.FormValue("reason"), `"`+r.FormValue("version")+`"`
	condition := []string{"If-Match", version}
	if version == `"0"` {
		condition = []string{"If-None-Match", "*"}
	}
	in := map[string]any{"reason": reason}
	var err error
	if act == "save" || act == "schedule" {
		in["definition"] = json.RawMessage(text)
		if !json.Valid([]byte(text)) {
			err = &failure{Status: http.StatusUnprocessableEntity, Detail: "The definition is not JSON."}
		}
	}
	if act == "disable" || act == "remove" {
		err = confirmed(r)
	}
	call := func(method, path string, in any, headers ...string) {
		if err == nil {
			_, err = c.api.call(r, p.token, method, path, in, nil, headers...)
		}
	}
	switch act {
	case "save":
		call(http.MethodPut, path, in, condition...)
	case "disable", "enable":
		call(http.MethodPost, path+"/"+act, in)
	case "schedule":
		in["due"] = instant(r.FormValue("due"))
		call(http.MethodPost, path+"/scheduled", in, condition...)
	case "unschedule":
		call(http.MethodDelete, path+"/scheduled/"+url.PathEscape(r.FormValue("id")), nil)
	case "remove":
		call(http.MethodDelete, path+"?reason="+url.QueryEscape(reason), nil, condition...)
		to = base + "/flags"
	default:
		return &failure{Status: http.StatusNotFound}
	}
	if err != nil {
		return refused(err, func(status int, problem string) error { return c.showFlag(w, r, p, status, problem, text) })
	}
	return done(w, r, to, act)
}
