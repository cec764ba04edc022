package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/internal/editdistance"
)

// Unknown reports the variables of environ, in the form of os.Environ, that start with the prefix and an underscore and
// are not among the known names: a misspelled variable (EBB_ADR) would otherwise be ignored silently. It suggests the
// nearest known name. The error is an *Error; Join joins it with those of Load. A process that loads several structs
// with one prefix passes the Names of all of them.
func Unknown(prefix string, known, environ []string) error {
	start := strings.ToUpper(prefix) + "_"
	var violations []Violation
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, start) && !slices.Contains(known, name) {
			problem := "is not a variable that is known" + suggestion(name, known)
			violations = append(violations, Violation{Variable: name, Problem: problem})
		}
	}
	slices.SortFunc(violations, func(a, b Violation) int { return strings.Compare(a.Variable, b.Variable) })
	return asError(violations)
}

// suggestion returns the nearest known name, if it is near enough to be the one that was meant.
func suggestion(name string, known []string) string {
	best := editdistance.Nearest(name, known)
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}
