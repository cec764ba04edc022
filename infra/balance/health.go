package balance

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"
)

// healthy reports whether the member is neither ejected nor failing its health checks. The pool is locked.
func (m *Member) healthy(now time.Time) bool {
	return (m.ejected.IsZero() || !now.Before(m.ejected)) && !m.check.down
}

// eject leaves a member out for a while, unless too many are left out already.
func (p *Pool) eject(m *Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.ejectLocked(m, p.now.Load().members, now) {
		p.refresh(now)
	}
}

// ejectLocked does the work of eject and reports whether the member is now ejected. The pool is locked.
func (p *Pool) ejectLocked(m *Member, members []*Member, now time.Time) bool {
	m.failed.Store(0)
	if !m.ejected.IsZero() {
		return false
	}
	ejected := 1
	for _, other := range members {
		if !other.ejected.IsZero() {
			ejected++
		}
	}
	o := p.cfg.Outlier
	if float64(ejected) > o.MaxEjected*float64(len(members)) {
		return false
	}
	m.ejections++
	m.ejected = now.Add(min(time.Duration(m.ejections)*o.Eject, o.MaxEject))
	return true
}

// nextComparison returns when the success rates are compared next; zero when they are not.
func (p *Pool) nextComparison(members []*Member) time.Time {
	if p.cfg.Outlier.Consecutive < 0 || len(members) < 2 {
		return time.Time{}
	}
	return p.compared.Add(p.cfg.Outlier.Interval)
}

// compare ejects the members that fail far more often than the others, if an interval is over. The pool is locked.
func (p *Pool) compare(members []*Member, now time.Time) {
	o := p.cfg.Outlier
	if next := p.nextComparison(members); next.IsZero() || now.Before(next) {
		return
	}
	p.compared = now
	var busy []*Member
	var shares []float64
	for _, m := range members {
		requests, failures := m.window.requests.Swap(0), m.window.failures.Swap(0)
		if m.ejected.IsZero() && m.ejections > 0 && failures == 0 {
			m.ejections--
		}
		if requests >= int64(o.MinRequests) {
			busy, shares = append(busy, m), append(shares, float64(failures)/float64(requests))
		}
	}
	if len(busy) < 3 {
		return
	}
	median := slices.Sorted(slices.Values(shares))[(len(shares)-1)/2]
	for i, m := range busy {
		if shares[i] > median+o.Excess {
			p.ejectLocked(m, members, now)
		}
	}
}

// Check is a health check of instances that have an address: a GET that a healthy one answers with 2xx. The zero Check
// makes none.
//
// Checks are made only while requests come, so they keep nothing awake: the first request after a pause is sent by what
// was known before it.
type Check struct {
	Path      string        // such as /health/readiness, added to the address; "": no checks
	Every     time.Duration // between two checks of an instance; 0: 5 s
	Timeout   time.Duration // of one check; 0: 1 s
	Unhealthy int           // failed checks in a row after which an instance is left out; 0: 2
	Healthy   int           // passed checks in a row after which it is back; 0: 1

	Transport http.RoundTripper // sends the checks; nil: http.DefaultTransport
}

func (c Check) withDefaults() Check {
	c.Every, c.Timeout = cmp.Or(c.Every, 5*time.Second), cmp.Or(c.Timeout, time.Second)
	c.Unhealthy, c.Healthy = cmp.Or(c.Unhealthy, 2), cmp.Or(c.Healthy, 1)
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	return c
}

// checked is what health checks have found out about a member.
type checked struct {
	running bool
	next    time.Time // when the next check may begin
	down    bool
	row     int // results in a row that contradict down
}

// startCheck starts a health check of the member if one is due, and returns when the next one is; zero when none is
// needed. The pool is locked.
func (p *Pool) startCheck(m *Member, now time.Time) time.Time {
	if p.cfg.Check.Path == "" || m.Instance.Address == nil || m.check.running {
		return time.Time{}
	}
	if now.Before(m.check.next) {
		return m.check.next
	}
	m.check.running = true
	go p.runCheck(m)
	return time.Time{}
}

// runCheck makes one health check and notes its result.
func (p *Pool) runCheck(m *Member) {
	ok := p.cfg.Check.passes(m)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	m.check.running, m.check.next = false, now.Add(p.cfg.Check.Every)
	if ok != m.check.down {
		m.check.row = 0
	} else if m.check.row++; ok && m.check.row >= p.cfg.Check.Healthy || !ok && m.check.row >= p.cfg.Check.Unhealthy {
		m.check.down, m.check.row = !ok, 0
		if ok {
			p.warm(m, now)
		}
	}
	p.refresh(now)
}

// passes makes the request of a health check.
func (c Check) passes(m *Member) bool {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.Instance.Address.JoinPath(c.Path).String(), nil)
	if err != nil {
		return false
	}
	answer, err := c.Transport.RoundTrip(r)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode/100 == 2
}
