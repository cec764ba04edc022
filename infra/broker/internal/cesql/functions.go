package cesql

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// function is a built-in function. Its arguments are cast to the types in params, one letter each: s (string),
// i (integer), b (boolean) or a (any). With variadic the last type may occur any number of times.
type function struct {
	params   string
	variadic bool
	run      func(args []any) (any, error)
}

// functions holds the built-ins by name. Those with the same name differ in the number of arguments.
var functions = map[string][]function{
	"INT":       {{"i", false, func(v []any) (any, error) { return v[0], nil }}},
	"BOOL":      {{"b", false, func(v []any) (any, error) { return v[0], nil }}},
	"STRING":    {{"s", false, func(v []any) (any, error) { return v[0], nil }}},
	"IS_INT":    {{"a", false, func(v []any) (any, error) { _, err := toInt(v[0]); return err == nil, nil }}},
	"IS_BOOL":   {{"a", false, func(v []any) (any, error) { _, err := toBool(v[0]); return err == nil, nil }}},
	"ABS":       {{"i", false, abs}},
	"LENGTH":    {{"s", false, func(v []any) (any, error) { return checkRange(int64(len([]rune(v[0].(string))))) }}},
	"CONCAT":    {{"s", true, func(v []any) (any, error) { return join("", v), nil }}},
	"CONCAT_WS": {{"ss", true, func(v []any) (any, error) { return join(v[0].(string), v[1:]), nil }}},
	"LOWER":     {{"s", false, func(v []any) (any, error) { return strings.ToLower(v[0].(string)), nil }}},
	"UPPER":     {{"s", false, func(v []any) (any, error) { return strings.ToUpper(v[0].(string)), nil }}},
	"TRIM":      {{"s", false, func(v []any) (any, error) { return strings.TrimSpace(v[0].(string)), nil }}},
	"LEFT":      {{"si", false, left}},
	"RIGHT":     {{"si", false, right}},
	"SUBSTRING": {{"si", false, substring}, {"sii", false, substring}},
}

// takes reports whether the function can be called with n arguments.
func (f function) takes(n int) bool { return n == len(f.params) || f.variadic && n >= len(f.params)-1 }

// call returns the node of a call of a built-in function.
func call(name string, args []node) (node, error) {
	for _, f := range functions[name] {
		if f.takes(len(args)) {
			return f.call(args), nil
		}
	}
	return nil, fmt.Errorf("unknown function %s with %d arguments", name, len(args))
}

func (f function) call(args []node) node {
	return func(a Attributes) (any, error) {
		values := make([]any, len(args))
		for i, n := range args {
			v, err := n(a)
			if err != nil {
				return nil, err
			}
			switch f.params[min(i, len(f.params)-1)] {
			case 's':
				values[i] = toString(v)
			case 'i':
				values[i], err = toInt(v)
			case 'b':
				values[i], err = toBool(v)
			default:
				values[i] = v
			}
			if err != nil {
				return nil, err
			}
		}
		return f.run(values)
	}
}

func abs(v []any) (any, error) {
	switch n := v[0].(int32); {
	case n == math.MinInt32:
		return nil, errOverflow
	case n < 0:
		return -n, nil
	default:
		return n, nil
	}
}

func join(delimiter string, v []any) string {
	texts := make([]string, len(v))
	for i := range v {
		texts[i] = v[i].(string)
	}
	return strings.Join(texts, delimiter)
}

var errOutside = errors.New("position outside of the string")

func left(v []any) (any, error) {
	r, n := []rune(v[0].(string)), int(v[1].(int32))
	if n < 0 {
		return nil, errOutside
	}
	return string(r[:min(n, len(r))]), nil
}

func right(v []any) (any, error) {
	r, n := []rune(v[0].(string)), int(v[1].(int32))
	if n < 0 {
		return nil, errOutside
	}
	return string(r[max(len(r)-n, 0):]), nil
}

func substring(v []any) (any, error) {
	r, pos := []rune(v[0].(string)), int(v[1].(int32))
	count := len(r)
	if len(v) == 3 {
		count = int(v[2].(int32))
	}
	switch {
	case count < 0 || pos > len(r) || pos < -len(r):
		return nil, errOutside
	case pos == 0:
		return "", nil
	case pos < 0:
		pos += len(r) + 1
	}
	r = r[pos-1:]
	return string(r[:min(count, len(r))]), nil
}
