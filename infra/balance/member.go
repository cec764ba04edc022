package balance

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
)

// Member is an instance in a Pool, with what the pool knows of it. Its methods may be called concurrently.
type Member struct {
	Instance discovery.Instance
	Handler  http.Handler // serves requests by the instance; the pool's Attach made it

	pool    *Pool
	base    float64 // the weight of the instance
	hash    uint64  // of its id
	pending atomic.Int64
	warming atomic.Int64 // when its slow start began, in Unix nanoseconds; 0: it is over
	credit  float64      // guarded by WeightedRoundRobin

	window struct{ requests, failures atomic.Int64 } // since the pool's last comparison
	failed atomic.Int64                              // failures in a row

	// Guarded by the pool.
	ejected   time.Time // until when; zero: it is not
	ejections int       // that count for the length of the next one
	check     checked
}

// Pending returns how many requests of the instance are under way.
func (m *Member) Pending() int { return int(m.pending.Load()) }

// slowest is the part of its weight that a member has at the beginning of its slow start.
const slowest = 0.1

// Weight returns the weight of the instance now: during a slow start it grows from a tenth of the whole.
func (m *Member) Weight() float64 {
	began := m.warming.Load()
	if began == 0 {
		return m.base
	}
	part := float64(time.Now().UnixNano()-began) / float64(m.pool.cfg.SlowStart)
	if part >= 1 {
		m.warming.CompareAndSwap(began, 0)
		return m.base
	}
	return m.base * max(part, slowest)
}

// load returns how busy the member would be with one more request.
func (m *Member) load() float64 { return float64(m.pending.Load()+1) / m.Weight() }

// Begin notes the begin of a request that is sent to this instance without a Pick.
func (m *Member) Begin() { m.pending.Add(1) }

// Done notes the end of a request, and whether the instance failed it: it was not
// reached, did not answer in time, or answered 502, 503 or 504.
func (m *Member) Done(failed bool) {
	m.pending.Add(-1)
	if m.pool.cfg.Outlier.Consecutive < 0 {
		return
	}
	m.window.requests.Add(1)
	if !failed {
		if m.failed.Load() != 0 {
			m.failed.Store(0)
		}
		return
	}
	m.window.failures.Add(1)
	if m.failed.Add(1) >= int64(m.pool.cfg.Outlier.Consecutive) {
		m.pool.eject(m)
	}
}

// Cancel notes the end of a request that says nothing about the instance, such as one whose caller went away.
func (m *Member) Cancel() { m.pending.Add(-1) }
