package config

import (
	"fmt"
	"slices"
	"strings"
)

// Unknown reports the variables of environ, in the form of os.Environ, that start with
// the prefix and an underscore and are none of the known names: a slip of the pen
// (EBB_ADR) would otherwise be ignored without a word. The nearest known name is
// suggested. The error is an *Error; Join puts it beside those of Load. A process that loads
// several structs with one prefix passes the Names of all of them.
func Unknown(prefix string, known, environ []string) error {
	start := strings.ToUpper(prefix) + "_"
	var faults []Fault
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, start) && !slices.Contains(known, name) {
			faults = append(faults, Fault{Variable: name, Problem: "is not a variable that is known" + suggestion(name, known)})
		}
	}
	slices.SortFunc(faults, func(a, b Fault) int { return strings.Compare(a.Variable, b.Variable) })
	return asError(faults)
}

// suggestion is the nearest known name, if it is near enough to be what was meant.
func suggestion(name string, known []string) string {
	best, least := "", len(name)/3+1
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is the number of characters to insert, drop, replace or swap with their neighbour
// that turn a into b (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
