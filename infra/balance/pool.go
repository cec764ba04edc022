package balance

import (
	"cmp"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
)

// Config is how a Pool chooses. The zero Config gives each instance its turn and leaves out those that fail.
type Config struct {
	Balancer Balancer // of this pool only; nil: round robin

	// Zone is where the pool runs. Instances of the same zone are preferred, as long as at least half of them are
	// healthy; "": the zone does not matter. They get all requests of the zone, so each zone needs enough of them.
	Zone string

	Outlier Outlier // leaves out instances by their answers
	Check   Check   // leaves out instances by health checks

	// SlowStart is how long an instance that is new, or healthy again, takes to get its whole share; 0: no time.
	// RoundRobin ignores it.
	SlowStart time.Duration

	// Changed is called when instances come, go or change their health, with their number and that of the healthy ones,
	// and must not call the pool; nil: nothing is.
	Changed func(all, healthy int)

	// Panic is the share of healthy instances below which all of them are used, as the fault is then likely to be
	// elsewhere and the healthy ones would be overloaded; 0: 0.5. Negative: never, so that no instance may be left.
	Panic float64
}

// Outlier is when an instance is ejected, which means left out for a while, by its answers. The zero Outlier has the
// defaults.
type Outlier struct {
	Consecutive int           // failures in a row that eject; 0: 5, negative: answers never eject
	Eject       time.Duration // the first ejection lasts this, the second twice as long and so on; 0: 10 s
	MaxEject    time.Duration // the longest ejection; 0: 5 min
	MaxEjected  float64       // share of the instances that may be ejected at once; 0: 0.5

	// After each Interval the instances with at least MinRequests are compared, if there are three of them: one is
	// ejected when its share of failed requests is more than Excess above the median. This finds an instance that fails
	// often, but never Consecutive times in a row.
	Interval    time.Duration // 0: 10 s
	MinRequests int           // 0: 100
	Excess      float64       // 0: 0.2
}

func (c Config) withDefaults() Config {
	if c.Balancer == nil {
		c.Balancer = &RoundRobin{}
	}
	c.Panic = cmp.Or(c.Panic, 0.5)
	o := &c.Outlier
	o.Consecutive, o.Eject = cmp.Or(o.Consecutive, 5), cmp.Or(o.Eject, 10*time.Second)
	o.MaxEject = cmp.Or(o.MaxEject, 5*time.Minute)
	o.MaxEjected, o.Interval = cmp.Or(o.MaxEjected, 0.5), cmp.Or(o.Interval, 10*time.Second)
	o.MinRequests, o.Excess = cmp.Or(o.MinRequests, 100), cmp.Or(o.Excess, 0.2)
	c.Check = c.Check.withDefaults()
	return c
}

// Pool follows the instances of one function and chooses one for each request. It has no goroutine of its own and may
// be used concurrently. What it knows is lost with the process; then each instance counts as healthy.
type Pool struct {
	cfg    Config
	attach func(discovery.Instance) http.Handler

	now atomic.Pointer[view]

	mu       sync.Mutex // guards changes of now, the members' health and what follows
	compared time.Time
	told     [2]int // what Changed was called with last
}

// view is what Pick needs to know, replaced as a whole.
type view struct {
	instances []discovery.Instance // that discovery returned
	members   []*Member            // of all instances, in the same order
	usable    []*Member            // that requests are sent to
	until     time.Time            // when it has to be made anew; zero: when something changes
}

// NewPool returns a Pool without members. Attach makes what serves an instance, when it is first seen; it must not call
// the pool.
func NewPool(cfg Config, attach func(discovery.Instance) http.Handler) *Pool {
	p := &Pool{cfg: cfg.withDefaults(), attach: attach}
	p.now.Store(&view{})
	return p
}

// Pick returns the instance that the request is sent to, of those that discovery lists now; nil when it lists none. An
// instance that was tried before is chosen only when no other is left. The caller must call Done or Cancel of the
// member when the request has ended.
func (p *Pool) Pick(r *http.Request, instances []discovery.Instance, tried ...*Member) *Member {
	v := p.current(instances)
	members := v.usable
	if len(tried) > 0 {
		members = untried(v, tried)
	}
	if len(members) == 0 {
		return nil
	}
	m := members[p.cfg.Balancer.Choose(r, members)]
	m.Begin()
	return m
}

// untried returns the usable members that were not tried, or else any that was not, or else all that are usable.
func untried(v *view, tried []*Member) []*Member {
	for _, from := range [][]*Member{v.usable, v.members} {
		left := make([]*Member, 0, len(from))
		for _, m := range from {
			if !slices.Contains(tried, m) {
				left = append(left, m)
			}
		}
		if len(left) > 0 {
			return left
		}
	}
	return v.usable
}

// Members returns the members in the order in which discovery last listed them, and how many of them are healthy.
func (p *Pool) Members() (members []*Member, healthy int) {
	v := p.now.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range v.members {
		if m.healthy(time.Now()) {
			healthy++
		}
	}
	return v.members, healthy
}

func (p *Pool) current(instances []discovery.Instance) *view {
	v := p.now.Load()
	if same(v.instances, instances) && (v.until.IsZero() || time.Now().Before(v.until)) {
		return v
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v, now := p.now.Load(), time.Now()
	if !same(v.instances, instances) {
		p.list(v, instances, now)
	} else if !v.until.IsZero() && !now.Before(v.until) { // no other caller was faster
		p.refresh(now)
	}
	return p.now.Load()
}

// same reports whether discovery returned the same list: it returns the same slice until something changes.
func same(a, b []discovery.Instance) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// list replaces the members by those of a new list. An instance that was in the old one is the same member. The pool is
// locked.
func (p *Pool) list(old *view, instances []discovery.Instance, now time.Time) {
	next := &view{instances: instances, members: make([]*Member, len(instances))}
	for i, instance := range instances {
		at := slices.IndexFunc(old.members, func(m *Member) bool { return equal(m.Instance, instance) })
		if at >= 0 {
			next.members[i] = old.members[at]
			continue
		}
		m := &Member{Instance: instance, pool: p, hash: fnv(instance.ID), base: float64(max(instance.Weight, 1))}
		m.Handler = p.attach(instance)
		p.warm(m, now)
		next.members[i] = m
	}
	p.now.Store(next)
	p.refresh(now)
}

// equal reports whether the lists mean the same instance, with the same weight.
func equal(a, b discovery.Instance) bool {
	if a.ID != b.ID || a.Weight != b.Weight || a.Zone != b.Zone || (a.Handler == nil) != (b.Handler == nil) {
		return false
	}
	if a.Handler != nil { // handlers cannot be compared: one id is one handler only within a list
		return false
	}
	return a.Address.String() == b.Address.String()
}

// warm begins the slow start of a member.
func (p *Pool) warm(m *Member, now time.Time) {
	if p.cfg.SlowStart > 0 {
		m.warming.Store(now.UnixNano())
	}
}

// refresh compares the members if it is time to, and decides which of them are usable. The pool is locked.
func (p *Pool) refresh(now time.Time) {
	v := *p.now.Load()
	p.compare(v.members, now)
	v.until = p.nextComparison(v.members)
	earlier := func(t time.Time) {
		if v.until.IsZero() || t.Before(v.until) {
			v.until = t
		}
	}
	var healthy []*Member
	for _, m := range v.members {
		if !m.ejected.IsZero() && !now.Before(m.ejected) {
			m.ejected = time.Time{}
			p.warm(m, now)
		}
		if !m.ejected.IsZero() {
			earlier(m.ejected)
		}
		if next := p.startCheck(m, now); !next.IsZero() {
			earlier(next)
		}
		if m.healthy(now) {
			healthy = append(healthy, m)
		}
	}
	v.usable = p.usable(v.members, healthy)
	p.now.Store(&v)
	if now := [2]int{len(v.members), len(healthy)}; p.cfg.Changed != nil && now != p.told {
		p.told = now
		p.cfg.Changed(now[0], now[1])
	}
}

// usable returns the members that requests are sent to, of all and those that are healthy.
func (p *Pool) usable(all, healthy []*Member) []*Member {
	if p.cfg.Zone != "" {
		near := func(members []*Member) (in []*Member) {
			for _, m := range members {
				if m.Instance.Zone == p.cfg.Zone {
					in = append(in, m)
				}
			}
			return in
		}
		if local := near(healthy); len(local) > 0 && 2*len(local) >= len(near(all)) {
			return local
		}
	}
	if float64(len(healthy)) < p.cfg.Panic*float64(len(all)) {
		return all
	}
	return healthy
}
