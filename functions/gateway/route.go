package gateway

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// route is one operation as it is found by method and path.
type route struct {
	pattern  string // as it was declared; a label of metrics
	span     string
	access   access
	maxBody  int64
	handler  http.Handler
	wakes    []string // functions that will have work when this one has done its own; none without a waker
	document bool     // one of the gateway's own, open to everyone
}

// access is who may come in.
type access struct {
	public bool
	roles  []string // any of them; none: whoever has a token
}

// node is a place in the tree of paths. What is spelt out goes before a parameter.
type node struct {
	static map[string]*node
	param  *node
	rest   *place // {name...}: everything below
	here   *place
}

// place is a path with the methods that it answers.
type place struct {
	methods map[string]*route
	allow   string // for the header of that name
}

func (n *node) add(method, pattern string, r *route) error {
	if !strings.HasPrefix(pattern, "/") {
		return fmt.Errorf("route %s %q: a path begins with a slash", method, pattern)
	}
	for path := pattern[1:]; ; {
		segment, below, more := strings.Cut(path, "/")
		switch {
		case strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "...}"):
			if more {
				return fmt.Errorf("route %s %q: %s must be last", method, pattern, segment)
			}
			if n.rest == nil {
				n.rest = &place{}
			}
			return n.rest.add(method, pattern, r)
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
		n.here = &place{}
	}
	return n.here.add(method, pattern, r)
}

func (p *place) add(method, pattern string, r *route) error {
	if p.methods == nil {
		p.methods = map[string]*route{}
	}
	if twice := p.methods[method]; twice != nil {
		return fmt.Errorf("route %s %q is served twice; the other is %q", method, pattern, twice.pattern)
	}
	p.methods[method] = r
	allowed := append(slices.Collect(maps.Keys(p.methods)), http.MethodOptions)
	if p.methods[http.MethodGet] != nil && p.methods[http.MethodHead] == nil {
		allowed = append(allowed, http.MethodHead)
	}
	slices.Sort(allowed)
	p.allow = strings.Join(slices.Compact(allowed), ", ")
	return nil
}

// find is the place of a path without its first slash; nil when there is none.
// Segments that are empty or lead upwards are nowhere: they could mean another path to whoever is behind.
func (n *node) find(path string) *place {
	segment, below, more := strings.Cut(path, "/")
	if segment == "" || segment == "." || segment == ".." {
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
	if n.rest != nil && clean(path) {
		return n.rest
	}
	return nil
}

func (n *node) next(below string, more bool) *place {
	if more {
		return n.find(below)
	}
	return n.here
}

func clean(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// of is the route of a method. HEAD is answered by GET, whose body the server drops.
func (p *place) of(method string) *route {
	if r := p.methods[method]; r != nil || method != http.MethodHead {
		return r
	}
	return p.methods[http.MethodGet]
}
