package function

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/jsonlimit"
)

// bytesPerValue is how many bytes of MaxBody allow one JSON value. A body of defaultMaxBody, or less, holds 5461
// values: as many as take, with all that may be wrong with them, less than 8 MiB to decode and to validate.
const bytesPerValue = 192

// bodyRule is what is asked of an operation's body before it is decoded.
type bodyRule struct {
	max   int64
	json  bool // the operation has a body, which is JSON
	shape *jsonlimit.Shape
}

// bodyRuleOf returns the rule of an operation when its first request comes: Huma calls the mux before the function has
// declared all of its schemas.
func (f *Function) bodyRuleOf(op Operation) func() bodyRule {
	return sync.OnceValue(func() bodyRule {
		rule := bodyRule{max: op.MaxBody}
		api := f.api.OpenAPI()
		item := api.Paths[op.Path]
		if item == nil {
			return rule // hidden
		}
		declared := map[string]*huma.Operation{
			http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
		}[op.Method]
		if declared == nil || declared.RequestBody == nil {
			return rule
		}
		if media := declared.RequestBody.Content["application/json"]; media != nil {
			rule.json, rule.shape = true, shapeOf(api.Components.Schemas, media.Schema, map[*huma.Schema]*jsonlimit.Shape{})
		}
		return rule
	})
}

// shapeOf returns the part of a schema that bounds arrays and the number of faults.
func shapeOf(schemas huma.Registry, s *huma.Schema, known map[*huma.Schema]*jsonlimit.Shape) *jsonlimit.Shape {
	for s != nil && s.Ref != "" {
		s = schemas.SchemaFromRef(s.Ref)
	}
	if s == nil {
		return nil
	}
	if shape, ok := known[s]; ok {
		return shape
	}
	shape := &jsonlimit.Shape{}
	known[s] = shape // a schema may contain itself
	if s.MaxItems != nil {
		shape.MaxItems = *s.MaxItems
	}
	shape.Items = shapeOf(schemas, s.Items, known)
	for name, field := range s.Properties {
		if shape.Fields == nil {
			shape.Fields = make(map[string]*jsonlimit.Shape, len(s.Properties))
		}
		shape.Fields[name] = shapeOf(schemas, field, known)
	}
	for _, name := range s.Required {
		if field := s.Properties[name]; field != nil && !field.ReadOnly {
			if shape.Required == nil {
				shape.Required = make(map[string]bool, len(s.Required))
			}
			shape.Required[name] = true
		}
	}
	switch others := s.AdditionalProperties.(type) {
	case *huma.Schema:
		shape.Others = shapeOf(schemas, others, known)
	case bool:
		shape.Closed = !others
	}
	return shape
}

// check returns a fault.Invalid if the body is not what the rule asks for.
func (rule bodyRule) check(body []byte) error {
	values := int(max(defaultMaxBody, rule.max) / bytesPerValue)
	return jsonlimit.Check(body, values, rule.shape)
}

// readAll reads r to its end and refuses more than most bytes. Length is what is expected, and not believed: memory
// grows with what has come.
func readAll(r io.Reader, length, most int64) ([]byte, error) {
	const first = 64 << 10
	size := min(max(length, 512), first) + 1 // one more, in which the end is seen
	body := make([]byte, 0, size)
	for {
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > most:
			return nil, &http.MaxBytesError{Limit: most}
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, err
		case len(body) == cap(body):
			larger := 4 * int64(cap(body))
			if length > 0 && larger > length {
				larger = max(length+1, 2*int64(cap(body)))
			}
			body = append(make([]byte, 0, min(larger, most+1)), body...)
		}
	}
}

// detailOf returns what the caller is told of one of Huma's errors. Errors of decoders name Go types: they have no
// location, or have the whole body as their value.
func detailOf(d *huma.ErrorDetail) fault.Detail {
	text, isText := d.Value.(string)
	switch {
	case d.Location == "":
		return fault.Detail{Message: "the value cannot be read"}
	case isText && d.Location == "body" && json.Valid([]byte(text)):
		return fault.Detail{Location: d.Location, Message: "a value is out of range or of another type"}
	}
	return fault.Detail{Location: d.Location, Message: d.Message}
}
