package console

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// envelope is a CloudEvent in JSON.
type envelope struct {
	ID, Type, Source, Subject string
	Time                      time.Time
	Correlation               string `json:"correlationid"`
	Causation                 string `json:"causationid"`
	Data                      json.RawMessage
	Base64                    string `json:"data_base64"`
}

// letter is a dead letter as the API shows it.
type letter struct {
	ID, State, Function, Code, Reason string
	Cause, Mend                       string
	At                                time.Time
	Times                             int
	Mended                            bool
	Event                             json.RawMessage
	E                                 envelope `json:"-"`
}

// group is the newest dead letters of one cause, as the API shows them.
type group struct {
	Function, Type, Code, Reason string
	Cause                        string // the reason without what differs between them
	IDs                          []string
	Newest                       []struct {
		ID, Subject string
		At          time.Time
		Times       int
		Mended      bool
	}
	Last time.Time
}

// Rest returns how many of the group are not listed.
func (g group) Rest() int { return len(g.IDs) - len(g.Newest) }

func (c *console) deadLetters(w http.ResponseWriter, r *http.Request, p person) error {
	state := "waiting"
	if r.URL.Query().Get("state") == "replayed" {
		state = "replayed"
	}
	var found struct {
		Count  int
		More   bool
		Causes []*group
	}
	path := "/api/archive/causes?state=" + state
	if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &found); err != nil {
		return err
	}
	v := view{Title: "Dead letters", Data: struct {
		State  string
		Groups []*group
		Count  int
		More   bool
		Now    time.Time
	}{state, found.Causes, found.Count, found.More, c.now()}}
	if n := r.URL.Query().Get("sent"); n != "" {
		if sent, err := strconv.Atoi(n); err == nil {
			v.Notice = strconv.Itoa(sent) + " sent again. What fails once more comes back here."
		}
	}
	c.show(w, r, p, http.StatusOK, "deadletters", v)
	return nil
}

// replayGroup sends the first of the dead letters again that the form names.
func (c *console) replayGroup(w http.ResponseWriter, r *http.Request, p person) error {
	count, err := strconv.Atoi(r.PostForm.Get("count"))
	if err != nil || count < 1 {
		return &failure{Status: http.StatusUnprocessableEntity, Detail: "Choose how many are sent again."}
	}
	if err := confirmed(r); err != nil {
		return err
	}
	sent := 0
	for _, id := range r.PostForm["id"] {
		if sent >= count {
			break
		}
		path := "/api/archive/dead-letters/" + url.PathEscape(id) + "/replay"
		_, err := c.api.call(r, p.token, http.MethodPost, path, nil, nil)
		if statusOf(err) == http.StatusNotFound {
			continue // another person has dropped it
		}
		if err != nil {
			err = c.told(r, refused(err, func(status int, problem string) error {
				return &failure{Status: status, Detail: problem}
			}))
			return &failure{Status: statusOf(err), Detail: strconv.Itoa(sent) + " were sent again, and then: " + err.Error()}
		}
		sent++
	}
	http.Redirect(w, r, base+"/dead-letters?sent="+strconv.Itoa(sent), http.StatusSeeOther)
	return nil
}

func (c *console) deadLetter(w http.ResponseWriter, r *http.Request, p person) error {
	return c.showLetter(w, r, p, http.StatusOK, "", "")
}

func (c *console) showLetter(
	w http.ResponseWriter, r *http.Request, p person, status int, problem, data string,
) error {
	var l letter
	path := "/api/archive/dead-letters/" + url.PathEscape(r.PathValue("id"))
	if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &l); err != nil {
		return err
	}
	_ = json.Unmarshal(l.Event, &l.E) // what has another form is shown without it
	if data == "" {
		data = pretty(l.E.Data)
	}
	c.show(w, r, p, status, "deadletter", view{Title: "Dead letter", Problem: problem, Data: struct {
		letter
		Text, Schema string
		Now          time.Time
	}{l, data, c.schemaOf(l.E.Type), c.now()}})
	return nil
}

func (c *console) actOnDeadLetter(w http.ResponseWriter, r *http.Request, p person) error {
	id, act := url.PathEscape(r.PathValue("id")), r.PathValue("act")
	path, to := "/api/archive/dead-letters/"+id, base+"/dead-letters/"+id
	text := r.FormValue("data")
	var err error
	switch act {
	case "mend":
		if !json.Valid([]byte(text)) {
			err = &failure{Status: http.StatusUnprocessableEntity, Detail: "The data is not JSON."}
			break
		}
		_, err = c.api.call(r, p.token, http.MethodPut, path, map[string]json.RawMessage{"data": json.RawMessage(text)}, nil)
	case "replay":
		_, err = c.api.call(r, p.token, http.MethodPost, path+"/replay", nil, nil)
		to = base + "/dead-letters"
	case "drop":
		if err = confirmed(r); err == nil {
			_, err = c.api.call(r, p.token, http.MethodDelete, path, nil, nil)
			to = base + "/dead-letters"
		}
	default:
		return &failure{Status: http.StatusNotFound}
	}
	if err != nil {
		return refused(err, func(status int, problem string) error { return c.showLetter(w, r, p, status, problem, text) })
	}
	return done(w, r, to, act)
}
