// Package config loads environment variables into a struct, reports every violation at once, and lists the effective
// values with the secrets masked.
//
// It is built on kelseyhightower/envconfig: the tags, the names and the conversions are envconfig's. It adds a Lookup
// in place of the environment of the process, a report of every violation instead of the first, and a check of empty
// values:
//
//	type Config struct {
//		Port  int           `envconfig:"PORT" default:"8080" desc:"where to listen"`
//		Idle  time.Duration `default:"1m" desc:"stop a function that idles this long"`
//		Store struct {
//			URL url.URL `required:"true" secret:"true"`
//		}
//	}
//
// With the prefix EBB these are EBB_PORT, EBB_IDLE and EBB_STORE_URL. A name in an envconfig tag is also looked up
// without the prefix, for the names that a platform sets, such as PORT and K_SINK; the one with the prefix takes
// precedence.
//
// A variable with the tag reload:"true" may change while the process runs; see Live and package source.
//
// A variable that is set but empty counts as not set, so that an empty value never hides a default. A required variable
// that is set but empty is a violation even if it has a default.
package config

import (
	"os"
	"slices"
	"strings"
)

// Lookup returns the value of a variable and whether it is set.
type Lookup func(key string) (string, bool)

// Environment looks up a variable in the environment of the process.
func Environment(key string) (string, bool) { return os.LookupEnv(key) }

// Map returns a Lookup in m, which must not be changed afterwards.
func Map(m map[string]string) Lookup {
	return func(key string) (string, bool) {
		value, ok := m[key]
		return value, ok
	}
}

// Overlay returns a Lookup that tries each in turn and returns the value of the first that has the variable. A nil one
// has none.
func Overlay(lookups ...Lookup) Lookup {
	return func(key string) (string, bool) {
		for _, lookup := range lookups {
			if lookup == nil {
				continue
			}
			if value, ok := lookup(key); ok {
				return value, true
			}
		}
		return "", false
	}
}

// Defaults returns a T with the defaults of its variables and everything else zero. It looks up and validates nothing:
// it is for programs that describe themselves without settings.
func Defaults[T any](prefix string) (T, error) {
	var t T
	infos, err := gather(prefix, &t)
	for _, info := range infos {
		_ = info.load(Map(nil)) // a required variable has no default
	}
	return t, err
}

// Load returns a T, which must be a struct, with the values of the variables that start with the prefix. If *T or T has
// a method Validate() error, Load calls it. The error is an *Error with every violation.
func Load[T any](prefix string, lookup Lookup) (T, error) {
	var t T
	infos, err := gather(prefix, &t)
	if err != nil {
		return t, err
	}
	var violations []Violation
	for _, info := range infos {
		if v := info.load(lookup); v != nil {
			violations = append(violations, *v)
		}
	}
	if v, ok := any(&t).(interface{ Validate() error }); ok {
		violations = append(violations, validation(v.Validate(), violations)...)
	}
	return t, asError(violations)
}

// validation returns the errors of Validate as violations. It leaves out those that mention a variable with a
// violation: it has no value, so an error about its value tells nothing.
func validation(err error, known []Violation) []Violation {
	var violations []Violation
	for _, err := range split(err) {
		text := err.Error()
		if !slices.ContainsFunc(known, func(v Violation) bool { return mentions(text, v.Variable) }) {
			violations = append(violations, Violation{Problem: text})
		}
	}
	return violations
}

// mentions reports whether name occurs in text as a whole variable name.
func mentions(text, name string) bool {
	return slices.Contains(strings.FieldsFunc(text, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}), name)
}

// Variable describes one variable of a struct.
type Variable struct {
	Name     string // with its prefix
	Also     string // a name without prefix that is tried next, if any
	Type     string // of the Go field
	Default  string
	Desc     string
	Required bool
	Secret   bool
	Reload   bool // a changed value counts without a restart; see Live
}

// Variables returns the variables that Load[T] reads, in the order of the struct.
func Variables[T any](prefix string) []Variable {
	var t T
	infos, err := gather(prefix, &t)
	if err != nil {
		return nil
	}
	variables := make([]Variable, 0, len(infos))
	for _, i := range infos {
		variables = append(variables, Variable{
			Name: i.key, Also: i.alt, Type: i.field.Type().String(), Default: i.tag.Get("default"),
			Desc: i.tag.Get("desc"), Required: i.required(), Secret: i.secret(),
			Reload: i.flag("reload"),
		})
	}
	return variables
}

// Names returns the names of Variables, with and without prefix, for Unknown.
func Names[T any](prefix string) []string {
	var names []string
	for _, v := range Variables[T](prefix) {
		names = append(names, v.Name)
		if v.Also != "" {
			names = append(names, v.Also)
		}
	}
	return names
}
