package console

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// refusal is a dead letter that could not be mended.
type refusal struct{ ID, Why string }

// mend is a job that mends dead letters, as the API shows it.
type mend struct {
	ID, State, Where, Transform, Reason, By, Why string
	CreatedAt                                    time.Time `json:"created_at"`
	EndedAt                                      time.Time `json:"ended_at"`
	Watching                                     time.Time `json:"watching_until"`
	Batch                                        int
	InBatch                                      int `json:"in_batch"`
	Looked, Sent, Failed, Refused                int
	Refusals                                     []refusal
	Acts                                         []struct {
		At               time.Time
		By, What, Reason string
	}
}

// tried is what a dry run has found.
type tried struct {
	Looked, Selected, Changed, Refused int
	Examples                           []struct {
		ID, Function, Type string
		Before, After      json.RawMessage
	}
	Refusals []refusal
	Next     string
	More     bool `json:"-"` // it has not looked at all of them
}

// maxDryRuns is how many pages of a dry run the page adds up.
const maxDryRuns = 12

const mendsPath = "/api/archive/mends"

func (c *console) mends(w http.ResponseWriter, r *http.Request, p person) error {
	query := url.Values{"limit": {"50"}}
	if cursor := r.URL.Query().Get("cursor"); cursor != "" {
		query.Set("cursor", cursor)
	}
	var all page[mend]
	if _, err := c.api.call(r, p.token, http.MethodGet, mendsPath+"?"+query.Encode(), nil, &all); err != nil {
		return err
	}
	c.show(w, r, p, http.StatusOK, "mends", view{Title: "Mends", Data: struct {
		Items []mend
		Next  string
		Now   time.Time
	}{all.Items, all.Next, c.now()}})
	return nil
}

// newMend shows the form of a mend, and with "try" what it would do.
func (c *console) newMend(w http.ResponseWriter, r *http.Request, p person) error {
	q := r.URL.Query()
	in := expressions(q)
	if q.Get("try") == "" {
		c.showNewMend(w, r, p, http.StatusOK, "", in, nil)
		return nil
	}
	t, err := c.dryRun(r, p, in)
	if err != nil {
		return refused(err, func(status int, problem string) error {
			c.showNewMend(w, r, p, status, problem, in, nil)
			return nil
		})
	}
	c.showNewMend(w, r, p, http.StatusOK, "", in, t)
	return nil
}

func (c *console) showNewMend(
	w http.ResponseWriter, r *http.Request, p person, status int, problem string, in map[string]string, t *tried,
) {
	c.show(w, r, p, status, "newmend", view{Title: "Mend dead letters", Problem: problem, Data: struct {
		Where, Transform string
		Tried            *tried
	}{in["where"], in["transform"], t}})
}

// expressions returns the fields where and transform of a form, without those that are empty.
func expressions(form url.Values) map[string]string {
	given := map[string]string{}
	for _, name := range []string{"where", "transform"} {
		if text := strings.TrimSpace(form.Get(name)); text != "" {
			given[name] = text
		}
	}
	return given
}

// dryRun adds up the pages of a dry run.
func (c *console) dryRun(r *http.Request, p person, in map[string]string) (*tried, error) {
	sum, body := &tried{}, maps.Clone(in)
	for n := 0; ; n++ {
		var t tried
		if _, err := c.api.call(r, p.token, http.MethodPost, mendsPath+"/dry-run", body, &t); err != nil {
			return nil, err
		}
		sum.Looked, sum.Selected = sum.Looked+t.Looked, sum.Selected+t.Selected
		sum.Changed, sum.Refused = sum.Changed+t.Changed, sum.Refused+t.Refused
		if len(sum.Examples) == 0 {
			sum.Examples = t.Examples
		}
		if len(sum.Refusals) == 0 {
			sum.Refusals = t.Refusals
		}
		sum.More = t.Next != ""
		if !sum.More || n == maxDryRuns {
			return sum, nil
		}
		body["cursor"] = t.Next
	}
}

func (c *console) startMend(w http.ResponseWriter, r *http.Request, p person) error {
	in := expressions(r.PostForm)
	in["reason"] = r.PostForm.Get("reason")
	var m mend
	err := confirmed(r)
	if err == nil {
		_, err = c.api.call(r, p.token, http.MethodPost, mendsPath, in, &m)
	}
	if err != nil {
		return refused(err, func(status int, problem string) error {
			c.showNewMend(w, r, p, status, problem, in, nil)
			return nil
		})
	}
	http.Redirect(w, r, base+"/dead-letters/mends/"+url.PathEscape(m.ID), http.StatusSeeOther)
	return nil
}

func (c *console) mend(w http.ResponseWriter, r *http.Request, p person) error {
	return c.showMend(w, r, p, http.StatusOK, "")
}

func (c *console) showMend(w http.ResponseWriter, r *http.Request, p person, status int, problem string) error {
	var m mend
	path := mendsPath + "/" + url.PathEscape(r.PathValue("id"))
	if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &m); err != nil {
		return err
	}
	c.show(w, r, p, status, "mend", view{Title: "Mend", Problem: problem, Data: struct {
		mend
		Now time.Time
	}{m, c.now()}})
	return nil
}

func (c *console) actOnMend(w http.ResponseWriter, r *http.Request, p person) error {
	id, act := url.PathEscape(r.PathValue("id")), r.PathValue("act")
	if act != "stop" && act != "continue" {
		return &failure{Status: http.StatusNotFound}
	}
	in := map[string]string{"reason": r.PostForm.Get("reason")}
	if _, err := c.api.call(r, p.token, http.MethodPost, mendsPath+"/"+id+"/"+act, in, nil); err != nil {
		return refused(err, func(status int, problem string) error { return c.showMend(w, r, p, status, problem) })
	}
	return done(w, r, base+"/dead-letters/mends/"+id, act)
}

// Selects returns the expression that selects the dead letters of the group.
func (g *group) Selects() string {
	text := func(s string) string {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(s) // texts always marshal, and JSON's texts are texts of CEL
		return strings.TrimSpace(b.String())
	}
	return "consumer == " + text(g.Function) + " && event.type == " + text(g.Type) + " && code == " + text(g.Code) +
		" && cause == " + text(g.Cause)
}
