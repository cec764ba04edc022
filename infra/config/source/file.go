package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/internal/strictyaml"
)

// maxDocument is the largest file, and the largest answer of Consul, in bytes.
const maxDocument = 1 << 20

// readFile reads and parses the file.
func (s *Sources) readFile() (values, error) {
	data, err := readBounded(s.file)
	if err != nil {
		return values{}, violation(FileVariable, err)
	}
	s.opened = string(data)
	return parse(s.file, data, s.cfg.Known)
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if len(data) > maxDocument {
		err = fmt.Errorf("%s has more than %d bytes", path, maxDocument)
	}
	return data, err
}

// The types of values in a document. Each notes that it was given, and its text.
type (
	text     struct{ given *string }
	boolean  struct{ text }
	whole    struct{ text }
	number   struct{ text }
	duration struct{ text }
)

func (t *text) UnmarshalText(data []byte) error {
	value := string(data)
	t.given = &value
	return nil
}

func (b *boolean) UnmarshalText(data []byte) error {
	if _, err := strconv.ParseBool(string(data)); err != nil {
		return errors.New("want true or false")
	}
	return b.text.UnmarshalText(data)
}

func (w *whole) UnmarshalText(data []byte) error {
	if _, err := strconv.ParseInt(string(data), 10, 64); err != nil {
		return errors.New("want a whole number")
	}
	return w.text.UnmarshalText(data)
}

func (n *number) UnmarshalText(data []byte) error {
	if _, err := strconv.ParseFloat(string(data), 64); err != nil {
		return errors.New("want a number")
	}
	return n.text.UnmarshalText(data)
}

func (d *duration) UnmarshalText(data []byte) error {
	if _, err := time.ParseDuration(string(data)); err != nil {
		return errors.New("want a duration such as 250ms or 1m30s")
	}
	return d.text.UnmarshalText(data)
}

// typeOf returns the type that the values of a variable have in a document.
func typeOf(v config.Variable) reflect.Type {
	switch name := v.Type; {
	case strings.HasPrefix(name, "[]"):
		return reflect.TypeFor[[]text]()
	case name == "bool":
		return reflect.TypeFor[boolean]()
	case name == "time.Duration":
		return reflect.TypeFor[duration]()
	case strings.HasPrefix(name, "int"), strings.HasPrefix(name, "uint"):
		return reflect.TypeFor[whole]()
	case strings.HasPrefix(name, "float"):
		return reflect.TypeFor[number]()
	}
	return reflect.TypeFor[text]()
}

// section returns the struct that a mapping of variables is decoded into, with more fields.
func section(variables []config.Variable, more ...reflect.StructField) reflect.Type {
	fields := more
	for _, v := range variables {
		fields = append(fields, field(len(fields), v.Name, typeOf(v)))
	}
	return reflect.StructOf(fields)
}

func field(n int, name string, t reflect.Type) reflect.StructField {
	return reflect.StructField{Name: fmt.Sprint("F", n), Type: t, Tag: reflect.StructTag(fmt.Sprintf("json:%q", name))}
}

// parse parses a document. The error names file, line and field of every fault.
func parse(name string, data []byte, known Known) (values, error) {
	var functions []reflect.StructField
	for _, function := range slices.Sorted(maps.Keys(known.Functions)) {
		functions = append(functions, field(len(functions), function, section(known.Of(function))))
	}
	variables := slices.SortedFunc(maps.Values(known.all()), func(a, b config.Variable) int {
		return strings.Compare(a.Name, b.Name)
	})
	into := reflect.New(section(variables, field(0, functionsKey, reflect.StructOf(functions))))
	d := strictyaml.Decode(name, data, into.Interface())
	if err := d.Err(); err != nil {
		return values{}, violations(err)
	}
	origin := func(field string) string { return filepath.Base(name) + ":" + strconv.Itoa(d.Line(field)) }
	found := values{functions: map[string]map[string]Value{}}
	found.common = given(into.Elem(), "", origin)
	perFunction := into.Elem().Field(0)
	for i := range perFunction.NumField() {
		function := perFunction.Type().Field(i).Tag.Get("json")
		found.functions[function] = given(perFunction.Field(i), functionsKey+"."+function+".", origin)
	}
	return found, nil
}

// functionsKey is the field of a document with the settings of single functions.
const functionsKey = "functions"

// violations returns the faults of a document as a *config.Error.
func violations(err error) error {
	e := &config.Error{}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		e.Violations = append(e.Violations, config.Violation{Problem: line})
	}
	return e
}

// given returns the values of a section that the document has.
func given(section reflect.Value, prefix string, origin func(field string) string) map[string]Value {
	all := map[string]Value{}
	for i := range section.NumField() {
		name := section.Type().Field(i).Tag.Get("json")
		if found, ok := textOf(section.Field(i)); ok {
			all[name] = Value{found, origin(prefix + name)}
		}
	}
	return all
}

// textOf returns the text of a value, and whether it was given. The items of a list have commas between them.
func textOf(v reflect.Value) (string, bool) {
	if list, ok := v.Interface().([]text); ok {
		var items []string
		for _, item := range list {
			if item.given != nil {
				items = append(items, *item.given)
			}
		}
		return strings.Join(items, ","), list != nil
	}
	var given *string
	switch v := v.Interface().(type) {
	case text:
		given = v.given
	case boolean:
		given = v.given
	case whole:
		given = v.given
	case number:
		given = v.given
	case duration:
		given = v.given
	}
	if given == nil {
		return "", false
	}
	return *given, true
}

// followFile looks at the file until ctx ends. A change is taken over when two looks in a row see the same, so that a
// file that is being written does not count.
func (s *Sources) followFile(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.Every)
	defer ticker.Stop()
	before, taken, missing := s.opened, s.opened, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		data, err := readBounded(s.file)
		if err != nil {
			missing = true
			s.refuse(fileSource, err)
			continue
		}
		settled := string(data) == before
		before = string(data)
		if !settled || before == taken && !missing {
			continue
		}
		taken, missing = before, false
		found, err := parse(s.file, data, s.cfg.Known)
		switch {
		case err != nil:
			s.refuse(fileSource, err)
		case found.equal(s.now.Load().file):
			s.unchanged(fileSource)
		default:
			s.take(fileSource, func(next *layers) { next.file = found })
		}
	}
}
