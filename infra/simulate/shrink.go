package simulate

// shrinkRuns bounds how often a seed is run again to find its shortest story.
const shrinkRuns = 600

// Shrink finds the shortest story of a seed that violates: it leaves out faults and actions, by delta debugging
// (Zeller and Hildebrandt, 2002), for as long as what is left still breaks the same promise, and tells what then happens.
// Of a seed that violates nothing it is the whole run, untold.
func Shrink(sys System, seed uint64) *Report {
	whole := run(sys, seed, nil, false)
	if whole.OK() {
		return whole
	}
	s := shrinker{sys: sys, seed: seed, class: whole.Violations[0].Class}
	part := choice{kept(whole.planned, nil), kept(whole.actions, nil)}
	for before := -1; before != len(part.faults)+len(part.actions); {
		before = len(part.faults) + len(part.actions)
		part.faults = s.reduce(part.faults, func(f []int) choice { return choice{f, part.actions} })
		part.actions = s.reduce(part.actions, func(a []int) choice { return choice{part.faults, a} })
	}
	return run(sys, seed, &part, true)
}

// Tell runs a seed once more and tells what happens.
func Tell(sys System, seed uint64) *Report { return run(sys, seed, nil, true) }

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

// reduce leaves out as much of the list as it can.
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
