package function

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/committedheader"
	"github.com/ebb-dev/ebb/infra/problem"
)

// codec turns an Out into a response and back; reflection looks at the type once.
type codec struct {
	status  int // field index; -1: none
	body    int
	headers map[int]string
	typ     reflect.Type
}

func codecOf(t reflect.Type) codec {
	c := codec{status: -1, body: -1, headers: map[int]string{}, typ: t}
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Name == "Status" && f.Type.Kind() == reflect.Int:
			c.status = i
		case f.Name == "Body":
			c.body = i
		case f.Tag.Get("header") != "":
			c.headers[i] = f.Tag.Get("header")
		}
	}
	return c
}

// describe returns the response of the operation with a status.
func (c codec) describe(schemas huma.Registry, op Operation, status int) *huma.Response {
	r := &huma.Response{Description: http.StatusText(status)}
	if c.body >= 0 && status != http.StatusNoContent && status != http.StatusNotModified {
		t := c.typ.Field(c.body).Type
		r.Content = map[string]*huma.MediaType{"application/json": {Schema: huma.SchemaFromType(schemas, t)}}
		if s := schemas.Schema(t, true, operationID(op)+"-response"); s != nil {
			r.Content["application/json"].Schema = s
		}
	}
	for i, name := range c.headers {
		if r.Headers == nil {
			r.Headers = map[string]*huma.Param{}
		}
		field := c.typ.Field(i)
		r.Headers[name] = &huma.Header{
			Schema: huma.SchemaFromType(schemas, field.Type), Description: field.Tag.Get("doc"),
		}
	}
	return r
}

// response is an HTTP response as it is sent and as it is stored for an Idempotency-Key.
type response struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header,omitempty"`
	Body   json.RawMessage   `json:"body,omitempty"`

	Refused bool `json:"refused,omitempty"` // the problem document of a refusal

	replayed bool // it was stored before
}

// refusal returns the response to a request that is refused, in the form in which it is stored.
func refusal(rq *request, err error) response {
	if rq == nil {
		return response{}
	}
	p, fields := problem.Of(err), http.Header{}
	p.Instance = rq.http.URL.Path
	p.SetHeader(fields, rq.http)
	header := map[string]string{"Content-Type": problem.ContentType}
	for name := range fields {
		header[name] = fields.Get(name)
	}
	return response{Status: p.Status, Header: header, Body: p.Body(), Refused: true}
}

func (c codec) encode(v reflect.Value, status int) (response, error) {
	a := response{Status: status}
	if v.IsNil() {
		if status == http.StatusOK {
			a.Status = http.StatusNoContent
		}
		return a, nil
	}
	v = v.Elem()
	if c.status >= 0 && v.Field(c.status).Int() != 0 {
		a.Status = int(v.Field(c.status).Int())
	}
	for i, name := range c.headers {
		text := fmt.Sprint(v.Field(i).Interface())
		if v.Field(i).IsZero() {
			continue
		}
		if a.Header == nil {
			a.Header = make(map[string]string, len(c.headers))
		}
		a.Header[name] = text
	}
	if c.body < 0 || a.Status == http.StatusNoContent || a.Status == http.StatusNotModified {
		return a, nil
	}
	if raw, ok := v.Field(c.body).Interface().([]byte); ok {
		a.Body = raw
		return a, nil
	}
	body, err := json.Marshal(v.Field(c.body).Interface())
	if err != nil {
		return response{}, fault.Wrap(err, fault.Internal, "encode the response")
	}
	a.Body = body
	return a, nil
}

func (c codec) decode(a response, v reflect.Value) error {
	v = v.Elem()
	if c.status >= 0 {
		v.Field(c.status).SetInt(int64(a.Status))
	}
	for i, name := range c.headers {
		if text, ok := a.Header[name]; ok && v.Field(i).Kind() == reflect.String {
			v.Field(i).SetString(text)
		}
	}
	if c.body < 0 || len(a.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(a.Body, v.Field(c.body).Addr().Interface()); err != nil {
		return fault.Wrap(err, fault.Internal, "decode the stored response")
	}
	return nil
}

func (a response) write(ctx huma.Context) {
	_, w := humago.Unwrap(ctx)
	h := w.Header()
	for name, value := range a.Header {
		h.Set(name, value)
	}
	if len(a.Body) > 0 && h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	if a.replayed {
		h.Set(replayedHeader, "true")
	}
	if a.Status >= http.StatusBadRequest { // what the handler wrote was committed all the same
		committedheader.Set(h)
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // a caller that has gone away needs no answer
}

// writeProblem answers with the problem document of err.
func writeProblem(err error) func(huma.Context) {
	return func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		if errors.As(err, new(committedError)) {
			committedheader.Set(w.Header())
		}
		problem.Write(w, r, err)
	}
}
