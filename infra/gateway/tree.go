package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// node is a segment in the tree of paths. A segment that is spelt out is tried before a parameter, and a parameter
// before all that follows.
type node struct {
	static map[string]*node
	param  *node
	rest   *pathItem // {name...}: every path below
	here   *pathItem
}

// pathItem is a path and the methods that it has.
type pathItem struct {
	methods map[string]*Route
	allow   string // the value of the Allow header
}

// add adds a route under its path.
func (n *node) add(r *Route) error {
	path, ok := strings.CutPrefix(r.Path, "/")
	if !ok {
		return fmt.Errorf("invalid route %s %q: want a slash at the start of the path", r.Method, r.Path)
	}
	for {
		segment, below, more := strings.Cut(path, "/")
		switch {
		case strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "...}"):
			if more {
				return fmt.Errorf("invalid route %s %q: want %s at the end of the path", r.Method, r.Path, segment)
			}
			if n.rest == nil {
				n.rest = &pathItem{}
			}
			return n.rest.add(r)
		case segment == "{$}" || !plain(segment):
			return fmt.Errorf("invalid route %s %q: no request matches the segment %q", r.Method, r.Path, segment)
		case strings.HasPrefix(segment, "{"):
			if n.param == nil {
				n.param = &node{}
			}
			n = n.param
		default:
			if n.static == nil {
				n.static = map[string]*node{}
			}
			if n.static[segment] == nil {
				n.static[segment] = &node{}
			}
			n = n.static[segment]
		}
		if !more {
			break
		}
		path = below
	}
	if n.here == nil {
		n.here = &pathItem{}
	}
	return n.here.add(r)
}

// add adds a route under its method.
func (p *pathItem) add(r *Route) error {
	if p.methods == nil {
		p.methods = map[string]*Route{}
	}
	if other := p.methods[r.Method]; other != nil {
		return fmt.Errorf("duplicate route %s %q: the other is %q", r.Method, r.Path, other.Path)
	}
	p.methods[r.Method] = r
	allowed := append(slices.Collect(maps.Keys(p.methods)), http.MethodOptions)
	if p.methods[http.MethodGet] != nil {
		allowed = append(allowed, http.MethodHead)
	}
	slices.Sort(allowed)
	p.allow = strings.Join(slices.Compact(allowed), ", ")
	return nil
}

// find returns what is at a path, given without its first slash; nil if nothing is. A path with a segment that is
// empty, "." or ".." matches nothing, because it could mean another path to the function.
func (n *node) find(path string) *pathItem {
	segment, below, more := strings.Cut(path, "/")
	if !plain(segment) {
		return nil
	}
	if next := n.static[segment]; next != nil {
		if p := next.next(below, more); p != nil {
			return p
		}
	}
	if n.param != nil {
		if p := n.param.next(below, more); p != nil {
			return p
		}
	}
	if n.rest != nil && allPlain(path) {
		return n.rest
	}
	return nil
}

func (n *node) next(below string, more bool) *pathItem {
	if more {
		return n.find(below)
	}
	return n.here
}

func plain(segment string) bool { return segment != "" && segment != "." && segment != ".." }

func allPlain(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if !plain(segment) {
			return false
		}
	}
	return true
}

// route returns the route of a method, that of GET for HEAD if it has none of its own; nil if there is none.
func (p *pathItem) route(method string) *Route {
	if r := p.methods[method]; r != nil || method != http.MethodHead {
		return r
	}
	return p.methods[http.MethodGet]
}

// calls reports whether the path is that of calls by gRPC, gRPC-Web and Connect.
func (p *pathItem) calls() bool {
	r := p.methods[http.MethodPost]
	return r != nil && r.call
}
