package gateway

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"strings"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/strictyaml"
	"github.com/ebb-dev/ebb/infra/policy"
)

// choose sends the requests that meet a rule of the operation to the function of the rule. A request for a version that
// no rule serves is 404.
func choose(next Handler) Handler {
	return func(x *Exchange) {
		route := x.Route
		for _, name := range route.varies {
			x.Writer.Header().Add("Vary", name)
		}
		for i, rule := range route.Policy.Split {
			if x.asksFor(rule) && (stuck(x, rule) || matches(x, rule) && share(x, rule.Function, rule.Percent)) {
				x.Route = route.others[i]
				stick(x, rule)
				break
			}
		}
		if x.Route == route && !route.document && x.version != x.table.versions.Current {
			x.Refuse(fault.New(fault.NotFound, "this operation has no version %q", x.version))
			return
		}
		next(x)
	}
}

// asksFor reports whether the request is one for the host and the version of a rule.
func (x *Exchange) asksFor(rule policy.Split) bool {
	version := rule.Version
	if version == "" {
		version = x.table.versions.Current
	}
	return x.version == version && (rule.Host == "" || policy.HostMatches(rule.Host, hostOf(x.Request)))
}

// matches reports whether the request meets the conditions of a rule, apart from the percentage.
func matches(x *Exchange, rule policy.Split) bool {
	for name, want := range rule.Header {
		got := x.Request.Header.Values(name)
		if len(got) == 0 || want != anything && got[0] != want {
			return false
		}
	}
	for name, want := range rule.Cookie {
		got, err := x.Request.Cookie(name)
		if err != nil || want != anything && got.Value != want {
			return false
		}
	}
	return rule.Host == "" || policy.HostMatches(rule.Host, hostOf(x.Request))
}

// anything is the value of a condition that any value meets.
const anything = "*"

// stuck reports whether the request has the cookie that says that the rule was met before.
func stuck(x *Exchange, rule policy.Split) bool {
	if rule.Sticky == "" {
		return false
	}
	c, err := x.Request.Cookie(rule.Sticky)
	return err == nil && c.Value == rule.Function
}

// stick has the browser keep a cookie with which its next requests meet the rule again, until it is closed.
func stick(x *Exchange, rule policy.Split) {
	if rule.Sticky == "" || stuck(x, rule) {
		return
	}
	c := http.Cookie{
		Name: rule.Sticky, Value: rule.Function, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: x.Request.TLS != nil,
	}
	x.Writer.Header().Add("Set-Cookie", c.String())
}

// variesBy returns the header fields that decide which function gets a request of an operation: shared caches between
// the gateway and the client must know of them.
func variesBy(rules []policy.Split, v versions) (names []string) {
	seen := map[string]bool{}
	add := func(name string) {
		if name = http.CanonicalHeaderKey(name); name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for _, rule := range rules {
		for name := range rule.Header {
			add(name)
		}
		if len(rule.Cookie) > 0 || rule.Sticky != "" {
			add("Cookie")
		}
		if rule.Version != "" {
			add(v.Header)
			if v.MediaType != "" {
				add("Accept")
			}
		}
	}
	return names
}

// hostOf returns the host that a request was sent to, without the port and the dot of a complete name.
func hostOf(r *http.Request) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if inner, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	return strings.TrimSuffix(host, ".")
}

// share reports whether the caller of a request is among the percentage of all callers. It is the same at every
// request, for all operations and in every process: a caller that sees a new version does not see the old one again.
func share(x *Exchange, of string, percent float64) bool {
	if percent == 0 {
		return true
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(of + "\x00" + counted(x, policy.ByUser, func(string) bool { return true })))
	return float64(mix(h.Sum64())%10_000) < percent*100
}

// mix spreads the bits of a hash, so that its remainders are even.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// otherRoute returns the route of an operation's requests that meet a rule. It has a breaker, limits of load, a budget
// of tries and stored answers of its own, so that a canary that fails takes nothing from the requests of the others.
func (g *Gateway) otherRoute(r *Route, rule policy.Split, env environment) *Route {
	other, p := *r, *r.Policy
	p.Split = nil
	other.Function, other.Policy, other.others, other.varies = rule.Function, &p, nil, nil
	other.storeFor(rule, env)
	other.handler = g.wayToTarget(rule.Function, env)
	other.tries, other.guard = g.triesOf(&other), g.guardOf(&other)
	return &other
}

// checkShares reports percentages of a policy that are spelt out as 0: it is every caller, as without one, where
// somebody may mean none.
func checkShares(p policy.Policy, field string, doc *strictyaml.Document) {
	check := func(percent float64, field string) {
		if percent == 0 && doc.Has(field) {
			doc.Report(field, "want more than 0; a rule for nobody is left out")
		}
	}
	for i, s := range p.Split {
		check(s.Percent, fmt.Sprintf("%s.split[%d].percent", field, i))
	}
	if p.Mirror != nil {
		check(p.Mirror.Percent, field+".mirror.percent")
	}
}

// checkSplit reports the rules of an operation that ask for what the environment does not have.
func (g *Gateway) checkSplit(env environment, o operation, report policy.Report) {
	for i, s := range o.Split {
		field := fmt.Sprintf("split[%d].", i)
		if s.Function != "" && !g.isTarget(s.Function, env) {
			report(field+"function", noFunction(s.Function))
		}
		if s.Version != "" && !env.Versions.named() {
			report(field+"version", "want versions, which says where requests name one")
		}
	}
}
