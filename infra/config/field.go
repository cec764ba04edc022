package config

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"text/template"

	"github.com/kelseyhightower/envconfig"
)

// info is one variable of a struct: its names, its field and the tags of that.
type info struct {
	key, alt string
	field    reflect.Value
	tag      reflect.StructTag
}

// gather returns the variables of the struct that spec points to. envconfig has no function for that, but its usage
// template ranges over them; so the template here prints nothing and calls visit with each variable.
func gather(prefix string, spec any) ([]info, error) {
	var infos []info
	visit := func(v any) string {
		i := reflect.ValueOf(v)
		infos = append(infos, info{
			key:   i.FieldByName("Key").String(),
			alt:   i.FieldByName("Alt").String(),
			field: i.FieldByName("Field").Interface().(reflect.Value),
			tag:   i.FieldByName("Tags").Interface().(reflect.StructTag),
		})
		return ""
	}
	t := template.Must(template.New("").Funcs(template.FuncMap{"visit": visit}).Parse(`{{range .}}{{visit .}}{{end}}`))
	if err := envconfig.Usaget(prefix, spec, io.Discard, t); err != nil {
		return nil, fmt.Errorf("config: gather the variables of %T: %w", spec, err)
	}
	for i := range infos {
		if infos[i].alt == infos[i].key {
			infos[i].alt = ""
		}
	}
	return infos, nil
}

func (i info) required() bool { return i.flag("required") }
func (i info) secret() bool   { return i.flag("secret") }

func (i info) flag(name string) bool {
	yes, _ := strconv.ParseBool(i.tag.Get(name))
	return yes
}

// load looks the variable up and sets the field, or returns a violation.
func (i info) load(lookup Lookup) *Violation {
	name, value, set := i.find(lookup)
	if value == "" && set && i.required() {
		return &Violation{Variable: name, Problem: "is set but empty; " + i.want()}
	}
	if value == "" {
		name, value = i.key, i.tag.Get("default")
	}
	if value == "" && i.required() {
		return &Violation{Variable: i.key, Problem: "is required but not set; " + i.want()}
	}
	if value == "" {
		return nil
	}
	parsed, err := convert(value, i.field.Type())
	if err != nil {
		return &Violation{Variable: name, Problem: i.reject(value, err)}
	}
	i.field.Set(parsed)
	return nil
}

// find looks up the name with the prefix, then the one without, and returns the first that has a value. If none has
// one, set reports whether one of them is set but empty.
func (i info) find(lookup Lookup) (name, value string, set bool) {
	name = i.key
	for _, key := range []string{i.key, i.alt} {
		if key == "" {
			continue
		}
		v, ok := lookup(key)
		if v != "" {
			return key, v, true
		}
		if ok && !set {
			name, set = key, true
		}
	}
	return name, "", set
}

// unset is a name that no environment can have, because the name of a variable ends at its first '='.
const unset = "="

// convert converts a value to a type by envconfig's rules. envconfig reads only the environment of the process and the
// default in a tag, so convert makes a struct type with the value in a tag. The type is never freed; there is one for
// each variable.
func convert(value string, to reflect.Type) (reflect.Value, error) {
	spec := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: "Value",
		Type: to,
		Tag:  reflect.StructTag(fmt.Sprintf("envconfig:%q default:%s", unset, strconv.Quote(value))),
	}}))
	if err := envconfig.Process("", spec.Interface()); err != nil {
		return reflect.Value{}, err
	}
	return spec.Elem().Field(0), nil
}
