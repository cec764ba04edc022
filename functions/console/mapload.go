package console

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The load of the map is what the archive has: the newest events, and why dead letters wait. Every host has an archive,
// and its answer costs the same however many events there are. What only a host can measure, as cold starts and the
// latency of operations, is in the metrics.

// load is what goes on in the system.
type load struct {
	Functions []*functionLoad
	Since     time.Time // of the first of the events
	Events    int
	Unplanned []string // types of events that came from a function whose manifest does not have them
	byName    map[string]*functionLoad
	byType    map[[2]string]int // by function and type
}

// functionLoad is the load of one function.
type functionLoad struct {
	Name    string
	Events  int           // that it has emitted
	Delay   time.Duration // until 95 of 100 of them were archived
	Waiting int           // dead letters
	More    bool          // there are more of them
	delays  []time.Duration
}

// load asks the archive what goes on.
func (c *console) load(r *http.Request, p person) (*load, error) {
	l := &load{byName: map[string]*functionLoad{}, byType: map[[2]string]int{}}
	planned := map[[2]string]bool{}
	for _, d := range c.system().Sorted() {
		l.of(d.Name)
		for _, name := range d.Emits {
			planned[[2]string{d.Name, name}] = true
		}
	}
	var found page[archived]
	path := "/api/archive/events?limit=500&order=desc"
	if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &found); err != nil {
		return nil, err
	}
	unplanned, types := map[string]bool{}, c.system().Types()
	for i := range found.Items {
		e := &found.Items[i]
		if json.Unmarshal(e.Event, &e.E) != nil || e.E.Time.IsZero() {
			continue
		}
		name := e.E.Source[strings.LastIndex(e.E.Source, "/")+1:]
		if _, known := types.Lookup(e.E.Type); known && name == "archive" {
			planned[[2]string{name, e.E.Type}] = true // an operator has sent it
		}
		if l.byName[name] == nil || !planned[[2]string{name, e.E.Type}] {
			unplanned[short(e.E.Type)+" from "+e.E.Source] = true
			continue
		}
		f := l.of(name)
		f.Events++
		f.delays = append(f.delays, max(0, e.ArchivedAt.Sub(e.E.Time)))
		l.byType[[2]string{name, short(e.E.Type)}]++
		l.Events, l.Since = l.Events+1, e.E.Time
	}
	l.Unplanned = slices.Sorted(maps.Keys(unplanned))
	var causes struct {
		More   bool
		Causes []*group
	}
	path = "/api/archive/causes"
	if _, err := c.api.call(r, p.token, http.MethodGet, path, nil, &causes); err != nil {
		return nil, err
	}
	for _, g := range causes.Causes {
		f := l.of(g.Function)
		f.Waiting, f.More = f.Waiting+len(g.IDs), causes.More
	}
	for _, f := range l.Functions {
		slices.Sort(f.delays)
		if n := len(f.delays); n > 0 {
			f.Delay = f.delays[(n*95+99)/100-1].Round(time.Millisecond)
		}
	}
	slices.SortFunc(l.Functions, func(a, b *functionLoad) int {
		return cmp.Or(b.Waiting-a.Waiting, b.Events-a.Events, cmp.Compare(a.Name, b.Name))
	})
	return l, nil
}

// of returns the load of a function.
func (l *load) of(name string) *functionLoad {
	if l.byName[name] == nil {
		l.byName[name] = &functionLoad{Name: name}
		l.Functions = append(l.Functions, l.byName[name])
	}
	return l.byName[name]
}

// Of returns the load of a function, for its box.
func (l *load) Of(name string) functionLoad {
	if l == nil || l.byName[name] == nil {
		return functionLoad{}
	}
	return *l.byName[name]
}

// Along returns how many events went along a line.
func (l *load) Along(i line) (n int) {
	if l == nil {
		return 0
	}
	for _, name := range i.Types {
		n += l.byType[[2]string{i.From, name}]
	}
	return n
}
