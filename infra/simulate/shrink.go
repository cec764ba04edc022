package simulate

// shrinkRuns bounds the runs that look for the shortest trace of a seed.
const shrinkRuns = 600

// Shrink returns the report, with a trace, of the shortest run of a seed that breaks the same promise as the whole run
// does. It leaves out faults and actions by delta debugging (Zeller and Hildebrandt, 2002). For a seed without a
// violation it returns the report of the whole run, without a trace.
func Shrink(sys System, seed uint64) *Report {
	whole := run(sys, seed, nil, false)
	if whole.OK() {
		return whole
	}
	s := shrinker{sys: sys, seed: seed, class: whole.Violations[0].Class}
	part := choice{selected(whole.planned, nil), selected(whole.actions, nil)}
	for before := -1; before != len(part.faults)+len(part.actions); {
		before = len(part.faults) + len(part.actions)
		part.faults = s.reduce(part.faults, func(f []int) choice { return choice{f, part.actions} })
		part.actions = s.reduce(part.actions, func(a []int) choice { return choice{part.faults, a} })
	}
	return run(sys, seed, &part, true)
}

// Trace runs a seed and returns its report with a trace.
func Trace(sys System, seed uint64) *Report { return run(sys, seed, nil, true) }

type shrinker struct {
	sys   System
	seed  uint64
	class string
	runs  int
}

func (s *shrinker) fails(c choice) bool {
	s.runs++
	for _, v := range run(s.sys, s.seed, &c, false).Violations {
		if v.Class == s.class {
			return true
		}
	}
	return false
}

// reduce returns the part of the list that the failure needs.
func (s *shrinker) reduce(list []int, with func([]int) choice) []int {
	if len(list) > 0 && s.fails(with([]int{})) {
		return []int{}
	}
	for parts := 2; len(list) > 1 && s.runs < shrinkRuns; {
		size := (len(list) + parts - 1) / parts
		smaller := false
		for at := 0; at < len(list) && s.runs < shrinkRuns; at += size {
			rest := append(append([]int{}, list[:at]...), list[min(at+size, len(list)):]...)
			if s.fails(with(rest)) {
				list, parts, smaller = rest, max(parts-1, 2), true
				break
			}
		}
		if smaller {
			continue
		}
		if size == 1 {
			break
		}
		parts = min(2*parts, len(list))
	}
	return list
}
