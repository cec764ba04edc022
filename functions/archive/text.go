package archive

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/personal"
)

// textFilter selects events by the text of a member of their data. There is no index for that: each event is read, so
// one call looks at few events, see maxTextEvents.
//
// Personal members of an event's type are never looked at. The archive has placeholders in their place and the values
// encrypted, but an event from elsewhere may have them in the clear, and a search must not tell that a name is there.
type textFilter struct {
	field string // names with dots between; "": any member
	text  string // in lower case
	types event.Catalogue

	personal map[string]map[string]string // of a type, by the name of the field
}

// The most events of one call that selects by a text, and about how many bytes they have at most.
const (
	maxTextEvents = 2000
	maxTextBytes  = 8 << 20
)

// match reports whether the data of the event has the text: in a text, or as a number or a boolean. Data that is not
// JSON has none.
func (f *textFilter) match(e stored) bool {
	var envelope struct {
		Data json.RawMessage `json:"data"`
	}
	if json.Unmarshal(e.Event, &envelope) != nil || envelope.Data == nil {
		return false
	}
	var data any
	d := json.NewDecoder(bytes.NewReader(envelope.Data))
	d.UseNumber()
	return d.Decode(&data) == nil && f.in(data, "", f.personalOf(e.Type))
}

// in reports whether a value has the text. Path leads to it; the elements of a list have the path of the list.
func (f *textFilter) in(value any, path string, hidden map[string]string) bool {
	if _, is := hidden[path]; is {
		return false
	}
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			below := name
			if path != "" {
				below = path + "." + name
			}
			onWay := f.field == "" || f.field == below || strings.HasPrefix(f.field, below+".") ||
				strings.HasPrefix(below, f.field+".")
			if onWay && f.in(member, below, hidden) {
				return true
			}
		}
	case []any:
		for _, element := range v {
			if f.in(element, path, hidden) {
				return true
			}
		}
	case string:
		return f.at(path) && strings.Contains(strings.ToLower(v), f.text)
	case json.Number:
		return f.at(path) && v.String() == f.text
	case bool:
		return f.at(path) && (f.text == "true") == v && (f.text == "true" || f.text == "false")
	}
	return false
}

// at reports whether the path is that of the field, or below it.
func (f *textFilter) at(path string) bool {
	return f.field == "" || path == f.field || strings.HasPrefix(path, f.field+".")
}

// personalOf returns the personal fields of a type.
func (f *textFilter) personalOf(name string) map[string]string {
	fields, known := f.personal[name]
	if known {
		return fields
	}
	if info, ok := f.types.Lookup(name); ok {
		if p := personal.FieldsOf(info.GoType); p != nil {
			fields = p.Placeholders()
		}
	}
	f.personal[name] = fields
	return fields
}
