package console

import (
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
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
type searched struct{ Type, Subject, Correlation, Text, Field, Since, Until string }

// eventPage is a page of the search.
type eventPage struct {
	Search searched
	Types  []string
	Items  []archived
	Next   template.URL // a whole query
	Before time.Time    // the events from then on were looked at, if there is a next page
	Live   bool         // the page follows the events
	Turn   template.URL // the query of the page that follows; if Live, of the one that does not
	Stream string       // the path of the stream of this list, with its query
}

// findEvents returns the events that the query of a page asks for, the newest first.
func (c *console) findEvents(r *http.Request, p person) (eventPage, error) {
	q := r.URL.Query()
	s := searched{
		Type: strings.TrimSpace(q.Get("type")), Subject: strings.TrimSpace(q.Get("subject")),
		Correlation: strings.TrimSpace(q.Get("correlation")), Since: q.Get("since"), Until: q.Get("until"),
		Text: strings.TrimSpace(q.Get("text")), Field: strings.TrimSpace(q.Get("field")),
	}
	if s.Text == "" {
		s.Field = "" // it says where the text is
	}
	query := url.Values{"order": {"desc"}, "limit": {"50"}}
	for name, value := range map[string]string{
		"type": c.wholeType(s.Type), "subject": s.Subject, "correlation": s.Correlation,
		"text": s.Text, "field": s.Field, "since": instant(s.Since), "until": instant(s.Until), "cursor": q.Get("cursor"),
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	var found page[archived]
	path := "/api/archive/events?" + query.Encode()
	if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &found); err != nil {
		return eventPage{}, err
	}
	for i := range found.Items {
		_ = json.Unmarshal(found.Items[i].Event, &found.Items[i].E) // what has another form is shown without it
	}
	e := eventPage{Search: s, Items: found.Items, Live: q.Get("live") != "" && q.Get("cursor") == ""}
	turn := r.URL.Query()
	if turn.Del("cursor"); e.Live { // an older page does not change
		turn.Del("live")
	} else {
		turn.Set("live", "yes")
	}
	e.Turn = template.URL(turn.Encode())
	q.Del("live")
	q.Del("done")
	e.Stream = livePath + "?" + q.Encode()
	if q.Set("cursor", found.Next); found.Next != "" {
		e.Next, e.Before = template.URL(q.Encode()), arrivedAt(found.Next)
	}
	return e, nil
}

// arrivedAt returns the time of a position of the archive, which begins with it in hexadecimal nanoseconds; zero for
// one of an older version, which has none.
func arrivedAt(position string) time.Time {
	if len(position) < 24 {
		return time.Time{}
	}
	n, err := strconv.ParseInt(position[:16], 16, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func (c *console) events(w http.ResponseWriter, r *http.Request, p person) error {
	e, err := c.findEvents(r, p)
	if err != nil {
		return err
	}
	e.Types = c.typeNames()
	c.show(w, r, p, http.StatusOK, "events", view{Title: "Events", Data: e})
	return nil
}

// eventList returns the HTML of the list of the events that the query of a page asks for.
func (c *console) eventList(r *http.Request, p person) (string, error) {
	e, err := c.findEvents(r, p)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = parsed().ExecuteTemplate(&b, "eventlist", e)
	return b.String(), err
}

// typeNames returns the names of the event types of the system.
func (c *console) typeNames() (names []string) {
	for _, info := range c.system().Types().All() {
		names = append(names, info.Name)
	}
	return names
}

// schemaOf returns the schema of an event type in indented JSON; "" for one that is not of the system.
func (c *console) schemaOf(name string) string {
	info, known := c.system().Types().Lookup(name)
	if !known {
		return ""
	}
	raw, err := json.MarshalIndent(info.Schema, "", "  ")
	if err != nil {
		return ""
	}
	return string(raw)
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
	_, known := c.system().Types().Lookup(a.E.Type)
	known = known && a.E.Data != nil
	c.show(w, r, p, http.StatusOK, "event", view{Title: "Event " + a.E.ID, Data: struct {
		archived
		Curl  string
		Known bool // the type is one of the system, so that an event like this one can be published
		Now   time.Time
	}{a, curl(r, a), known, c.now()}})
	return nil
}

// curl returns the command that publishes an event like this one. Bytes cannot be published through the archive: for
// them it is the command that gets the event and writes its data into a file.
func curl(r *http.Request, a archived) string {
	address := origin(r) + "/api/archive/events"
	token := `  -H "Authorization: Bearer $TOKEN"`
	if a.E.Data == nil {
		return "curl -s " + shellQuoted(address+"/"+url.PathEscape(a.Position)) + " \\\n" + token +
			" \\\n  | jq -j '.event.data_base64 // \"\"' | base64 -d > event.bin"
	}
	in := map[string]any{"type": a.E.Type, "subject": a.E.Subject, "data": a.E.Data}
	body, _ := json.Marshal(in) // it was JSON before
	return "curl -i -X POST " + shellQuoted(address) + " \\\n" + token + " -H 'Content-Type: application/json' " +
		"\\\n  -d " + shellQuoted(string(body))
}

// shellQuoted returns a text as one argument for a shell.
func shellQuoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// origin returns the scheme and the host at which the browser has called the gateway.
func origin(r *http.Request) string {
	if secure(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// draft is an event that a person is about to send.
type draft struct{ Type, Subject, Data string }

// newEvent shows the form that sends an event: empty, with an example of a type, or like a past event.
func (c *console) newEvent(w http.ResponseWriter, r *http.Request, p person) error {
	q := r.URL.Query()
	d := draft{Type: c.wholeType(strings.TrimSpace(q.Get("type"))), Subject: q.Get("subject")}
	if like := q.Get("like"); like != "" {
		var a archived
		path := "/api/archive/events/" + url.PathEscape(like)
		if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &a); err != nil {
			return err
		}
		_ = json.Unmarshal(a.Event, &a.E) // what has another form is shown without it
		d = draft{a.E.Type, a.E.Subject, pretty(a.E.Data)}
	} else if info, known := c.system().Types().Lookup(d.Type); known && len(info.Examples) > 0 {
		if data, err := json.MarshalIndent(info.Example(), "", "  "); err == nil {
			d.Data = string(data)
		}
	}
	c.showDraft(w, r, p, http.StatusOK, "", d)
	return nil
}

func (c *console) showDraft(w http.ResponseWriter, r *http.Request, p person, status int, problem string, d draft) {
	doc := ""
	if info, known := c.system().Types().Lookup(d.Type); known {
		doc = info.Doc
	}
	c.show(w, r, p, status, "newevent", view{Title: "Send an event", Problem: problem, Data: struct {
		draft
		Types       []string
		Schema, Doc string
	}{d, c.typeNames(), c.schemaOf(d.Type), doc}})
}

func (c *console) sendEvent(w http.ResponseWriter, r *http.Request, p person) error {
	d := draft{
		Type: strings.TrimSpace(r.PostForm.Get("type")), Subject: strings.TrimSpace(r.PostForm.Get("subject")),
		Data: r.PostForm.Get("data"),
	}
	again := func(status int, problem string) error {
		c.showDraft(w, r, p, status, problem, d)
		return nil
	}
	if !json.Valid([]byte(d.Data)) {
		return again(http.StatusUnprocessableEntity, "The data is not JSON.")
	}
	if err := confirmed(r); err != nil {
		return refused(err, again)
	}
	in := map[string]any{"type": d.Type, "data": json.RawMessage(d.Data)}
	if d.Subject != "" {
		in["subject"] = d.Subject
	}
	var e envelope
	if _, err := c.api.call(r, p.token, http.MethodPost, "/api/archive/events", in, &e); err != nil {
		return refused(err, again)
	}
	http.Redirect(w, r, base+"/events?live=yes&done=send&correlation="+url.QueryEscape(e.Correlation), http.StatusSeeOther)
	return nil
}
