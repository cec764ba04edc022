package cesql_test

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker/internal/cesql"
)

func event(name string) (any, bool) {
	v, ok := map[string]any{
		"id": "1", "subject": "Francesco", "sequence": "5", "flag": true, "count": int32(7), "umlaut": "äöü",
		"percent": "a%b_c", "1st": "one",
	}[name]
	return v, ok
}

// Match returns true for a true expression, and false for a false one or after an error.
func TestMatch(t *testing.T) {
	for want, exprs := range map[bool][]string{
		true: {
			"TRUE", "1st = 'one'", "4-5 = -1", "1+1 = 2", "- 5 = -5", "--5 = 5", "-2147483648 < 0", "+1 = 1",
			"FALSE AND FALSE OR TRUE", "10 - 2 - 3 = 5", "1 = 1 = TRUE", "2 + 3 * 4 = 14", "NOT FALSE AND TRUE",
			"TRUE OR 1 / 0 = 1", "subject LIKE '%cesc%'", `percent LIKE 'a\%b\_c'`, `'a\c' LIKE 'a\c'`, `'a\\%' LIKE 'a\\\%'`,
			"'aXbXc' LIKE 'a%b%c'", "'ab' LIKE '%%b'", "umlaut LIKE 'ä__'", "subject NOT LIKE 'x'", "NOT EXISTS missing",
			"subject IN ('x', subject)",
			"1 NOT IN (2)", "1 IN (1, 1/0)", "SUBJECT = 'Francesco'", `'it\'s' = "it's"`, "length(umlaut) = 3",
			"CONCAT() = ''", "CONCAT_WS(',') = ''",
			"SUBSTRING('Sakila', -5, 3) = 'aki'", "LEFT('abc', 9) = 'abc'", "RIGHT('abc', 0) = ''",
			"IS_INT('5') AND NOT IS_BOOL('5')", "flag AND count = 7",
		},
		false: {
			"FALSE", "1", "'true'", "subject", "TRUE OR TRUE AND FALSE", "missing = 1 OR TRUE", "2147483647 + 1 < 0",
			"-(-2147483648) < 0", "-2147483648 / -1 < 0",
			"1 / 0 = 0", "1 % 0 = 0", "'x' < 1", "NOT (subject = 1)", "'abc' LIKE 'ab'", "'' LIKE '_'", "'ABC' LIKE 'abc'",
			"1 IN ('x', 1)",
			"SUBSTRING('abc', 4) = ''", "LEFT('abc', -1) = 'abc'", "BOOL('yes') OR TRUE", "umlaut LIKE '______'",
		},
	} {
		for _, text := range exprs {
			e, err := cesql.Compile(text)
			if err != nil {
				t.Errorf("%s: %v", text, err)
			} else if e.Match(event) != want {
				t.Errorf("%s: got %v", text, !want)
			}
		}
	}
}

// Compile returns an error for an invalid expression.
func TestCompileRefuses(t *testing.T) {
	for _, text := range []string{
		"", "(", ")", "TRUE TRUE", "1 +", "AND", "'abc", `'abc\'`, "subject == 'x'", "a & b", "ä = 1", "x LIKE y",
		"x LIKE 1", "x IN ()", "x IN (1", "x NOT 1",
		"EXISTS 1", "EXISTS NOT", "my_name = 1", "2147483648 = 1", "NOSUCH(1)", "LENGTH()", "LENGTH(1, 2)", "CONCAT_WS()",
		"+x = 1", "f(1,)", "!TRUE", "1 ! = 2",
		strings.Repeat("(", 10_000) + "TRUE", strings.Repeat("NOT ", 10_000) + "TRUE", strings.Repeat("-", 10_000) + "1",
	} {
		if _, err := cesql.Compile(text); err == nil {
			t.Errorf("%.40s: compiled", text)
		}
	}
}

// No text makes Compile panic, and no expression makes Match panic.
func FuzzCompile(f *testing.F) {
	f.Add("subject LIKE 'a%' AND NOT count IN (1, -2) OR CONCAT_WS(',', id, \"x\") = 'y' XOR EXISTS id")
	f.Add("SUBSTRING('äbc', -2, 1) = LEFT(UPPER('b'), 1 + 2 * 3 / 4 % 5 - 6)")
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := cesql.Compile(text); err == nil {
			e.Match(event)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	e, err := cesql.Compile("subject LIKE 'Fran%' AND sequence > 2")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		e.Match(event)
	}
}
