package event

import (
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

func (s *Schema) checkText(text []byte) *Violation {
	if s.MinLength != nil || s.MaxLength != nil {
		n := int64(utf8.RuneCount(text))
		if s.MinLength != nil && n < *s.MinLength {
			return violationf("must have at least %d characters, has %d", *s.MinLength, n)
		}
		if s.MaxLength != nil && n > *s.MaxLength {
			return violationf("must have at most %d characters, has %d", *s.MaxLength, n)
		}
	}
	if s.Enum != nil && !slices.Contains(s.Enum, string(text)) {
		return violationf("must be one of %s", strings.Join(s.Enum, ", "))
	}
	if s.pattern != nil && !s.pattern.Match(text) {
		return violationf("must match %s", s.Pattern)
	}
	if ok := formats[s.Format]; ok != nil && !ok(text) {
		return violationf("must be of format %s", s.Format)
	}
	return nil
}

// checkText returns an error if any text in a Go value is not UTF-8.
func checkText(v reflect.Value) error {
	if bad := textIn(v); bad != nil {
		return bad.in("$")
	}
	return nil
}

func textIn(v reflect.Value) *Violation {
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return violationf("is not valid UTF-8")
		}
	case reflect.Pointer:
		if !v.IsNil() {
			return textIn(v.Elem())
		}
	case reflect.Struct:
		return textInFields(v)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil // raw JSON: checked after marshalling
		}
		for i := range v.Len() {
			if bad := textIn(v.Index(i)); bad != nil {
				return bad.in("[" + strconv.Itoa(i) + "]")
			}
		}
	case reflect.Map:
		return textInMap(v)
	}
	return nil
}

func textInFields(v reflect.Value) *Violation {
	if v.Type() == timeType {
		return nil
	}
	for i := range v.NumField() {
		if bad := textIn(v.Field(i)); bad != nil {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			return bad.in("." + name)
		}
	}
	return nil
}

func textInMap(v reflect.Value) *Violation {
	for it := v.MapRange(); it.Next(); {
		for _, part := range []reflect.Value{it.Key(), it.Value()} {
			if bad := textIn(part); bad != nil {
				return bad.in("." + strconv.Quote(it.Key().String()))
			}
		}
	}
	return nil
}

// formats are the formats that are checked; storeTime checks date-time.
var formats = map[string]func([]byte) bool{
	"date-time": func([]byte) bool { return true },
	"uuid":      isUUID,
	"email":     isEmail,
}

func isUUID(s []byte) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if c > math.MaxInt8 || !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) {
				return false
			}
		}
	}
	return true
}

// isEmail checks little: only sending a mail shows whether an address works.
func isEmail(s []byte) bool {
	at := strings.LastIndexByte(string(s), '@')
	return at > 0 && at < len(s)-1 && !strings.ContainsAny(string(s), " \t\r\n<>")
}
