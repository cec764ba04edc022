package flag

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/diegoholiveira/jsonlogic/v3"
	"github.com/twmb/murmur3"
	"golang.org/x/mod/semver"
)

// flagdMember is what flagd adds to the context.
const flagdMember = "$flagd"

// operations are those that a targeting may have: those of JsonLogic and those of flagd, with blanks around each.
const operations = " var missing missing_some if ?: == === != !== ! !! or and > >= < <= max min + - * / % " +
	"map reduce filter all none some merge in cat substr fractional starts_with ends_with sem_ver "

// isOperation reports whether a targeting may have an operation of the name.
func isOperation(name string) bool {
	return name != "" && !strings.Contains(name, " ") && strings.Contains(operations, " "+name+" ")
}

// isIteration reports whether an operation does something for each element of a list.
func isIteration(name string) bool {
	return slices.Contains([]string{"map", "reduce", "filter", "all", "none", "some"}, name)
}

func init() {
	jsonlogic.AddOperator("fractional", fractional)
	jsonlogic.AddOperator("starts_with", func(args, _ any) any { return compareTexts(args, strings.HasPrefix) })
	jsonlogic.AddOperator("ends_with", func(args, _ any) any { return compareTexts(args, strings.HasSuffix) })
	jsonlogic.AddOperator("sem_ver", func(args, _ any) any { return compareVersions(args) })
}

// compareTexts returns nil for what are no two strings.
func compareTexts(args any, has func(s, part string) bool) any {
	list, _ := args.([]any)
	if len(list) != 2 {
		return nil
	}
	s, ok := list[0].(string)
	part, also := list[1].(string)
	if !ok || !also {
		return nil
	}
	return has(s, part)
}

// compareVersions compares two semantic versions: VERSION, =, !=, <, <=, >, >=, ^ (same major) or ~ (same minor),
// VERSION. It returns nil for what is no version and no operator.
func compareVersions(args any) any {
	list, _ := args.([]any)
	if len(list) != 3 {
		return nil
	}
	a, b := version(list[0]), version(list[2])
	if a == "" || b == "" {
		return nil
	}
	c := semver.Compare(a, b)
	switch list[1] {
	case "=":
		return c == 0
	case "!=":
		return c != 0
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	case "^":
		return semver.Major(a) == semver.Major(b)
	case "~":
		return semver.MajorMinor(a) == semver.MajorMinor(b)
	}
	return nil
}

// version returns a version as package semver has it; "" for what is none. A v before it may be missing, and so may the
// last numbers, which are zeros then: 2 is 2.0.0.
func version(v any) string {
	var text string
	switch v := v.(type) {
	case string:
		text = strings.TrimPrefix(strings.TrimPrefix(v, "v"), "V")
	case float64:
		text = strconv.FormatFloat(v, 'f', -1, 64)
	}
	core, _, build := strings.Cut(text, "+")
	core, _, pre := strings.Cut(core, "-")
	if (build || pre) && strings.Count(core, ".") != 2 || !semver.IsValid("v"+text) {
		return ""
	}
	return "v" + text
}

// fractional shares the targeting keys out among variants: [BY,] [VARIANT, WEIGHT], … Without BY it goes by the key of
// the flag and the targetingKey. The same key always gets the same variant as long as the weights stay. It returns nil
// for what it cannot read.
func fractional(args, context any) any {
	list, _ := args.([]any)
	if len(list) == 0 {
		return nil
	}
	by, ok := list[0].(string)
	if ok {
		list = list[1:]
	} else if by = targetingKey(context); by == "" {
		return nil
	}
	total, ok := totalWeight(list)
	if !ok {
		return nil
	}
	high, _ := bits.Mul64(uint64(murmur3.StringSum32(by))<<32, total)
	var sum uint64
	for _, entry := range list {
		if sum += weight(entry.([]any)); sum > high {
			return entry.([]any)[0]
		}
	}
	return nil
}

// targetingKey returns what fractional goes by unless it is told; "" if the context has no targetingKey.
func targetingKey(context any) string {
	data, _ := context.(map[string]any)
	flagd, _ := data[flagdMember].(map[string]any)
	key, _ := flagd["flagKey"].(string)
	who, _ := data["targetingKey"].(string)
	if who == "" {
		return ""
	}
	return key + who
}

// totalWeight returns the sum of the weights, and whether all entries are valid.
func totalWeight(list []any) (total uint64, ok bool) {
	for _, entry := range list {
		pair, _ := entry.([]any)
		if len(pair) == 0 || len(pair) > 2 {
			return 0, false
		}
		switch pair[0].(type) {
		case string, float64, bool, nil:
		default:
			return 0, false
		}
		if len(pair) == 2 {
			w, isNumber := pair[1].(float64)
			if !isNumber || w != math.Trunc(w) || w > math.MaxInt32 {
				return 0, false
			}
		}
		total += weight(pair)
	}
	return total, total <= math.MaxInt32
}

// weight returns the weight of a valid entry: 1 unless it names one, and 0 for a negative one.
func weight(pair []any) uint64 {
	if len(pair) < 2 {
		return 1
	}
	return uint64(max(pair[1].(float64), 0))
}
