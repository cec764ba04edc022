package event

import "reflect"

// SchemaOf derives the schema of any struct, for tests of features that no event uses yet.
func SchemaOf[T any]() *Schema {
	return schemaOf(&Info{Name: "test", Doc: "A test.", GoType: reflect.TypeFor[T]()})
}

// DecodeAs decodes data into a T by the schema of T.
func DecodeAs[T any](raw string) (out T, err error) {
	err = SchemaOf[T]().decode([]byte(raw), reflect.ValueOf(&out).Elem())
	return out, err
}
