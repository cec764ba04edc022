package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
)

// The registry's events in two versions: a name in one piece, and in two. Both are personal.
type (
	namedV1 struct {
		ID   string `json:"id" person:"id"`
		Name string `json:"name" personal:"erased"`
	}
	named struct {
		ID    string `json:"id" person:"id"`
		First string `json:"first" personal:"erased"`
		Last  string `json:"last" personal:"erased"`
	}
)

var (
	citizenNamedV1 = event.Define(
		depotEvents, "registry.named", 1, event.Fact, "A citizen has a name.", namedV1{"c", "Ada King"},
	)
	citizenNamed = event.Define(
		depotEvents, "registry.named", 2, event.Fact, "A citizen has a name.", named{"c", "Ada", "King"},
	)
	_ = event.Upcast(citizenNamedV1, citizenNamed, func(old namedV1) (named, error) {
		first, last, _ := strings.Cut(old.Name, " ")
		return named{old.ID, first, last}, nil
	})
)

// What two versions store of a citizen, in the registry and in its mirror.
type (
	citizenV1 struct {
		Name    string `json:"name"`
		Renamed int    `json:"renamed"` // how often
		Visits  int    `json:"visits"`
		function.Revision
	}
	citizen struct {
		First   string `json:"first"`
		Last    string `json:"last"`
		Renamed int    `json:"renamed"`
		Visits  int    `json:"visits"`
		function.Revision
	}
)

// splitName is the migration of a citizen.
func splitName(doc store.Fields) (err error) {
	var name string
	if err := json.Unmarshal(doc["name"], &name); err != nil {
		return err
	}
	first, last, _ := strings.Cut(name, " ")
	delete(doc, "name")
	if doc["first"], err = json.Marshal(first); err == nil {
		doc["last"], err = json.Marshal(last)
	}
	return err
}

// BrokenRegistry is what a registry lacks of the promises that two versions rest on. The zero BrokenRegistry lacks
// nothing.
type BrokenRegistry struct {
	Unmigrated bool             // the next versions do not migrate documents
	Accepting  bool             // the first versions take documents of the next ones for their own
	Deaf       bool             // the mirror leaves out events of the older version
	Event      func(e ce.Event) // changes what the mirror gets; nil: nothing
}

// Registry returns a system whose functions change the form of their documents and events: the registry of citizens,
// whose next version sends its event in two versions, the mirror, which reads both from the beginning and whose next
// version migrates its documents, and the gazette, which knows only the older one.
func Registry(b BrokenRegistry) simulate.System {
	return simulate.System{
		Settle: time.Hour, Deadline: 10 * time.Second,
		Faults: append(simulate.Kinds(), slices.Repeat([]simulate.Kind{simulate.Deploy}, 8)...),
		Begin: func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
			return (&registry{sim: sim, broken: b, names: map[string]string{}, visits: map[string]int{}}).scenario(r)
		},
	}
}

type registry struct {
	sim    *simulate.Simulation
	broken BrokenRegistry
	sent   int
	names  map[string]string // acknowledged last
	visits map[string]int    // acknowledged
}

func (g *registry) scenario(r *rand.Rand) *simulate.Scenario {
	sc := &simulate.Scenario{
		Functions: []simulate.Function{
			{Name: "registry", New: g.first, Next: g.next, Env: env("30s")},
			{Name: "mirror", New: g.mirror, Next: g.nextMirror, Env: env("30s")},
			{Name: "gazette", New: newGazette, Next: newGazette, Env: env("30s")},
			{Name: "archive", New: archive.New, Next: archive.New, Env: env("30s")},
			{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
		},
		Handle: g.handle, Check: g.check,
	}
	for n := range 3 + r.IntN(6) {
		id, times, every := fmt.Sprint("c", n), 3+r.IntN(8), time.Duration(1+r.IntN(9))*time.Second
		sc.Actions = append(sc.Actions, simulate.Action{
			At:   time.Duration(r.Int64N(int64(30 * time.Second))),
			What: fmt.Sprintf("%s gets %d names, one after the other", id, times),
			Do:   func(*simulate.Simulation) { g.rename(id, times, every) },
		})
	}
	return sc
}

func (g *registry) handle(function string, h broker.Handler) broker.Handler {
	if g.broken.Event == nil || function != "mirror" {
		return h
	}
	return func(ctx context.Context, batch []ce.Event) []broker.Result {
		changed := make([]ce.Event, len(batch))
		for i, e := range batch {
			changed[i] = e.Clone()
			g.broken.Event(changed[i])
		}
		return h(ctx, changed)
	}
}

func (g *registry) send(method, path string, body any, done func()) {
	g.sent++
	g.sim.Send(simulate.Request{
		Function: "registry", Method: method, Path: path, Body: body, Token: token("admin"), Key: fmt.Sprint("key-", g.sent),
	}, func(a simulate.Response) {
		if a.OK() {
			g.sim.Count("changes", 1)
			done()
		}
	})
}

// rename gives a citizen names, each after the one before was acknowledged, and visits in between.
func (g *registry) rename(id string, times int, every time.Duration) {
	name := fmt.Sprintf("First%d Last%d", times, times)
	next := func() {
		if times > 1 {
			g.sim.After(every, func() { g.rename(id, times-1, every) })
		}
	}
	g.send(http.MethodPut, "/api/citizens/"+id, namedV1{ID: id, Name: name}, func() {
		g.names[id] = name
		g.send(http.MethodPost, "/api/citizens/"+id+"/visits", nil, func() {
			g.visits[id]++
			next()
		})
	})
}

// told is a citizen as any version stores it.
type told struct {
	Revision int `json:"_revision"`
	citizenV1
	First string `json:"first"`
	Last  string `json:"last"`
}

func (c told) name() string {
	if c.Revision > 0 {
		return c.First + " " + c.Last
	}
	return c.Name // whatever else it has: a migration goes by this
}

// check checks that the last acknowledged name is everywhere, and that each was told once.
func (g *registry) check(sim *simulate.Simulation) {
	own := documents[told](sim, "registry", "citizens")
	for id, name := range g.names {
		c := own[id]
		if c.name() != name || c.Visits != g.visits[id] {
			sim.Violated("a version has lost what another has written: %s",
				fmt.Sprintf("%s is %q with %d visits, not %q with %d", id, c.name(), c.Visits, name, g.visits[id]))
		}
		for _, where := range []string{"mirror", "gazette"} {
			shown := documents[told](sim, where, "citizens")[id]
			if shown.name() != name {
				sim.Violated("an event of another version is lost: %s",
					fmt.Sprintf("%s is %q in the %s, not %q", id, shown.name(), where, name))
			}
			if shown.Renamed != c.Renamed {
				sim.Violated("a change was not told once: %s",
					fmt.Sprintf("%s has changed %d times, and the %s was told %d times", id, c.Renamed, where, shown.Renamed))
			}
		}
	}
}

func (g *registry) earlier() []store.Option {
	options := []store.Option{store.Entity}
	if g.broken.Accepting {
		options = append(options, store.Accept(1))
	}
	return options
}

func (g *registry) later() []store.Option {
	options := []store.Option{store.Entity}
	if !g.broken.Unmigrated {
		options = append(options, store.Migrate(splitName))
	}
	return options
}

type citizenInput struct {
	ID   string `path:"id"`
	Body namedV1
}

type visitInput struct {
	ID string `path:"id"`
}

// first makes the first version of the registry.
func (g *registry) first(e function.Env) (*function.Function, error) {
	f := function.New("registry", e)
	citizens := function.Collection[citizenV1](f, "citizens", g.earlier()...)
	function.Emits(f, citizenNamedV1)
	changing(f, citizens, func(c *citizenV1, name string) {
		c.Name, c.Renamed = name, c.Renamed+1
	}, func(c *citizenV1) { c.Visits++ }, func(tx *function.Tx, data namedV1) {
		tx.Emit(citizenNamedV1.New(data.ID, data))
	})
	return f, nil
}

// next makes the next version.
func (g *registry) next(e function.Env) (*function.Function, error) {
	f := function.New("registry", e)
	citizens := function.Collection[citizen](f, "citizens", g.later()...)
	function.Emits(f, citizenNamed, citizenNamedV1)
	changing(f, citizens, func(c *citizen, name string) {
		c.First, c.Last, _ = strings.Cut(name, " ")
		c.Renamed++
	}, func(c *citizen) { c.Visits++ }, func(tx *function.Tx, data namedV1) {
		first, last, _ := strings.Cut(data.Name, " ")
		tx.Emit(citizenNamed.New(data.ID, named{data.ID, first, last}),
			citizenNamedV1.New(data.ID, data).Beside(citizenNamed))
	})
	return f, nil
}

// changing declares the operations of the registry.
func changing[T any](
	f *function.Function, citizens *store.Collection[T], rename func(*T, string), visit func(*T),
	tell func(*function.Tx, namedV1),
) {
	function.Serve(f, changes(http.MethodPut, "/api/citizens/{id}"),
		func(ctx context.Context, tx *function.Tx, in *citizenInput) (*struct{}, error) {
			c, _, err := citizens.Find(ctx, tx, in.ID)
			if err != nil {
				return nil, err
			}
			rename(&c, in.Body.Name)
			tell(tx, in.Body)
			return nil, citizens.Put(ctx, tx, in.ID, c)
		})
	function.Serve(f, changes(http.MethodPost, "/api/citizens/{id}/visits"),
		func(ctx context.Context, tx *function.Tx, in *visitInput) (*struct{}, error) {
			c, err := citizens.Get(ctx, tx, in.ID)
			if err != nil {
				return nil, err
			}
			visit(&c)
			return nil, citizens.Put(ctx, tx, in.ID, c)
		})
}

// mirror makes the first version of the mirror, which reads both versions of the event.
func (g *registry) mirror(e function.Env) (*function.Function, error) {
	f := function.New("mirror", e)
	citizens := function.Collection[citizenV1](f, "citizens", g.earlier()...)
	reflecting(g, f, func(ctx context.Context, tx *function.Tx, n named) error {
		c, _, err := citizens.Find(ctx, tx, n.ID)
		if err != nil {
			return err
		}
		if c.Renamed++; c.Before(tx.Revision()) {
			c.Name, c.Revision = n.First+" "+n.Last, tx.Revision()
		}
		return citizens.Put(ctx, tx, n.ID, c)
	})
	return f, nil
}

// nextMirror makes its next version.
func (g *registry) nextMirror(e function.Env) (*function.Function, error) {
	f := function.New("mirror", e)
	citizens := function.Collection[citizen](f, "citizens", g.later()...)
	reflecting(g, f, func(ctx context.Context, tx *function.Tx, n named) error {
		c, _, err := citizens.Find(ctx, tx, n.ID)
		if err != nil {
			return err
		}
		if c.Renamed++; c.Before(tx.Revision()) {
			c.First, c.Last, c.Revision = n.First, n.Last, tx.Revision()
		}
		return citizens.Put(ctx, tx, n.ID, c)
	})
	return f, nil
}

// reflecting subscribes to the event.
func reflecting(g *registry, f *function.Function, h func(context.Context, *function.Tx, named) error) {
	function.On(f, citizenNamed, h)
	if g.broken.Deaf {
		function.On(f, citizenNamedV1, func(context.Context, *function.Tx, namedV1) error { return nil })
	}
}

// newGazette makes a function that knows only the older version of the event.
func newGazette(e function.Env) (*function.Function, error) {
	f := function.New("gazette", e)
	citizens := function.Collection[citizenV1](f, "citizens")
	function.On(f, citizenNamedV1, func(ctx context.Context, tx *function.Tx, n namedV1) error {
		c, _, err := citizens.Find(ctx, tx, n.ID)
		if err != nil {
			return err
		}
		if c.Renamed++; c.Before(tx.Revision()) {
			c.Name, c.Revision = n.Name, tx.Revision()
		}
		return citizens.Put(ctx, tx, n.ID, c)
	})
	return f, nil
}
