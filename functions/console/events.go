package console

import (
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// archived is an event of the archive.
type archived struct {
	Position   string
	ArchivedAt time.Time `json:"archived_at"`
	Event      json.RawMessage
	E          envelope `json:"-"`
}

// searched are the fields of the search.
type searched struct{ Type, Subject, Correlation, Since, Until string }

func (c *console) events(w http.ResponseWriter, r *http.Request, p person) error {
	q := r.URL.Query()
	s := searched{
		Type: strings.TrimSpace(q.Get("type")), Subject: strings.TrimSpace(q.Get("subject")),
		Correlation: strings.TrimSpace(q.Get("correlation")), Since: q.Get("since"), Until: q.Get("until"),
	}
	query := url.Values{"order": {"desc"}, "limit": {"50"}}
	for name, value := range map[string]string{
		"type": c.wholeType(s.Type), "subject": s.Subject, "correlation": s.Correlation,
		"since": instant(s.Since), "until": instant(s.Until), "cursor": q.Get("cursor"),
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	var found page[archived]
	path := "/api/archive/events?" + query.Encode()
	if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &found); err != nil {
		return err
	}
	for i := range found.Items {
		_ = json.Unmarshal(found.Items[i].Event, &found.Items[i].E) // what has another form is shown without it
	}
	q.Set("cursor", found.Next)
	var types []string
	for _, info := range c.system().Types().All() {
		types = append(types, info.Name)
	}
	c.show(w, r, p, http.StatusOK, "events", view{Title: "Events", Data: struct {
		Search searched
		Types  []string
		Items  []archived
		Next   template.URL // a whole query
		Now    time.Time
	}{s, types, found.Items, map[bool]template.URL{true: template.URL(q.Encode())}[found.Next != ""], c.now()}})
	return nil
}

// wholeType returns the whole name of a type for its short one, such as orders.placed.
func (c *console) wholeType(name string) string {
	for _, info := range c.system().Types().All() {
		if short(info.Name) == name {
			name = info.Name // the latest version comes last
		}
	}
	return name
}

// instant returns the time of a form's field in the API's form. Without a zone it is in UTC.
func instant(text string) string {
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Format(time.RFC3339)
		}
	}
	return text
}

func (c *console) event(w http.ResponseWriter, r *http.Request, p person) error {
	var a archived
	path := "/api/archive/events/" + url.PathEscape(r.PathValue("id"))
	if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &a); err != nil {
		return err
	}
	_ = json.Unmarshal(a.Event, &a.E) // what has another form is shown without it
	c.show(w, r, p, http.StatusOK, "event", view{Title: "Event " + a.E.ID, Data: struct {
		archived
		Curl string
		Now  time.Time
	}{a, curl(r, a.E), c.now()}})
	return nil
}

// curl returns the command that publishes an event like this one.
func curl(r *http.Request, e envelope) string {
	body, _ := json.Marshal(map[string]any{"type": e.Type, "subject": e.Subject, "data": e.Data}) // it was JSON before
	scheme := "http://"
	if secure(r) {
		scheme = "https://"
	}
	quoted := strings.ReplaceAll(string(body), "'", `'\''`)
	return "curl -i -X POST '" + scheme + r.Host + "/api/archive/events' \\\n" +
		`  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' ` + "\\\n  -d '" + quoted + "'"
}
