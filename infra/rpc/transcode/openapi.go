package transcode

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// object is a JSON object.
type object = map[string]any

// OpenAPI returns the requests of plain JSON by which the methods can be called, as the members paths and components of
// an OpenAPI 3.1 document. An operation has its parameters, its body and the answer of its success; the schemas are
// those of Protobuf's own form in JSON, by the full names of the messages. Comments of the .proto file are the
// descriptions, where the schema has them (protoc --include_source_info).
func (u *Upstream) OpenAPI() map[string]any {
	d := describer{paths: object{}, schemas: object{}}
	for i := range u.service.Methods().Len() {
		d.method(u.service.Methods().Get(i))
	}
	return object{"paths": d.paths, "components": object{"schemas": d.schemas}}
}

// describer describes a service.
type describer struct{ paths, schemas object }

// methodsOfOpenAPI are those that a path of a document may have.
var methodsOfOpenAPI = []string{
	http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodHead,
	http.MethodPatch, http.MethodTrace,
}

func (d *describer) method(m protoreflect.MethodDescriptor) {
	rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil || m.IsStreamingClient() || m.IsStreamingServer() {
		return
	}
	for n, r := range append([]*annotations.HttpRule{rule}, rule.AdditionalBindings...) {
		method, path := target(r)
		if !slices.Contains(methodsOfOpenAPI, method) {
			continue
		}
		id := string(m.FullName())
		if n > 0 {
			id = fmt.Sprint(id, "-", n+1)
		}
		operation := d.operation(m, r, path)
		operation["operationId"] = id
		item, _ := d.paths[path].(object)
		if item == nil {
			item = object{}
			d.paths[path] = item
		}
		item[strings.ToLower(method)] = operation
	}
}

// operation describes one request for a method.
func (d *describer) operation(m protoreflect.MethodDescriptor, rule *annotations.HttpRule, path string) object {
	in, out := m.Input(), d.message(m.Output())
	operation := object{
		"summary": string(m.Name()), "tags": []any{string(m.Parent().FullName())},
	}
	describe(operation, m)
	taken := map[string]bool{}
	var parameters []any
	for segment := range strings.SplitSeq(path, "/") {
		if name, is := strings.CutPrefix(segment, "{"); is {
			name = strings.TrimSuffix(name, "}")
			taken[name] = true
			parameters = append(parameters, object{
				"name": name, "in": "path", "required": true, "schema": d.parameter(fieldOf(in, name)),
			})
		}
	}
	if rule.Body == "*" {
		operation["requestBody"] = content(d.rest(in, taken), true)
	} else {
		if rule.Body != "" {
			operation["requestBody"] = content(d.field(in.Fields().ByName(protoreflect.Name(rule.Body))), true)
			taken[rule.Body] = true
		}
		parameters = d.query(parameters, in, "", "", taken, nil)
	}
	if len(parameters) > 0 {
		operation["parameters"] = parameters
	}
	if f := m.Output().Fields().ByName(protoreflect.Name(rule.ResponseBody)); f != nil {
		out = d.field(f)
	}
	success := content(out, false)
	success["description"] = "OK"
	operation["responses"] = object{"200": success}
	return operation
}

// content returns a body of JSON.
func content(schema object, required bool) object {
	body := object{"content": object{"application/json": object{"schema": schema}}}
	if required {
		body["required"] = true
	}
	return body
}

// describe adds what the .proto file says of a descriptor, if the schema has its comments.
func describe(o object, d protoreflect.Descriptor) {
	if text := strings.TrimSpace(d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments); text != "" {
		o["description"] = text
	}
}

// fieldOf returns the field with a name such as book.id; nil if there is none.
func fieldOf(m protoreflect.MessageDescriptor, name string) (f protoreflect.FieldDescriptor) {
	for part := range strings.SplitSeq(name, ".") {
		if m == nil {
			return nil
		}
		if f = m.Fields().ByName(protoreflect.Name(part)); f == nil {
			return nil
		}
		m = f.Message()
	}
	return f
}

// parameter returns the schema of a field in a path or a query.
func (d *describer) parameter(f protoreflect.FieldDescriptor) object {
	if f == nil {
		return object{"type": "string"}
	}
	return d.field(f)
}

// query adds a parameter for each field that is neither in the path nor in the body and that is one value or a list of
// values, at any depth, by its name in JSON.
func (d *describer) query(
	all []any, m protoreflect.MessageDescriptor, prefix, jsonPrefix string, taken map[string]bool,
	above []protoreflect.FullName,
) []any {
	if slices.Contains(above, m.FullName()) {
		return all // a message within itself has no end
	}
	above = append(slices.Clip(above), m.FullName())
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		name, jsonName := prefix+string(f.Name()), jsonPrefix+f.JSONName()
		switch scalar := f.Message() == nil || wellKnown(f.Message()) != nil; {
		case taken[name] || f.IsMap() || f.IsList() && !scalar:
		case scalar && !isOpen(f.Message()):
			p := object{"name": jsonName, "in": "query", "schema": d.field(f)}
			describe(p, f)
			all = append(all, p)
		case !scalar:
			all = d.query(all, f.Message(), name+".", jsonName+".", taken, above)
		}
	}
	return all
}

// rest returns the schema of a message without the fields that are in the path.
func (d *describer) rest(m protoreflect.MessageDescriptor, taken map[string]bool) object {
	if len(taken) == 0 || wellKnown(m) != nil {
		return d.message(m)
	}
	schema := d.properties(m)
	properties := schema["properties"].(object)
	maps.DeleteFunc(properties, func(name string, _ any) bool {
		f := m.Fields().ByJSONName(name)
		return f != nil && taken[string(f.Name())]
	})
	return schema
}

// message returns a reference to the schema of a message, or what a well-known one is in JSON.
func (d *describer) message(m protoreflect.MessageDescriptor) object {
	if known := wellKnown(m); known != nil {
		return known
	}
	name := string(m.FullName())
	if d.schemas[name] == nil {
		d.schemas[name] = object{} // a message may have itself as a field
		d.schemas[name] = d.properties(m)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// properties returns the schema of a message. No field is required: one that is missing has its default value.
func (d *describer) properties(m protoreflect.MessageDescriptor) object {
	properties := object{}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		schema := d.field(f)
		describe(schema, f) // beside a reference too, as OpenAPI 3.1 allows
		properties[f.JSONName()] = schema
	}
	schema := object{"type": "object", "properties": properties}
	describe(schema, m)
	return schema
}

// field returns the schema of a field.
func (d *describer) field(f protoreflect.FieldDescriptor) object {
	switch {
	case f.IsMap():
		return object{"type": "object", "additionalProperties": d.value(f.MapValue())}
	case f.IsList():
		return object{"type": "array", "items": d.value(f)}
	}
	return d.value(f)
}

// value returns the schema of one value of a field.
func (d *describer) value(f protoreflect.FieldDescriptor) object {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return d.message(f.Message())
	case protoreflect.EnumKind:
		if f.Enum().FullName() == "google.protobuf.NullValue" {
			return object{"type": "null"}
		}
		var names []any
		for i := range f.Enum().Values().Len() {
			names = append(names, string(f.Enum().Values().Get(i).Name()))
		}
		return object{"type": "string", "enum": names}
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{"type": "integer", "format": "int64", "minimum": 0}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return object{"type": "string", "format": "int64"}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"type": "string", "format": "uint64"}
	case protoreflect.FloatKind:
		return object{"type": "number", "format": "float"}
	case protoreflect.DoubleKind:
		return object{"type": "number", "format": "double"}
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	}
	return object{"type": "string"}
}

// wellKnown returns what a message of google.protobuf is in JSON; nil for one that is an object of its fields.
func wellKnown(m protoreflect.MessageDescriptor) object {
	if m == nil || m.FullName().Parent() != "google.protobuf" {
		return nil
	}
	switch m.Name() {
	case "Timestamp":
		return object{"type": "string", "format": "date-time"}
	case "Duration":
		return object{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]{1,9})?s$`}
	case "FieldMask":
		return object{"type": "string", "description": "Names of fields, with commas between."}
	case "Struct", "Empty":
		return object{"type": "object"}
	case "Any":
		return object{"type": "object", "properties": object{"@type": object{"type": "string"}}}
	case "ListValue":
		return object{"type": "array", "items": object{}}
	case "Value":
		return object{}
	case "BoolValue":
		return object{"type": []any{"boolean", "null"}}
	case "Int32Value", "UInt32Value":
		return object{"type": []any{"integer", "null"}}
	case "FloatValue", "DoubleValue":
		return object{"type": []any{"number", "null"}}
	case "StringValue", "BytesValue", "Int64Value", "UInt64Value":
		return object{"type": []any{"string", "null"}}
	}
	return nil
}

// isOpen reports whether a message may be any JSON, which no parameter of a query can be.
func isOpen(m protoreflect.MessageDescriptor) bool {
	if m == nil {
		return false
	}
	switch m.FullName() {
	case "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue", "google.protobuf.Any",
		"google.protobuf.Empty":
		return true
	}
	return false
}
