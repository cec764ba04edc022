package console

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/auth"
)

// shownCollection is a collection whose documents the function shows.
type shownCollection struct {
	Function, Name string
	Changes        bool // administrators may change the documents
	Filters        []string
}

const documentsPath = "/api/documents/"

// shownCollections returns the collections that functions show, by function.
func (c *console) shownCollections() (all []shownCollection) {
	for _, d := range c.system().Sorted() {
		for _, r := range d.Routes {
			function, name, ok := strings.Cut(strings.TrimPrefix(r.Path, documentsPath), "/")
			if !ok || !strings.HasPrefix(r.Path, documentsPath) {
				continue
			}
			name, one, _ := strings.Cut(name, "/")
			if r.Method == http.MethodGet && one == "" {
				s := shownCollection{Function: function, Name: name}
				if spec, known := d.Schema.Spec(name); known {
					for _, i := range spec.Indexes {
						s.Filters = append(s.Filters, i.Fields[0])
					}
					slices.Sort(s.Filters)
					s.Filters = slices.Compact(s.Filters)
				}
				all = append(all, s)
			}
			if r.Method == http.MethodPut {
				for i := range all {
					all[i].Changes = all[i].Changes || all[i].Function == function && all[i].Name == name
				}
			}
		}
	}
	return all
}

// shownCollectionOf returns the collection that the address of the page names.
func (c *console) shownCollectionOf(r *http.Request) (shownCollection, error) {
	for _, s := range c.shownCollections() {
		if s.Function == r.PathValue("function") && s.Name == r.PathValue("collection") {
			return s, nil
		}
	}
	return shownCollection{}, &failure{Status: http.StatusNotFound, Detail: "No function shows such a collection."}
}

// path returns the path of a document, or of all.
func (s shownCollection) path(id string) string {
	path := documentsPath + s.Function + "/" + s.Name
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	return path
}

// document is a document as the API shows it.
type document struct {
	ID      string
	Version int64
	Data    json.RawMessage
}

// Line returns the beginning of the document in one line.
func (d document) Line() string {
	text := string(d.Data)
	if len(text) > 160 {
		text = strings.ToValidUTF8(text[:160], "") + " …"
	}
	return text
}

func (c *console) documents(w http.ResponseWriter, r *http.Request, p person) error {
	c.show(w, r, p, http.StatusOK, "documents", view{Title: "Data", Data: c.shownCollections()})
	return nil
}

func (c *console) collection(w http.ResponseWriter, r *http.Request, p person) error {
	s, err := c.shownCollectionOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	here := base + "/documents/" + s.Function + "/" + s.Name
	if id := strings.TrimSpace(q.Get("id")); id != "" {
		http.Redirect(w, r, here+"/"+url.PathEscape(id), http.StatusSeeOther)
		return nil
	}
	query := url.Values{"limit": {"50"}}
	for _, name := range []string{"cursor", "field", "value"} {
		if value := q.Get(name); value != "" {
			query.Set(name, value)
		}
	}
	if query.Get("value") == "" {
		query.Del("field")
	}
	var all page[document]
	if _, err := c.api.call(r, p.token, http.MethodGet, s.path("")+"?"+query.Encode(), nil, &all); err != nil {
		return err
	}
	c.show(w, r, p, http.StatusOK, "collection", view{Title: s.Name + " of " + s.Function, Data: struct {
		shownCollection
		Items              []document
		Next, Field, Value string
	}{s, all.Items, all.Next, q.Get("field"), q.Get("value")}})
	return nil
}

func (c *console) document(w http.ResponseWriter, r *http.Request, p person) error {
	return c.showDocument(w, r, p, http.StatusOK, "", "")
}

// showDocument shows a document. With a problem, text is what the person wants to store.
func (c *console) showDocument(
	w http.ResponseWriter, r *http.Request, p person, status int, problem, text string,
) error {
	s, err := c.shownCollectionOf(r)
	if err != nil {
		return err
	}
	var d document
	if _, err := c.api.call(r, p.token, http.MethodGet, s.path(r.PathValue("id")), nil, &d); err != nil {
		return err
	}
	stored := pretty(d.Data)
	c.show(w, r, p, status, "document", view{Title: s.Name + " " + d.ID, Problem: problem, Data: struct {
		shownCollection
		document
		Text, Stored string
		Admin        bool
	}{s, d, cmp.Or(text, stored), stored, p.Is(auth.RoleAdmin)}})
	return nil
}

func (c *console) actOnDocument(w http.ResponseWriter, r *http.Request, p person) error {
	s, err := c.shownCollectionOf(r)
	if err != nil {
		return err
	}
	id, act := r.PathValue("id"), r.PathValue("act")
	text, reason := r.PostForm.Get("data"), r.PostForm.Get("reason")
	tag, to := `"`+r.PostForm.Get("version")+`"`, base+"/documents/"+s.Function+"/"+s.Name
	switch act {
	case "keep":
		if !json.Valid([]byte(text)) {
			err = &failure{Status: http.StatusUnprocessableEntity, Detail: "The document is not JSON."}
			break
		}
		in := map[string]any{"data": json.RawMessage(text), "reason": reason}
		_, err = c.api.call(r, p.token, http.MethodPut, s.path(id), in, nil, "If-Match", tag)
		to += "/" + url.PathEscape(id)
	case "delete":
		if err = confirmed(r); err == nil {
			path := s.path(id) + "?" + url.Values{"reason": {reason}}.Encode()
			_, err = c.api.call(r, p.token, http.MethodDelete, path, nil, nil, "If-Match", tag)
		}
	default:
		return &failure{Status: http.StatusNotFound}
	}
	if err != nil {
		return refused(err, func(status int, problem string) error {
			return c.showDocument(w, r, p, status, problem, text)
		})
	}
	return done(w, r, to, act)
}
