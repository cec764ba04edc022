package timemachine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/store"
)

// compare fills the report, at rest.
func (w *world) compare() {
	w.update(w.sim.Published())
	r := &Report{
		About: w.rec.About, Since: w.rec.first(), Until: w.rec.last(), Recorded: len(w.rec.Events), Others: len(w.rec.Others),
		Inputs: []Input{}, Events: []EventChange{}, State: []StateChange{}, NotCompared: w.notCompared(), Notes: w.notes,
	}
	for _, in := range w.ins {
		r.Inputs = append(r.Inputs, in.Input)
		if in.Answer != "" {
			r.Problems = append(r.Problems, fmt.Sprintf("%s was answered %d: %s", in.What, in.Status, in.Answer))
		}
	}
	w.compareEvents(r)
	w.compareState(r)
	w.findSagas(r)
	r.Same = len(r.Problems) == 0 && r.Count(Same) == len(r.Events) &&
		!slices.ContainsFunc(r.State, func(s StateChange) bool { return s.Change != Same })
	w.report = r
}

// compareEvents compares the events in their recorded order. Each new one stands after the one before it in the run.
func (w *world) compareEvents(r *Report) {
	news, after := map[int][]ce.Event{}, -1
	for _, p := range w.order {
		if p.recorded >= 0 {
			after = p.recorded
		} else if !w.fired[identity(p.now)] {
			news[after] = append(news[after], p.now)
		}
	}
	add := func(after int) {
		for _, e := range news[after] {
			r.Events = append(r.Events, EventChange{
				Change: New, Type: e.Type(), Function: functionOf(e.Source()), Subject: w.names.back(e.Subject()),
				ID: e.ID(), Time: e.Time(),
			})
		}
	}
	add(-1)
	for i, e := range w.events {
		if !isMachinery(e.Type()) && !w.given[i] && !w.fired[identity(e)] {
			change := EventChange{
				Change: Missing, Type: e.Type(), Function: functionOf(e.Source()), Subject: e.Subject(), ID: e.ID(), Time: e.Time(),
			}
			if now, paired := w.pairs[i]; paired {
				change.Change, change.Fields = Same, w.names.diff(e.Data(), now.Data())
				if len(change.Fields) > 0 {
					change.Change = Different
				}
			}
			r.Events = append(r.Events, change)
		}
		add(i)
	}
}

// compareState compares the last facts about each entity, and the documents that facts tell.
func (w *world) compareState(r *Report) {
	type at struct{ function, subject string }
	recorded, now := map[at]string{}, map[at]string{}
	var order []at
	note := func(in map[at]string, e ce.Event, subject string) {
		key := at{functionOf(e.Source()), subject}
		if info, known := w.types.Lookup(e.Type()); !known || info.Kind != event.Fact || isMachinery(e.Type()) {
			return
		}
		if recorded[key] == "" && now[key] == "" {
			order = append(order, key)
		}
		in[key] = e.Type()
	}
	for i, e := range w.events {
		if !w.given[i] {
			note(recorded, e, e.Subject())
		}
	}
	for _, p := range w.tracker.order {
		note(now, p.now, w.names.back(p.now.Subject()))
	}
	for _, key := range order {
		s := StateChange{
			Change: Same, Function: key.function, Entity: key.subject, Recorded: recorded[key], Now: now[key],
		}
		switch {
		case s.Recorded == s.Now:
		case s.Now == "":
			s.Change = Missing
		case s.Recorded == "":
			s.Change = New
		default:
			s.Change = Different
		}
		r.State = append(r.State, s)
	}
	w.compareDocuments(r)
}

func (w *world) compareDocuments(r *Report) {
	documents := w.documents(w.events)
	keys := slices.SortedFunc(maps.Keys(documents), func(a, b documentKey) int {
		return strings.Compare(a.function+a.collection+a.id, b.function+b.collection+b.id)
	})
	stored := map[documentKey][]store.Document{} // by function and collection
	for _, key := range keys {
		collection := documentKey{function: key.function, collection: key.collection}
		if _, read := stored[collection]; !read {
			stored[collection] = w.sim.Documents(key.function, key.collection)
		}
		s := StateChange{Change: Missing, Function: key.function, Entity: key.collection + "/" + key.id}
		for _, d := range stored[collection] {
			if w.names.back(d.ID) != key.id {
				continue
			}
			s.Change, s.Fields = Same, w.names.diff(documents[key].Data, d.Data)
			if len(s.Fields) > 0 {
				s.Change = Different
			}
		}
		r.State = append(r.State, s)
	}
}

// findSagas finds the sagas that the run has left of the entities of the recording.
func (w *world) findSagas(r *Report) {
	for _, d := range w.sys.Functions {
		for _, collection := range w.sim.Collections(d.Name) {
			if strings.HasPrefix(collection, "_") {
				continue
			}
			for _, doc := range w.sim.Documents(d.Name, collection) {
				id := w.names.back(doc.ID)
				if len(w.about[id]) == 0 {
					continue
				}
				for _, p := range saga.Find(doc.Data) {
					r.Sagas = append(r.Sagas, Saga{d.Name, id, p})
				}
			}
		}
	}
}

// notCompared tells what the comparison leaves out.
func (w *world) notCompared() []string {
	list := []string{
		"ids that were made in the run: one stands for the recorded one at the same place",
		"times, sequences and traces",
		"the events of timers, and machinery: " + strings.Join(shortNames(machinery), ", "),
	}
	var fields []string
	seen := map[string]bool{}
	for _, e := range w.rec.Events {
		info, known := w.types.Lookup(e.Type())
		if !known || seen[e.Type()] {
			continue
		}
		seen[e.Type()] = true
		if f := personal.FieldsOf(info.GoType); f != nil {
			for _, name := range slices.Sorted(maps.Keys(f.Placeholders())) {
				fields = append(fields, info.Short+" "+name)
			}
		}
	}
	if len(fields) > 0 {
		list = append(list, "personal fields, which the archive does not tell: "+strings.Join(fields, ", "))
	}
	return list
}

func shortNames(types []string) []string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = strings.TrimPrefix(t, "dev.ebb.")
	}
	return names
}

// diff returns the members in which the data of a recorded event and of one of the run differ.
func (n names) diff(recorded, now []byte) (fields []Field) {
	was, err := decoded(recorded)
	is, failed := decoded(now)
	if err != nil || failed != nil {
		if !bytes.Equal(recorded, now) {
			return []Field{{Path: "data", Recorded: shown(string(recorded)), Now: shown(string(now))}}
		}
		return nil
	}
	n.walk("", was, is, &fields)
	return fields
}

func decoded(data []byte) (v any, err error) {
	if len(data) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return v, d.Decode(&v)
}

func (n names) walk(path string, was, is any, fields *[]Field) {
	switch a := was.(type) {
	case map[string]any:
		if b, ok := is.(map[string]any); ok {
			all := maps.Clone(a)
			maps.Copy(all, b)
			for _, name := range slices.Sorted(maps.Keys(all)) {
				n.member(joined(path, name), a, b, name, fields)
			}
			return
		}
	case []any:
		if b, ok := is.([]any); ok {
			for i := range max(len(a), len(b)) {
				at := fmt.Sprintf("%s[%d]", path, i)
				switch {
				case i >= len(a):
					*fields = append(*fields, Field{Path: at, Now: shown(b[i])})
				case i >= len(b):
					*fields = append(*fields, Field{Path: at, Recorded: shown(a[i])})
				default:
					n.walk(at, a[i], b[i], fields)
				}
			}
			return
		}
	case string:
		if b, ok := is.(string); ok && n.sameText(a, b) {
			return
		}
	default:
		if was == is {
			return
		}
	}
	*fields = append(*fields, Field{Path: path, Recorded: shown(was), Now: shown(is)})
}

func (n names) member(path string, a, b map[string]any, name string, fields *[]Field) {
	was, had := a[name]
	is, has := b[name]
	switch {
	case !had:
		*fields = append(*fields, Field{Path: path, Now: shown(is)})
	case !has:
		*fields = append(*fields, Field{Path: path, Recorded: shown(was)})
	default:
		n.walk(path, was, is, fields)
	}
}

func joined(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// sameText reports whether two texts are the same but for times and for ids that stand for each other.
func (n names) sameText(recorded, now string) bool {
	if isUUID(recorded) && isUUID(now) {
		return n.same(recorded, now)
	}
	if recorded == now || isTime(recorded) && isTime(now) {
		return true
	}
	return recorded == n.original(now)
}

func isTime(s string) bool {
	_, err := time.Parse(time.RFC3339, s)
	return err == nil
}

// maxShown is the most characters of a value that a report has.
const maxShown = 200

func shown(v any) string {
	text, ok := v.(string)
	if !ok {
		data, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		text = string(data)
	}
	if r := []rune(text); len(r) > maxShown {
		return string(r[:maxShown]) + "…"
	}
	return text
}
