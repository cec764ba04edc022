package conformance

import (
	"fmt"
	"strings"
)

const sectionCESQL = "CESQL 1.0"

// cesqlCase is a sentence with expressions that check it. They are evaluated for an event with the members of
// cesqlEvent.
type cesqlCase struct {
	id, sentence string
	level        Level
	true         []string // pass
	false        []string // do not pass, without an error
	fails        []string // have an error or no boolean value: the trigger is refused, or the event does not pass
	members      message  // replace or extend those of cesqlEvent
}

var cesqlEvent = message{
	"subject": "Francesco", "firstname": "Francesco", "lastname": "Guardiani", "sequence": "5", "hop": "5", "ttl": "10",
	"flag": true, "count": 7, "percent": "a%b_c", "umlaut": "äöü", "word": "TRUE",
	"time": "2018-04-26T14:48:09Z", "datacontenttype": "application/json",
}

func cesqlCases() []Case {
	var cases []Case
	for _, c := range allCESQL {
		cases = append(cases, Case{ID: "cesql-" + c.id, Section: sectionCESQL, Level: c.level, Sentence: c.sentence,
			Needs: []Feature{CESQL}, run: func(t *trial) { t.cesql(c) }})
	}
	return cases
}

// cesql makes a trigger for each expression and posts one event.
func (t *trial) cesql(c cesqlCase) {
	control := t.subscribe(nil, nil)
	sinks := make(map[string]*sink)
	make := func(expr string, mayRefuse bool) {
		k := t.sink(nil)
		err := t.create(Trigger{Sink: k.url, Filters: []Filter{t.ours(), cesql(expr)}})
		switch {
		case err != nil && mayRefuse && refused(err):
			return
		case err != nil:
			t.fail("a trigger for "+expr, err.Error())
			return
		}
		t.mu.Lock()
		sinks[expr] = k
		t.mu.Unlock()
	}
	each(t, append(c.true[:len(c.true):len(c.true)], c.false...), func(expr string) { make(expr, false) })
	each(t, c.fails, func(expr string) { make(expr, true) })
	e := t.event()
	for _, from := range []message{cesqlEvent, c.members} {
		for name, value := range from {
			e = e.with(name, value)
		}
	}
	t.sendStructured(e)
	t.await(control, e.id(), 1)
	for _, expr := range c.true {
		if k := sinks[expr]; k != nil {
			t.mayWait(k, e.id(), expr+" is true: the event is delivered")
		}
	}
	t.waitQuiet()
	for what, exprs := range map[string][]string{"is false": c.false, "has an error": c.fails} {
		for _, expr := range exprs {
			if k := sinks[expr]; k != nil {
				t.never(k, e.id(), fmt.Sprintf("%s %s: no delivery", expr, what))
			}
		}
	}
}

var allCESQL = []cesqlCase{
	{id: "boolean", level: Must, sentence: "an event passes when the value is the boolean true, and only then",
		true: []string{"TRUE"}, false: []string{"FALSE"}, fails: []string{"1", "'true'", "subject", "count + 1"}},
	{id: "literals", level: Must,
		sentence: "literals are integers, booleans in any case, and strings in either quotes, which can be escaped",
		true:     []string{"tRuE", "1 = 1", "'abc' = \"abc\"", `'it\'s' = "it's"`, `"say \"x\"" = 'say "x"'`, "-1 = 0 - 1"},
		false:    []string{"fAlSe", "'aBc' = 'abc'"}, fails: []string{"2147483648 > 0"}},
	{id: "keywords", level: Must, sentence: "keywords and function names are case-insensitive",
		true: []string{"not false and exists subject", "subject like 'Fr%'", "length(subject) = 9",
			"subject in ('Francesco')"}},
	{id: "identifiers", level: Must, sentence: "every attribute and every extension is addressed by its name",
		true: []string{"subject = 'Francesco'", "lastname = 'Guardiani'", "specversion = '1.0'",
			"source LIKE '/conformance/%'",
			"type LIKE 'dev.ebb.%'", "EXISTS id", "datacontenttype = 'application/json'"}},
	{id: "time", level: Should, sentence: "a timestamp is addressed as its string",
		true: []string{"time LIKE '2018-04-26T14:48:09%'"}},
	{id: "equal", level: Must, sentence: "= compares booleans, integers and strings",
		true: []string{"TRUE = TRUE", "2 = 2", "'a' = 'a'", "'' = ''"}, false: []string{"TRUE = FALSE", "1 = 2", "'a' = 'A'",
			"'a' = 'a '"}},
	{id: "not-equal", level: Must, sentence: "!= and <> are the negation of =",
		true: []string{"1 != 2", "1 <> 2", "'a' != 'b'", "TRUE <> FALSE"}, false: []string{"2 != 2", "2 <> 2", "'a' <> 'a'"}},
	{id: "order", level: Must, sentence: "<, <=, > and >= compare integers",
		true: []string{"1 < 2", "2 <= 2", "2 > 1", "2 >= 2", "-5 < 3"}, false: []string{"2 < 2", "3 <= 2", "2 > 2",
			"1 >= 2"}},
	{id: "and-or-xor", level: Must, sentence: "AND, OR, XOR and NOT are logical operators",
		true:  []string{"TRUE AND TRUE", "FALSE OR TRUE", "TRUE XOR FALSE", "NOT FALSE", "NOT NOT TRUE"},
		false: []string{"TRUE AND FALSE", "FALSE OR FALSE", "TRUE XOR TRUE", "NOT TRUE"}},
	{id: "short-circuit", level: Must, sentence: "AND and OR do not evaluate the right operand when the left one decides",
		true: []string{"TRUE OR (1 != 1 / 0)", "NOT (FALSE AND (1 != 1 / 0))"}, false: []string{"FALSE AND (1 != 1 / 0)"},
		fails: []string{"TRUE AND (1 = 1 / 0)", "FALSE OR (1 != 1 / 0)", "(1 != 1 / 0) OR TRUE"}},
	{id: "arithmetic", level: Must,
		sentence: "+, -, *, / and % are those of 32-bit integers; a division rounds towards zero, a remainder has the sign " +
			"of the dividend",
		true: []string{"4 + 1 = 5", "4 - 5 = -1", "4 * -2 = -8", "5 / 3 = 1", "-5 / 3 = -1", "5 % 2 = 1", "-5 % 2 = -1",
			"5 % -2 = 1", "4 + -1 = 3"}},
	{id: "division-by-zero", level: Must,
		sentence: "dividing by zero is an error: the event does not pass, whatever the rest of the expression is",
		fails:    []string{"1 / 0 = 0", "1 % 0 = 0", "(1 / 0 = 0) OR TRUE", "NOT (1 / 0 = 1)", "count / (count - 7) = 0"}},
	{id: "overflow", level: Should,
		sentence: "a result that is no 32-bit integer is an error: the event does not pass, whatever the rest of the " +
			"expression is",
		fails: []string{"2147483647 + 1 < 0", "2147483647 + 1 > 0", "-2147483647 - 2 > 0", "-2147483647 - 2 < 0",
			"65536 * 65536 = 0",
			"2147483647 * 2 = -2", "ABS(-2147483648) = 2147483647", "INT('2147483648') = 0"},
		true: []string{"2147483646 + 1 = 2147483647", "-2147483647 - 1 < 0", "46340 * 46340 > 0"}},
	{id: "precedence", level: Must,
		sentence: "unary operators come before * / %, these before + -, these before comparisons, these before logic",
		true: []string{"4 * 2 + 4 / 2 = 10", "4 * (2 + 4) / 2 = 12", "2 + 3 * 4 = 14", "-2 + 3 = 1",
			"1 + 1 = 2 AND 2 * 2 = 4", "1 < 2 AND 3 > 2",
			"NOT FALSE AND TRUE", "subject LIKE 'F%' AND sequence + 1 = 6", "1 = 2 OR 2 = 2"},
		false: []string{"NOT TRUE OR FALSE", "NOT FALSE AND FALSE"}},
	{id: "left-to-right", level: Must,
		sentence: "operators of one precedence are evaluated from left to right; AND, OR and XOR are of one precedence",
		true: []string{"10 - 2 - 3 = 5", "100 / 10 / 5 = 2", "2 * 3 % 4 = 2", "FALSE AND FALSE OR TRUE",
			"TRUE XOR TRUE OR TRUE", "FALSE AND TRUE XOR TRUE"},
		false: []string{"TRUE OR TRUE AND FALSE", "TRUE OR TRUE XOR TRUE"}},
	{id: "like", level: Must, sentence: "in LIKE % stands for any characters, _ for one, and any other character for " +
		"itself, case-sensitively",
		true: []string{"'abc' LIKE 'abc'", "'azzzbzzzc' LIKE 'a%b%c'", "'abc' LIKE 'a%'", "'abc' LIKE '%'", "'' LIKE '%'",
			"'abc' LIKE '_b_'", "'a.c' LIKE 'a.c'", "subject LIKE 'Fran%'"},
		false: []string{"'abc' LIKE 'ab'", "'ABC' LIKE 'abc'", "'abc' LIKE 'a.c'", "'abc' LIKE '_'", "'' LIKE '_'",
			"'ab' LIKE 'a_b'", "'xabc' LIKE 'abc%'"}},
	{id: "like-escapes", level: Must, sentence: `in LIKE \% and \_ stand for themselves`,
		true: []string{`'a%c' LIKE 'a\%c'`, `'a_c' LIKE 'a\_c'`, `percent LIKE 'a\%b\_c'`,
			`percent LIKE 'a\%%'`}, false: []string{`'abc' LIKE 'a\%c'`, `'abc' LIKE 'a\_c'`, `'abbc' LIKE 'a\%c'`}},
	{id: "like-not", level: Must, sentence: "NOT LIKE is the negation of LIKE", true: []string{"'abc' NOT LIKE 'b%'"},
		false: []string{"'abc' NOT LIKE 'a%'"}},
	{id: "like-cast", level: Must, sentence: "LIKE casts its left operand to a string",
		true: []string{"234 LIKE '23_'", "TRUE LIKE 'tr%'", "count LIKE '7'"}, false: []string{"2344 LIKE '23_'"}},
	{id: "like-lines", level: Should, sentence: "in LIKE _ stands for one character, of any length in bytes",
		true: []string{"umlaut LIKE '___'", "umlaut LIKE 'ä_ü'"}, false: []string{"umlaut LIKE '______'"}},
	{id: "like-pattern", level: Must, sentence: "the pattern of LIKE is a string literal",
		fails: []string{"subject LIKE 123", "subject LIKE firstname"}},
	{id: "exists", level: Must, sentence: "EXISTS is true for an attribute that the event has, required ones always",
		true: []string{"EXISTS subject", "EXISTS id AND EXISTS source AND EXISTS type AND EXISTS specversion",
			"NOT EXISTS missing"}, false: []string{"EXISTS missing", "NOT EXISTS subject"}},
	{id: "in", level: Must, sentence: "IN is true for an element that the set has, NOT IN for another",
		true: []string{"subject IN ('Francesco', 'Doug')", "2 IN (1, 2, 3)", "TRUE IN (TRUE, FALSE)",
			"subject IN (firstname, lastname)", "'x' NOT IN ('y')"},
		false: []string{"subject IN ('francesco')", "4 IN (1, 2, 3)", "2 NOT IN (1, 2)"}, fails: []string{"subject IN ()"}},
	{id: "in-cast", level: Must, sentence: "IN casts the elements to the type of its left operand",
		true: []string{"'1' IN (1, 2)", "1 IN ('1', '2')", "'true' IN (TRUE, 'false')",
			"TRUE IN ('true')"}, false: []string{"'TRUE' IN (TRUE, 'false')"}},
	{id: "missing", level: Must,
		sentence: "addressing an attribute that the event lacks is an error: the event does not pass, whatever the rest of " +
			"the expression is",
		fails: []string{"missing = 'x'", "missing != 'x'", "NOT (missing = 'x')", "missing = '' OR TRUE", "missing LIKE '%'",
			"missing + 1 = 1", "LENGTH(missing) = 0", "missing NOT IN ('x')", "NOT missing"}},
	{id: "missing-guarded", level: Must, sentence: "EXISTS guards an attribute that may be missing",
		true: []string{"NOT EXISTS missing OR missing = 'x'",
			"EXISTS subject AND subject = 'Francesco'"}, false: []string{"EXISTS missing AND missing = 'x'"}},
	{id: "cast-operand", level: Must,
		sentence: "operands are cast: to integers in arithmetic, to booleans in logic, to the right operand's type by =",
		true: []string{"'5' + '3' = 8", "5 + TRUE = 6", "sequence = 5", "sequence + 1 = 6", "hop < ttl", "'TRUE' = true",
			"TRUE = 'true'", "1 = '1'", "NOT 'false'", "word AND TRUE", "-'10' = -10", "TRUE = 'true' AND FALSE = 'false'"},
		false: []string{"TRUE = 'TRUE'", "NOT 10"}},
	{id: "cast-typed", level: Should, sentence: "an extension that is a boolean or an integer can be used as one",
		true: []string{"flag", "flag = TRUE", "count = 7", "count * 2 = 14"}, false: []string{"NOT flag"}},
	{id: "cast-error", level: Must,
		sentence: "a cast that cannot be made is an error: the event does not pass, whatever the rest of the expression is",
		fails: []string{"subject + 1 = 1", "subject AND TRUE", "NOT (subject = 5)", "INT('abc') = 0", "BOOL('abc') = FALSE",
			"(subject < 5) OR TRUE"}},
	{id: "cast-functions", level: Convention, sentence: "INT, BOOL and STRING cast",
		true: []string{"INT('-1') = -1", "INT(TRUE) = 1", "BOOL('TRUE')", "BOOL(1)", "STRING(TRUE) = 'true'",
			"STRING(-1) = '-1'", "int(hop) < int(ttl) and int(hop) < 1000"}, false: []string{"BOOL(0)", "BOOL('false')"}},
	{id: "length", level: Must, sentence: "LENGTH counts characters", true: []string{"LENGTH('abc') = 3", "LENGTH('') = 0",
		"LENGTH(TRUE) = 4", "LENGTH(umlaut) = 3"}},
	{id: "concat", level: Must, sentence: "CONCAT and CONCAT_WS join strings, of any number",
		true: []string{"CONCAT('a', 'b', 'c') = 'abc'", "CONCAT() = ''", "CONCAT('a', 1, TRUE) = 'a1true'",
			"CONCAT_WS(',', 'a', 'b') = 'a,b'", "CONCAT_WS(',', 'a') = 'a'", "CONCAT_WS(',') = ''", "CONCAT_WS(' ', " +
				"firstname, lastname) = 'Francesco Guardiani'"}},
	{id: "case", level: Must, sentence: "LOWER and UPPER change the case",
		true: []string{"LOWER('AbC') = 'abc'", "UPPER('AbC') = 'ABC'", "UPPER(umlaut) = 'ÄÖÜ'"}},
	{id: "trim", level: Must, sentence: "TRIM removes white space at both ends",
		true: []string{"TRIM('   a b c  ') = 'a b c'", "TRIM('') = ''"}},
	{id: "left-right", level: Must, sentence: "LEFT and RIGHT return that many characters; a negative number is an error",
		true: []string{"LEFT('abc', 2) = 'ab'", "LEFT('abc', 10) = 'abc'", "LEFT('', 0) = ''", "RIGHT('abc', 2) = 'bc'",
			"RIGHT('abc', 10) = 'abc'", "LEFT(umlaut, 1) = 'ä'", "RIGHT(umlaut, 2) = 'öü'"},
		fails: []string{"LEFT('abc', -2) = 'abc'", "RIGHT('abc', -2) = 'abc'"}},
	{id: "substring", level: Must,
		sentence: "SUBSTRING counts characters from 1, or back from the end; a position outside of the string is an error",
		true: []string{"SUBSTRING('abcdef', 2) = 'bcdef'", "SUBSTRING('Sakila', -3) = 'ila'",
			"SUBSTRING('abcdef', 2, 4) = 'bcde'", "SUBSTRING('Sakila', -5, 3) = 'aki'",
			"SUBSTRING('abcdef', 0) = ''", "SUBSTRING('abc', 2, 100) = 'bc'", "SUBSTRING(umlaut, 2) = " +
				"'öü'", "SUBSTRING(umlaut, 2, 1) = 'ö'"},
		fails: []string{"SUBSTRING('abcdef', 10) = ''", "SUBSTRING('abcdef', -10) = ''", "SUBSTRING('abcdef', 1, -1) = ''"}},
	{id: "abs", level: Must, sentence: "ABS is the absolute value", true: []string{"ABS(10) = 10", "ABS(-10) = 10",
		"ABS(0) = 0"}},
	{id: "unknown-function", level: Must,
		sentence: "calling an unknown function is an error: the event does not pass, whatever the rest of the expression is",
		fails: []string{"NOSUCH(1) = 1", "NOT NOSUCH()", "NOSUCH(1) OR TRUE", "LENGTH() = 0", "LENGTH('a', 'b') = 1",
			"CONCAT_WS() = ''"}},
	{id: "parse-error", level: Must, sentence: "an event does not pass an invalid expression",
		fails: []string{"ABC(", "TRUE AND", "= 1", "(TRUE", "TRUE)", "TRUE TRUE", "'abc", "subject == 'Francesco'", "a b",
			"LIKE 'x'", "EXISTS 1", strings.Repeat("(", 50) + "TRUE"}},
	{id: "brackets", level: Must, sentence: "expressions in brackets are evaluated first, at any depth",
		true: []string{"(2 + 3) * 4 = 20", strings.Repeat("(", 20) + "TRUE" + strings.Repeat(")", 20),
			"(firstname = 'Doug' OR subject = 'Francesco') AND lastname = 'Guardiani'"},
		false: []string{"NOT (TRUE OR FALSE)", "TRUE AND (FALSE OR FALSE)"}},
}
