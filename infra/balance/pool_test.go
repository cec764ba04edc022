package balance_test

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/balance"
	"github.com/ebb-dev/ebb/infra/discovery"
)

// chosen returns the ids of the members that requests are sent to.
func chosen(p *balance.Pool, instances []discovery.Instance) string {
	seen := map[string]bool{}
	for range 4 * len(instances) {
		m := p.Pick(nil, instances)
		seen[m.Instance.ID] = true
		m.Cancel()
	}
	var all []string
	for _, i := range instances {
		if seen[i.ID] {
			all = append(all, i.ID)
		}
	}
	return strings.Join(all, " ")
}

// fail has n requests in a row fail at the instance.
func fail(p *balance.Pool, id string, n int) {
	members, _ := p.Members()
	for _, m := range members {
		for range n {
			if m.Instance.ID == id {
				m.Begin()
				m.Done(true)
			}
		}
	}
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: requests go to %q, want %q", what, got, want)
	}
}

// An instance that fails five times in a row is ejected for 10 s, the next time for 20 s. At most half are ejected.
func TestConsecutiveFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, all := newPool(balance.Config{}), list("a", "b", "c", "d")
		want(t, "at first", chosen(p, all), "a b c d")
		fail(p, "b", 4)
		want(t, "after four failures", chosen(p, all), "a b c d")
		order(p, all, 4) // one success each
		fail(p, "b", 4)
		want(t, "after a success between", chosen(p, all), "a b c d")
		fail(p, "b", 1)
		want(t, "after the fifth", chosen(p, all), "a c d")
		if _, healthy := p.Members(); healthy != 3 {
			t.Errorf("%d are healthy, want 3", healthy)
		}
		fail(p, "a", 5)
		fail(p, "c", 5)
		want(t, "when a third one fails", chosen(p, all), "c d")
		time.Sleep(10*time.Second - 1)
		want(t, "before its time is up", chosen(p, all), "c d")
		time.Sleep(1 * time.Nanosecond)
		want(t, "after 10 s", chosen(p, all), "a b c d")
		fail(p, "b", 5)
		time.Sleep(20*time.Second - 1)
		want(t, "the second time", chosen(p, all), "a c d")
		time.Sleep(1 * time.Nanosecond)
		want(t, "after 20 s", chosen(p, all), "a b c d")
	})
}

// The only instance is never ejected.
func TestTheOnlyInstance(t *testing.T) {
	p, all := newPool(balance.Config{}), list("a")
	chosen(p, all)
	fail(p, "a", 100)
	want(t, "after failures", chosen(p, all), "a")
}

// An instance that fails every second request never fails five times in a row. It is found by comparing it with the
// others; and when all fail as often, none is ejected.
func TestOutlier(t *testing.T) {
	for ids, left := range map[string]string{"c": "a b d", "a b c d": "a b c d"} {
		synctest.Test(t, func(t *testing.T) {
			p, all := newPool(balance.Config{}), list("a", "b", "c", "d")
			for n := range 800 {
				m := p.Pick(nil, all)
				m.Done(n/4%2 == 0 && strings.Contains(ids, m.Instance.ID))
			}
			time.Sleep(10 * time.Second)
			want(t, "failing: "+ids, chosen(p, all), left)
		})
	}
}

// When most instances fail, the fault is elsewhere: requests go to all of them, unless that is switched off.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for limit, left := range map[float64]string{0: "a b c d", -1: "d"} {
			p := newPool(balance.Config{Panic: limit, Outlier: balance.Outlier{MaxEjected: 1}})
			all := list("a", "b", "c", "d")
			chosen(p, all)
			fail(p, "a", 5)
			fail(p, "b", 5)
			want(t, "with half of them", chosen(p, all), "c d")
			fail(p, "c", 5)
			want(t, "with one of four", chosen(p, all), left)
		}
	})
}

// Instances of the own zone are preferred while half of them are healthy.
func TestZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(balance.Config{Zone: "north", Outlier: balance.Outlier{MaxEjected: 1}})
		all := list("a", "b", "c", "d", "e", "f")
		all[0].Zone, all[1].Zone, all[2].Zone, all[3].Zone, all[4].Zone = "north", "north", "north", "north", "south"
		want(t, "at first", chosen(p, all), "a b c d")
		fail(p, "a", 5)
		fail(p, "b", 5)
		want(t, "with half of the zone", chosen(p, all), "c d")
		fail(p, "c", 5)
		want(t, "with a quarter of the zone", chosen(p, all), "d e f")
		want(t, "in a zone of its own", chosen(newPool(balance.Config{Zone: "west"}), all), "a b c d e f")
	})
}

// The share of a new instance grows in the time of the slow start, and so does that of one which was ejected.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(balance.Config{Balancer: &balance.WeightedRoundRobin{}, SlowStart: 20 * time.Second})
		all := list("a", "b")
		share := func() int { return strings.Count(order(p, all, 110), "b") }
		// Handlers of one list are other members than those of another, so both are listed by address.
		for i := range all {
			all[i].Handler, all[i].Address = nil, &url.URL{Scheme: "http", Host: all[i].ID}
		}
		order(p, append([]discovery.Instance(nil), all[0]), 1)
		time.Sleep(20 * time.Second)
		for _, c := range []struct {
			after time.Duration
			want  int
		}{{0, 10}, {10 * time.Second, 37}, {10 * time.Second, 55}, {time.Hour, 55}} {
			if time.Sleep(c.after); share() != c.want {
				t.Errorf("after %v more: the new instance gets %d of 110 requests, want %d", c.after, share(), c.want)
			}
		}
		fail(p, "b", 5)
		time.Sleep(10 * time.Second)
		if got := share(); got != 10 {
			t.Errorf("after its ejection it gets %d of 110, want 10", got)
		}
	})
}

// A request is tried at another instance as long as there is one, first at the healthy ones.
func TestTried(t *testing.T) {
	for _, ill := range []string{"a", "b", "c"} {
		p, all := newPool(balance.Config{}), list("a", "b", "c")
		chosen(p, all)
		fail(p, ill, 5)
		var tried []*balance.Member
		var got []string
		for range 4 {
			m := p.Pick(nil, all, tried...)
			tried, got = append(tried, m), append(got, m.Instance.ID)
		}
		if got[0] == ill || got[1] == ill || got[0] == got[1] || got[2] != ill || got[3] == ill {
			t.Errorf("while %s is ejected: tried %v", ill, got)
		}
	}
	if m := newPool(balance.Config{}).Pick(nil, nil); m != nil {
		t.Errorf("without instances: got %v", m)
	}
}

// prober answers health checks by the host.
type prober struct {
	mu   sync.Mutex
	down map[string]bool
	all  []string
}

func (p *prober) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, r.URL.String())
	switch {
	case r.URL.Host == "c" && p.down["c"]: // does not answer
		p.mu.Unlock()
		<-r.Context().Done()
		p.mu.Lock()
		return nil, r.Context().Err()
	case p.down[r.URL.Host]:
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
}

func (p *prober) set(host string, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down[host] = down
}

// Two failed health checks leave an instance out, and one that passes brings it back. No checks are made while no
// requests come.
func TestChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		probe := &prober{down: map[string]bool{}}
		all := list("a", "b", "c")
		for i := range all {
			all[i].Handler, all[i].Address = nil, &url.URL{Scheme: "http", Host: all[i].ID}
		}
		p := newPool(balance.Config{Check: balance.Check{Path: "/health/readiness", Transport: probe}})
		serve := func(seconds int) {
			for range seconds {
				time.Sleep(time.Second)
				chosen(p, all)
				synctest.Wait()
			}
		}
		serve(1)
		if len(probe.all) != 3 || !strings.HasSuffix(probe.all[0], "/health/readiness") {
			t.Fatalf("checks: %v", probe.all)
		}
		probe.set("b", true)
		probe.set("c", true)
		serve(5)
		want(t, "after one failed check", chosen(p, all), "a b c")
		serve(7)
		want(t, "after two, and more than half are left", chosen(p, all), "a b c") // panic: one of three is healthy
		probe.set("c", false)
		serve(7)
		want(t, "with c back", chosen(p, all), "a c")
		probe.set("b", false)
		serve(7)
		want(t, "with b back", chosen(p, all), "a b c")
		made := len(probe.all)
		time.Sleep(time.Hour)
		if len(probe.all) != made {
			t.Errorf("%d checks without a request", len(probe.all)-made)
		}
	})
}

// Changed is called when the number of the instances or of the healthy ones changes, and only then.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got [][2]int
		p := newPool(balance.Config{Changed: func(all, healthy int) { got = append(got, [2]int{all, healthy}) }})
		all := list("a", "b", "c", "d")
		chosen(p, all[:2])
		chosen(p, list("a", "x")) // the numbers stay
		chosen(p, all)
		fail(p, "a", 5)
		time.Sleep(10 * time.Second)
		chosen(p, all)
		p.Pick(nil, nil)
		if want := [][2]int{{2, 2}, {4, 4}, {4, 3}, {4, 4}, {0, 0}}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
