package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/manifest"
)

// pathsBelow returns what stands after a prefix in the paths of the operations that list something, sorted.
func pathsBelow(s manifest.System, prefix string) (names []string) {
	for _, d := range s.Sorted() {
		for _, r := range d.Routes {
			name, ok := strings.CutPrefix(r.Path, prefix)
			if ok && r.Method == http.MethodGet && !strings.Contains(name, "/") {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

type stuck struct {
	Step, Reason string
	Since        time.Time
}

type step struct {
	Name, State, Skipped string
	Pivot                bool
	StartedAt            time.Time `json:"started_at"`
	EndedAt              time.Time `json:"ended_at"`
	Due                  time.Time
	Again                int
}

// saga is a saga as the API shows it.
type saga struct {
	ID, Saga, Status, Step, Reason, Code string
	Version, Again                       int
	Due                                  time.Time
	Stuck                                *stuck
	StartedAt                            time.Time `json:"started_at"`
	EndedAt                              time.Time `json:"ended_at"`
	Steps                                []step
	Sent                                 map[string][]string
	Assignee                             string
	HandOvers                            []handOver `json:"hand_overs"`
}

// handOver says who looks after a saga from a time on.
type handOver struct {
	To, By, Reason string
	At             time.Time
}

// Open reports whether the saga goes on.
func (s saga) Open() bool { return s.Status == "running" || s.Status == "undoing" }

// State returns the status, or that the saga is stuck.
func (s saga) State() string {
	if s.Stuck != nil {
		return "stuck"
	}
	return s.Status
}

type page[T any] struct {
	Items []T
	Next  string
}

// sagaStatuses are those that the page offers.
var sagaStatuses = []string{"open", "stuck", "completed", "undone"}

func (c *console) sagas(w http.ResponseWriter, r *http.Request, p person) error {
	names := pathsBelow(c.system(), "/api/sagas/")
	q := r.URL.Query()
	status, name, id := q.Get("status"), q.Get("saga"), strings.TrimSpace(q.Get("id"))
	if !slices.Contains(sagaStatuses, status) {
		status = "open"
	}
	if id != "" {
		for _, n := range names {
			var s saga
			if _, err := c.api.call(r, p.token, http.MethodGet, "/api/sagas/"+n+"/"+url.PathEscape(id), nil, &s); err == nil {
				http.Redirect(w, r, base+"/sagas/"+n+"/"+url.PathEscape(id), http.StatusSeeOther)
				return nil
			}
		}
		return &failure{Status: http.StatusNotFound, Detail: "There is no saga with the id " + id + "."}
	}
	if name == "" && len(names) > 0 {
		name = names[0]
	}
	data := struct {
		Names, Statuses []string
		Name, Status    string
		Items           []saga
		Next            string
		Now             time.Time
	}{Names: names, Statuses: sagaStatuses, Name: name, Status: status, Now: c.now()}
	if slices.Contains(names, name) {
		var all page[saga]
		var err error
		if all, err = c.sagaPage(r, p, name, status, q.Get("cursor")); err != nil {
			return err
		}
		if status == "open" && q.Get("cursor") == "" { // what is stuck stands on top
			stuck, err := c.sagaPage(r, p, name, "stuck", "")
			if err != nil {
				return err
			}
			all.Items = append(stuck.Items, slices.DeleteFunc(all.Items, func(s saga) bool { return s.Stuck != nil })...)
		}
		data.Items, data.Next = all.Items, all.Next
	}
	c.show(w, r, p, http.StatusOK, "sagas", view{Title: "Sagas", Data: data})
	return nil
}

// sagaPage returns a page of sagas. Those of the API may be short, or empty, and have a next one.
func (c *console) sagaPage(r *http.Request, p person, name, status, cursor string) (all page[saga], err error) {
	const size, calls = 50, 10
	all.Next = cursor
	for n := 0; n == 0 || all.Next != "" && len(all.Items) < size && n < calls; n++ {
		query := url.Values{"status": {status}, "limit": {strconv.Itoa(size)}}
		if all.Next != "" {
			query.Set("cursor", all.Next)
		}
		var next page[saga]
		path := "/api/sagas/" + name + "?" + query.Encode()
		if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &next); err != nil {
			return all, err
		}
		all.Items, all.Next = append(all.Items, next.Items...), next.Next
	}
	return all, nil
}

func (c *console) saga(w http.ResponseWriter, r *http.Request, p person) error {
	return c.showSaga(w, r, p, http.StatusOK, "")
}

func (c *console) showSaga(w http.ResponseWriter, r *http.Request, p person, status int, problem string) error {
	name, id := r.PathValue("saga"), r.PathValue("id")
	var s saga
	path := "/api/sagas/" + url.PathEscape(name) + "/" + url.PathEscape(id)
	if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &s); err != nil {
		return err
	}
	c.show(w, r, p, status, "saga", view{Title: "Saga " + s.ID, Problem: problem, Data: struct {
		saga
		Now time.Time
	}{s, c.now()}})
	return nil
}

// refused shows the page again with why the change was refused; another error is an error page.
func refused(err error, again func(status int, problem string) error) error {
	switch status := statusOf(err); status {
	case http.StatusConflict, http.StatusUnprocessableEntity, http.StatusPreconditionFailed, http.StatusBadRequest:
		return again(status, sentence(err))
	}
	return err
}

// confirmed returns an error unless the person has ticked that they mean it.
func confirmed(r *http.Request) error {
	if r.FormValue("sure") != "yes" {
		return &failure{Status: http.StatusUnprocessableEntity, Detail: "Tick the box to confirm."}
	}
	return nil
}

func (c *console) actOnSaga(w http.ResponseWriter, r *http.Request, p person) error {
	act, in := r.PathValue("act"), map[string]string{}
	switch act {
	case "retry":
	case "skip":
		in["step"], in["reason"] = r.FormValue("step"), r.FormValue("reason")
	case "cancel":
		in["reason"] = r.FormValue("reason")
	case "hand-over":
		in["from"], in["reason"] = r.FormValue("from"), r.FormValue("reason")
		switch r.FormValue("who") {
		case "me":
			in["to"] = p.Subject
		case "other":
			if in["to"] = strings.TrimSpace(r.FormValue("to")); in["to"] == "" {
				return c.showSaga(w, r, p, http.StatusUnprocessableEntity, "Enter the id of the person.")
			}
		}
	case "end":
		in["as"], in["reason"] = r.FormValue("as"), r.FormValue("reason")
	default:
		return &failure{Status: http.StatusNotFound}
	}
	var body any
	if act != "retry" {
		body = in
	}
	where := url.PathEscape(r.PathValue("saga")) + "/" + url.PathEscape(r.PathValue("id"))
	var err error
	if act != "hand-over" { // that can be undone
		err = confirmed(r)
	}
	if err == nil {
		_, err = c.api.call(r, p.token, http.MethodPost, "/api/sagas/"+where+"/"+act, body, nil)
	}
	if err != nil {
		return refused(err, func(status int, problem string) error { return c.showSaga(w, r, p, status, problem) })
	}
	return done(w, r, base+"/sagas/"+where, act)
}
