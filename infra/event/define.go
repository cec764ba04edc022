package event

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Namespace is where a product defines its event types: a prefix in reverse domain notation that every type name begins
// with, and the base URL of the schemas. Its methods may be called concurrently.
type Namespace struct {
	prefix  string
	schemas string

	mu    sync.Mutex
	types Catalogue
}

var namespacePrefix = regexp.MustCompile(`^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+$`)

// NewNamespace returns a namespace for types such as PREFIX.orders.placed.v1, whose schemas have addresses below the
// base URL: "com.example.helpdesk" and "https://helpdesk.example.com/schemas/". It panics when the prefix is not a
// reversed domain name.
func NewNamespace(prefix, schemas string) *Namespace {
	if !namespacePrefix.MatchString(prefix) {
		panic(fmt.Sprintf("event: invalid namespace %q: want a reversed domain name such as com.example", prefix))
	}
	return &Namespace{prefix: prefix + ".", schemas: strings.TrimSuffix(schemas, "/") + "/", types: Catalogue{}}
}

// Types returns every type that was defined in the namespace, sorted by name. The slice belongs to the caller.
func (n *Namespace) Types() []*Info {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.types.All()
}

func (n *Namespace) add(info *Info) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, twice := n.types[info.Name]; twice {
		panic("event: " + info.Name + " is defined twice")
	}
	n.types[info.Name] = info
}

// typeName is FUNCTION.WHAT, in lower case with hyphens.
var typeName = regexp.MustCompile(`^([a-z][a-z0-9-]*)\.([a-z][a-z0-9-]*)$`)

// Define registers the type PREFIX.NAME.vVERSION in the namespace and returns it. The name is FUNCTION.WHAT: a fact in
// the past tense (orders.placed) or a command in the imperative (payments.capture). doc is a sentence or two. full is
// an example with every field; more examples follow, the first of them without the optional fields.
//
// The data has a JSON Schema that is derived from T by the struct tags json, doc, format, pattern, enum, min, max,
// minLength and maxLength. It holds when an event is emitted and again when it is received. An optional field may be
// added and the version stays; any other change is a new version beside the old one (CloudEvents primer, "Versioning").
//
// Define panics on a defect in the definition, which the first test run shows. Call it from package variables.
func Define[T any](n *Namespace, name string, version int, kind Kind, doc string, full T, more ...T) Type[T] {
	parts := typeName.FindStringSubmatch(name)
	if parts == nil || version < 1 || doc == "" {
		panic(fmt.Sprintf("event: invalid definition of %q: want FUNCTION.WHAT, a version from 1 on and a doc", name))
	}
	info := &Info{
		Short:    fmt.Sprintf("%s.v%d", name, version),
		Function: parts[1],
		What:     parts[2],
		Version:  version,
		Kind:     kind,
		Doc:      doc,
		GoType:   reflect.TypeFor[T](),
		Examples: []Example{{Name: "full", Data: full}},
	}
	info.Name = n.prefix + info.Short
	for i, data := range more {
		info.Examples = append(info.Examples, Example{Name: exampleName(i), Data: data})
	}
	info.DataSchema = n.schemas + info.Name + ".json"
	info.Schema = schemaOf(info)
	n.add(info)
	return Type[T]{info}
}

func exampleName(i int) string {
	if i == 0 {
		return "minimal"
	}
	return fmt.Sprintf("other-%d", i)
}

// Catalogue is a set of event types by name, such as all that a product's functions consume and emit.
type Catalogue map[string]*Info

// NewCatalogue returns the set of the types. A type that is given twice is in it once.
func NewCatalogue(types ...*Info) Catalogue {
	c := make(Catalogue, len(types))
	for _, info := range types {
		c[info.Name] = info
	}
	return c
}

// All returns the types sorted by name. The slice belongs to the caller.
func (c Catalogue) All() []*Info {
	all := make([]*Info, 0, len(c))
	for _, info := range c {
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b *Info) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Lookup returns the type with the name that the type attribute of an event has.
func (c Catalogue) Lookup(name string) (*Info, bool) {
	info, ok := c[name]
	return info, ok
}
