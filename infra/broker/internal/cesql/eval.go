package cesql

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A value of an expression is a string, an int32 or a bool.

func constant(v any) node { return func(Attributes) (any, error) { return v, nil } }

func attribute(name string) node {
	return func(a Attributes) (any, error) {
		v, ok := a(name)
		if !ok {
			return nil, fmt.Errorf("missing attribute %s", name)
		}
		return v, nil
	}
}

func exists(name string) node {
	return func(a Attributes) (any, error) {
		_, ok := a(name)
		return ok, nil
	}
}

func toInt(v any) (int32, error) {
	switch v := v.(type) {
	case int32:
		return v, nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	}
	n, err := strconv.ParseInt(toString(v), 10, 32)
	return int32(n), err
}

func toBool(v any) (bool, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case int32:
		return v != 0, nil
	}
	switch strings.ToLower(toString(v)) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("neither true nor false")
}

func toString(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int32:
		return strconv.Itoa(int(v))
	}
	return fmt.Sprint(v)
}

// castTo casts v to the type of another value.
func castTo(v, other any) (any, error) {
	switch other.(type) {
	case int32:
		return toInt(v)
	case bool:
		return toBool(v)
	}
	return toString(v), nil
}

func evalBool(n node, a Attributes) (bool, error) {
	v, err := n(a)
	if err != nil {
		return false, err
	}
	return toBool(v)
}

func evalInt(n node, a Attributes) (int32, error) {
	v, err := n(a)
	if err != nil {
		return 0, err
	}
	return toInt(v)
}

func negate(n node) node {
	return func(a Attributes) (any, error) {
		v, err := evalBool(n, a)
		return !v, err
	}
}

func minus(n node) node {
	return func(a Attributes) (any, error) {
		v, err := evalInt(n, a)
		if err != nil {
			return nil, err
		}
		return checkRange(-int64(v))
	}
}

var errOverflow = errors.New("integer overflow: the result does not fit in 32 bits")

func checkRange(v int64) (any, error) {
	if v < math.MinInt32 || v > math.MaxInt32 {
		return nil, errOverflow
	}
	return int32(v), nil
}

// combine returns the node of a binary operation.
func combine(op string, left, right node) node {
	switch op {
	case "AND", "OR":
		return shortCircuit(op == "OR", left, right)
	case "XOR":
		return func(a Attributes) (any, error) {
			x, err := evalBool(left, a)
			if err != nil {
				return nil, err
			}
			y, err := evalBool(right, a)
			return x != y, err
		}
	case "=":
		return equal(left, right)
	case "!=", "<>":
		return negate(equal(left, right))
	case "<", "<=", ">", ">=":
		return compare(op, left, right)
	}
	return compute(op, left, right)
}

// shortCircuit returns the node of AND (decisive is false) or OR (decisive is true): when the left operand is decisive,
// the right one is not evaluated.
func shortCircuit(decisive bool, left, right node) node {
	return func(a Attributes) (any, error) {
		v, err := evalBool(left, a)
		if err != nil || v == decisive {
			return v, err
		}
		return evalBool(right, a)
	}
}

func equal(left, right node) node {
	return func(a Attributes) (any, error) {
		x, err := left(a)
		if err != nil {
			return nil, err
		}
		y, err := right(a)
		if err != nil {
			return nil, err
		}
		x, err = castTo(x, y)
		return x == y, err
	}
}

// integers evaluates both operands as integers.
func integers(left, right node, a Attributes) (x, y int32, err error) {
	if x, err = evalInt(left, a); err == nil {
		y, err = evalInt(right, a)
	}
	return x, y, err
}

func compare(op string, left, right node) node {
	return func(a Attributes) (any, error) {
		x, y, err := integers(left, right, a)
		switch op {
		case "<":
			return x < y, err
		case "<=":
			return x <= y, err
		case ">":
			return x > y, err
		}
		return x >= y, err
	}
}

func compute(op string, left, right node) node {
	return func(a Attributes) (any, error) {
		p, q, err := integers(left, right, a)
		if err != nil {
			return nil, err
		}
		x, y := int64(p), int64(q)
		switch op {
		case "+":
			return checkRange(x + y)
		case "-":
			return checkRange(x - y)
		case "*":
			return checkRange(x * y)
		}
		if y == 0 {
			return nil, errors.New("division by zero")
		}
		if op == "/" {
			return checkRange(x / y)
		}
		return checkRange(x % y)
	}
}

func in(left node, set []node) node {
	return func(a Attributes) (any, error) {
		x, err := left(a)
		if err != nil {
			return nil, err
		}
		for _, n := range set {
			y, err := n(a)
			if err == nil {
				y, err = castTo(y, x)
			}
			if err != nil || x == y {
				return err == nil, err
			}
		}
		return false, nil
	}
}

// The wildcards in a pattern. They are negative, so no rune of a string equals them.
const (
	anyRunes = -1 - iota
	oneRune
)

// pattern returns the runes of a LIKE pattern, with its wildcards replaced and its escapes resolved.
func pattern(text string) (out []rune) {
	escaped := false
	for _, r := range text {
		switch {
		case escaped && r != '%' && r != '_':
			out = append(out, '\\')
			if escaped = r == '\\'; !escaped {
				out = append(out, r)
			}
			continue
		case !escaped && r == '\\':
			escaped = true
			continue
		case !escaped && r == '%':
			r = anyRunes
		case !escaped && r == '_':
			r = oneRune
		}
		escaped = false
		out = append(out, r)
	}
	if escaped {
		out = append(out, '\\')
	}
	return out
}

func like(left node, p []rune) node {
	return func(a Attributes) (any, error) {
		v, err := left(a)
		if err != nil {
			return nil, err
		}
		return matches(toString(v), p), nil
	}
}

// matches reports whether the text matches the pattern. It backtracks to the last % only, so the number of steps is at
// most the product of the lengths.
func matches(text string, p []rune) bool {
	i, j := 0, 0
	star, mark := -1, 0
	for i < len(text) {
		r, width := utf8.DecodeRuneInString(text[i:])
		switch {
		case j < len(p) && p[j] == anyRunes:
			star, mark = j, i
			j++
		case j < len(p) && (p[j] == oneRune || p[j] == r):
			i += width
			j++
		case star >= 0:
			_, width = utf8.DecodeRuneInString(text[mark:])
			mark += width
			i, j = mark, star+1
		default:
			return false
		}
	}
	for j < len(p) && p[j] == anyRunes {
		j++
	}
	return j == len(p)
}
