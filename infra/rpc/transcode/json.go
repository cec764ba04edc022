package transcode

import (
	"encoding/base64"
	"encoding/json"
	"strconv"

	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// plainJSON writes messages as the operations write and read JSON: with the names of the .proto file and with 64-bit
// integers as numbers, which ProtoJSON writes as strings and reads as both. It reads ProtoJSON.
type plainJSON struct {
	*vanguard.JSONCodec
	inputs inputs
}

// MarshalAppend implements vanguard.Codec.
func (c plainJSON) MarshalAppend(b []byte, m proto.Message) ([]byte, error) {
	return c.message(b, m.ProtoReflect())
}

// MarshalAppendStable implements vanguard.StableCodec.
func (c plainJSON) MarshalAppendStable(b []byte, m proto.Message) ([]byte, error) {
	return c.MarshalAppend(b, m)
}

func (c plainJSON) message(b []byte, m protoreflect.Message) ([]byte, error) {
	if m.Descriptor().FullName().Parent() == "google.protobuf" { // each has a JSON form of its own
		return protojson.MarshalOptions{Resolver: c.MarshalOptions.Resolver}.MarshalAppend(b, m.Interface())
	}
	b = append(b, '{')
	fields, first := m.Descriptor().Fields(), true
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(strconv.AppendQuote(b, string(f.Name())), ':')
		var err error
		if b, err = c.field(b, f, m.Get(f)); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func (c plainJSON) field(b []byte, f protoreflect.FieldDescriptor, v protoreflect.Value) (_ []byte, err error) {
	switch {
	case f.IsList():
		b = append(b, '[')
		for i := range v.List().Len() {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = c.value(b, f, v.List().Get(i)); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case f.IsMap():
		b = append(b, '{')
		first := true
		v.Map().Range(func(key protoreflect.MapKey, item protoreflect.Value) bool {
			if !first {
				b = append(b, ',')
			}
			first = false
			if b, err = appendString(b, key.String()); err == nil {
				b, err = c.value(append(b, ':'), f.MapValue(), item)
			}
			return err == nil
		})
		return append(b, '}'), err
	}
	return c.value(b, f, v)
}

func (c plainJSON) value(b []byte, f protoreflect.FieldDescriptor, v protoreflect.Value) ([]byte, error) {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return c.message(b, v.Message())
	case protoreflect.StringKind:
		return appendString(b, v.String())
	case protoreflect.BytesKind:
		b = base64.StdEncoding.AppendEncode(append(b, '"'), v.Bytes())
		return append(b, '"'), nil
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return strconv.AppendQuote(b, string(e.Name())), nil
		}
		return strconv.AppendInt(b, int64(v.Enum()), 10), nil
	}
	text, err := json.Marshal(v.Interface()) // a bool or a number
	return append(b, text...), err
}

func appendString(b []byte, s string) ([]byte, error) {
	text, err := json.Marshal(s)
	return append(b, text...), err
}
