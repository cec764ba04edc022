package function

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Access says who may call an operation. The zero Access is Authenticated.
type Access struct {
	public bool
	roles  []string
}

// Public is for anyone; a token that comes along is checked all the same.
var Public = Access{public: true}

// Authenticated is for anyone with a valid token.
var Authenticated = Access{}

// Only is for whoever has one of the roles.
func Only(roles ...string) Access { return Access{roles: roles} }

// Allow answers nil, fault.Unauthenticated or fault.Denied.
func (a Access) Allow(p auth.Principal) error {
	switch {
	case a.public:
		return nil
	case p.Anonymous():
		return fault.New(fault.Unauthenticated, "this needs a bearer token")
	case len(a.roles) > 0 && !slices.ContainsFunc(a.roles, p.Is):
		return fault.New(fault.Denied, "this needs the role %s", strings.Join(a.roles, " or "))
	}
	return nil
}

// Idempotency says what an Idempotency-Key does (draft-ietf-httpapi-idempotency-key-header).
type Idempotency int

// With a key, the answer of the first request is kept for a day and given again; the same key
// with another request is 422. By default an operation that changes something and needs a token takes a key.
const (
	Default Idempotency = iota
	Optional
	Required
	Off
)

// The limits of an operation that does not say otherwise.
const (
	DefaultMaxBody  = 1 << 20
	DefaultDeadline = 30 * time.Second
)

// Operation declares one HTTP operation.
type Operation struct {
	Method      string
	Path        string // with its /api prefix and {names}
	Summary     string
	Description string
	Tag         string // the function's name unless it says otherwise
	Status      int    // of success; 200 unless it says otherwise
	Access      Access
	Idempotency Idempotency
	MaxBody     int64         // bytes; DefaultMaxBody unless it says otherwise
	Deadline    time.Duration // for the handler; DefaultDeadline unless it says otherwise
	Errors      []int         // statuses worth documenting besides the usual ones
	Hidden      bool          // not in OpenAPI
}

func (op Operation) unsafe() bool { return !safe(op.Method) }

func safe(method string) bool { return method == http.MethodGet || method == http.MethodHead }

func (op Operation) withDefaults(function string) Operation {
	if op.Tag == "" {
		op.Tag = function
	}
	if op.Status == 0 {
		op.Status = http.StatusOK
	}
	if op.MaxBody == 0 {
		op.MaxBody = DefaultMaxBody
	}
	if op.Deadline == 0 {
		op.Deadline = DefaultDeadline
	}
	if op.Idempotency == Default {
		op.Idempotency = Off
		if op.unsafe() && !op.Access.public {
			op.Idempotency = Optional
		}
	}
	return op
}

// Option changes how an operation is served.
type Option[In, Out any] func(*served[In, Out])

// Then runs after the unit has committed and its events are published, outside of any transaction, and
// may replace the answer. It also runs when an answer is given again for its Idempotency-Key.
func Then[In, Out any](then func(ctx context.Context, in *In, out *Out) (*Out, error)) Option[In, Out] {
	return func(s *served[In, Out]) { s.then = then }
}

type served[In, Out any] struct {
	f      *Function
	op     Operation
	codec  codec
	handle func(context.Context, *Tx, *In) (*Out, error)
	then   func(context.Context, *In, *Out) (*Out, error)
}

// Serve declares an HTTP operation. In and Out are input and output structs as Huma has
// them: path, query and header tags, a Body; Out may have a Status. Input is validated before the handler runs.
func Serve[In, Out any](f *Function, op Operation, h func(ctx context.Context, tx *Tx, in *In) (*Out, error), options ...Option[In, Out]) {
	op = op.withDefaults(f.name)
	s := &served[In, Out]{f: f, op: op, codec: codecOf(reflect.TypeFor[Out]()), handle: h}
	for _, o := range options {
		o(s)
	}
	f.routes = append(f.routes, routeOf(op))
	huma.Register(f.api, f.describe(op, s.codec), func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
		a, err := s.run(ctx, in)
		if err != nil {
			return nil, problemOf(ctx, err)
		}
		return &huma.StreamResponse{Body: a.write}, nil
	})
}

func (s *served[In, Out]) run(ctx context.Context, in *In) (answer, error) {
	decide := func(ctx context.Context, tx *Tx) (answer, error) {
		out, err := s.handle(ctx, tx, in)
		if err != nil {
			return answer{}, err
		}
		return s.codec.encode(reflect.ValueOf(out), s.op.Status)
	}
	a, err := s.f.request(ctx, s.op, decide)
	if err != nil || s.then == nil {
		return a, err
	}
	var out Out
	if err := s.codec.decode(a, reflect.ValueOf(&out)); err != nil {
		return answer{}, err
	}
	final, err := s.then(ctx, in, &out)
	if err != nil {
		return answer{}, err
	}
	return s.codec.encode(reflect.ValueOf(final), a.Status)
}

// describe is the operation as Huma and OpenAPI know it.
func (f *Function) describe(op Operation, c codec) huma.Operation {
	h := huma.Operation{
		OperationID: operationID(op), Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Description,
		Tags: []string{op.Tag}, MaxBodyBytes: op.MaxBody, Hidden: op.Hidden, DefaultStatus: op.Status,
		Errors: op.Errors, Metadata: map[string]any{"ebb": op},
		RejectUnknownQueryParameters: true,
		// The body has been read by then. Without a limit Huma copies it in one piece. Huma's deadline of 5 s would stay on the connection, and end whatever takes longer.
		BodyReadTimeout: -1,
	}
	if op.unsafe() {
		h.MaxBodyBytes = -1
	}
	if !op.Access.public {
		h.Security = []map[string][]string{{"bearer": {}}}
		h.Errors = append(h.Errors, http.StatusUnauthorized)
		if len(op.Access.roles) > 0 {
			h.Errors = append(h.Errors, http.StatusForbidden)
		}
	}
	if strings.Contains(op.Path, "{") {
		h.Errors = append(h.Errors, http.StatusNotFound)
	}
	slices.Sort(h.Errors)
	h.Errors = slices.Compact(h.Errors)
	if op.Idempotency == Optional || op.Idempotency == Required {
		h.Parameters = append(h.Parameters, &huma.Param{
			Name: "Idempotency-Key", In: "header", Required: op.Idempotency == Required,
			Description: "The first answer for this key is kept for a day and given again; another request with the same key is 422.",
			Schema:      &huma.Schema{Type: huma.TypeString, MinLength: ptr(1), MaxLength: ptr(maxKey)},
		})
	}
	h.Responses = map[string]*huma.Response{strconv.Itoa(op.Status): c.describe(f.api.OpenAPI().Components.Schemas, op)}
	return h
}

func ptr[T any](v T) *T { return &v }

func operationID(op Operation) string {
	path := strings.NewReplacer("/api/", "", "{", "", "}", "", "/", "-", ".", "").Replace(op.Path)
	return strings.ToLower(op.Method) + "-" + strings.Trim(path, "-")
}

// codec turns an Out into an answer and back; what reflection finds is found once.
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

func (c codec) describe(schemas huma.Registry, op Operation) *huma.Response {
	r := &huma.Response{Description: http.StatusText(op.Status)}
	if c.body >= 0 {
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
		r.Headers[name] = &huma.Header{Schema: huma.SchemaFromType(schemas, c.typ.Field(i).Type), Description: c.typ.Field(i).Tag.Get("doc")}
	}
	return r
}

// answer is a whole HTTP answer, as it is sent and as it is kept for an Idempotency-Key.
type answer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header,omitempty"`
	Body   json.RawMessage   `json:"body,omitempty"`
}

func (c codec) encode(v reflect.Value, status int) (answer, error) {
	a := answer{Status: status}
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
		return answer{}, fault.Wrap(err, fault.Internal, "encode the answer")
	}
	a.Body = body
	return a, nil
}

func (c codec) decode(a answer, v reflect.Value) error {
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
		return fault.Wrap(err, fault.Internal, "decode the kept answer")
	}
	return nil
}

func (a answer) write(ctx huma.Context) {
	_, w := humago.Unwrap(ctx)
	h := w.Header()
	for name, value := range a.Header {
		h.Set(name, value)
	}
	if len(a.Body) > 0 && h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // a caller that has gone away is nobody's fault
}
