package simulate

import (
	"slices"
	"time"
)

// beAway begins an outage of the function, or of something that it needs.
func (s *supervisor) beAway(f Fault) {
	what := map[Kind]string{
		StoreOutage: "the store of %s is away for %s", BrokerOutage: "the broker accepts nothing of %s for %s",
		RemoteOutage: "the service that %s calls is away for %s", FunctionOutage: "%s does not start for %s",
	}
	s.sim.injected(f, what[f.Kind], s.name, f.For)
	if s.away == nil {
		s.away = map[Kind]time.Duration{}
	}
	s.away[f.Kind] = max(s.away[f.Kind], s.sim.now+f.For)
	if f.Kind == FunctionOutage {
		s.killAll()
	}
}

// isAway reports whether the function is in an outage of one of the kinds.
func (s *supervisor) isAway(kinds ...Kind) bool {
	for _, k := range kinds {
		if s.sim.now < s.away[k] {
			return true
		}
	}
	return false
}

// hasClock reports whether a function of the system sweeps.
func (sim *Simulation) hasClock() bool {
	return slices.ContainsFunc(sim.supervisors, func(s *supervisor) bool { return s.sweeps })
}

// outlast lets time pass until all outages are over. A function that kept its events then publishes them at the next
// sweep; a system without a clock gets one.
func (sim *Simulation) outlast() {
	end := sim.now
	for _, s := range sim.supervisors {
		for _, until := range s.away {
			end = max(end, until)
		}
	}
	if end == sim.now {
		return
	}
	sim.runFor(end - sim.now)
	if !sim.hasClock() {
		sim.publish(sweep(900_000, sim.Now()))
	}
}

// showHealth lets the functions of a system without a clock handle an event now and then, as long as deliveries are
// open: a deadly event is a dead letter only if others of its function are handled.
func (sim *Simulation) showHealth() {
	if sim.hasClock() {
		return
	}
	n := 0
	var again func()
	again = func() {
		if sim.closing || len(sim.deadly) == 0 {
			return
		}
		if sim.open > 0 {
			n++
			sim.publish(sweep(1_000_000+n, sim.Now()))
		}
		sim.after(20*time.Second, again)
	}
	again()
}
